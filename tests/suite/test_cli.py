"""The command line: a folder that cannot be used, and an override that cannot be read, are one line each."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import ROOT
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from delta_lora.places import place
from delta_lora.suite.cli import guard, hydra_main
from delta_lora.suite.run.recipe import run_cell


def write(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "x").write_text("x", encoding="utf-8")


def last_error(capsys: pytest.CaptureFixture[str]) -> str:
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


@pytest.mark.parametrize("setting", ["results_dir", "cache_dir"])
def test_a_file_in_the_place_of_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str], setting: str) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    for name in ("file", "file/below"):
        assert guard(lambda name=name: write(place(setting, tmp_path / name))) == 2
        line = last_error(capsys)
        assert line.startswith(f"error: {setting} is {tmp_path / name}, which cannot be used"), line
        assert "a file is in a folder's place" in line


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EDQUOT])
def test_a_folder_that_takes_no_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    def refuse(path: Any, *_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(os, "mkdir", refuse)
    assert guard(lambda: write(place("results_dir", tmp_path / "results"))) == 2
    line = last_error(capsys)
    assert f"results_dir is {tmp_path / 'results'}" in line and os.strerror(number) in line


def test_other_errors_of_the_file_system_keep_their_traceback() -> None:
    with pytest.raises(FileNotFoundError):
        guard(lambda: Path("/nowhere/at-all").read_text(encoding="utf-8"))


def test_a_run_says_which_folder(
    short: Callable[..., DictConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "results").write_text("", encoding="utf-8")
    assert guard(lambda: run_cell(short())) == 2
    assert f"error: results_dir is {tmp_path / 'results'}, which cannot be used" in last_error(capsys)


@pytest.mark.parametrize(
    "override",
    ["model.path=/a/lr=3", "results_dir=/a/run[1", "method.label=a(b", "method.label={a:b", "method.label='x"],
)
def test_an_override_that_cannot_be_read_is_named_and_quoted(
    override: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", "seed=2", override])
    assert hydra_main(lambda config: None) == 2
    line = last_error(capsys)
    assert line.startswith(f"error: the override {override} cannot be read"), line
    quoted = line.rpartition(": '")[2].removesuffix("'")
    value = OverridesParser.create().parse_overrides([quoted])[0].value()
    assert value == override.partition("=")[2].strip("'")


def test_a_word_without_a_sign_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", "tiny"])
    assert hydra_main(lambda config: None) == 2
    assert last_error(capsys) == "error: the override tiny has no =; give KEY=VALUE"


@pytest.mark.parametrize("script", ["prefetch", "plan", "render"])
def test_a_table_that_is_not_there_is_one_line_for_each_script(script: str) -> None:
    command = [sys.executable, str(ROOT / "scripts" / f"{script}.py"), "tabel1", "scale=tiny"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2
    assert done.stderr.startswith(
        "error: table=tabel1 is not a choice; choose one of controls-glue, controls-low-rate, controls, "
    )
    assert len(done.stderr.splitlines()) == 1
