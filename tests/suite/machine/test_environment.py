"""What a record says of the code's commit and of the machine."""

import os
from pathlib import Path

import pytest

from delta_lora.suite.machine.environment import environment, git_commit


def test_what_a_chattering_git_says_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "git"
    fake.write_text("#!/bin/sh\necho 'warning: the cache is cold'\necho 0123456789012345678901234567890123456789\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert git_commit() is None
    fake.write_text('#!/bin/sh\n[ "$1" = status ] || echo 0123456789012345678901234567890123456789\n')
    assert git_commit() == "0123456789012345678901234567890123456789"


def test_the_processor_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its kernels decide how sums in bf16 round."""
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"cpu_name": "Abacus 9", "avx512_bf16": True})
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX512")
    assert environment()["processor"] == "Abacus 9, AVX512, AVX512_BF16"
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {})
    monkeypatch.setattr("platform.processor", lambda: "")
    monkeypatch.setattr("platform.machine", lambda: "ppc64le")
    assert environment()["processor"] == "ppc64le, AVX512"
