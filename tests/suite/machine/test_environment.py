"""What a record says of the code's commit."""

import os
from pathlib import Path

import pytest

from delta_lora.suite.machine.environment import git_commit


def test_what_a_chattering_git_says_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "git"
    fake.write_text("#!/bin/sh\necho 'warning: the cache is cold'\necho 0123456789012345678901234567890123456789\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert git_commit() is None
    fake.write_text('#!/bin/sh\n[ "$1" = status ] || echo 0123456789012345678901234567890123456789\n')
    assert git_commit() == "0123456789012345678901234567890123456789"
