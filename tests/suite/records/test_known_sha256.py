"""A file's SHA-256 is computed once while it stays as it is, and again when it has changed."""

import os
from hashlib import sha256
from pathlib import Path

import pytest

from delta_lora import files
from delta_lora.files import known_sha256


def test_a_file_is_read_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    original = files.sha256_of
    monkeypatch.setattr(files, "sha256_of", lambda path: read.append(path) or original(path))
    path, link = tmp_path / "data", tmp_path / "link"
    path.write_bytes(b"one")
    link.symlink_to(path)
    assert known_sha256(path) == known_sha256(link) == known_sha256(path) == sha256(b"one").hexdigest()
    assert read == [path.resolve()]
    path.write_bytes(b"three")
    assert known_sha256(path) == sha256(b"three").hexdigest(), "another size"
    path.write_bytes(b"eight")
    os.utime(path, ns=(1, 1))
    assert known_sha256(link) == sha256(b"eight").hexdigest(), "another time"
    assert len(read) == 3
