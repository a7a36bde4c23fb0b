"""Run records: found again when finished, left out when unfinished, damaged or of another version."""

import json
from pathlib import Path
from typing import Any

import pytest

from delta_lora.files import write_whole
from delta_lora.suite.records.records import read_run, read_runs, run_folder, write_jsonl, write_record

RECORD: dict[str, Any] = {
    "config": {"seed": 1},
    "metrics": {"BLEU": 50.0},
    "counts": {"trainable": 1, "extra_updatable": 0, "head": 0},
    "train": {"steps": 1},
    "environment": {"python": "3.11"},
}


def finished(results: Path, key: str = "abc") -> Path:
    folder = run_folder(results, key)
    write_jsonl(folder / "predictions.jsonl", [{"id": 0, "prediction": "a £ pub"}])
    write_record(folder, {"key": key, **RECORD})
    return folder


def test_a_finished_run_is_read_back_with_its_predictions(tmp_path: Path) -> None:
    run = read_run(finished(tmp_path))
    assert run is not None
    assert run.metrics == {"BLEU": 50.0}
    assert run.predictions() == [{"id": 0, "prediction": "a £ pub"}]
    assert [found.key for found in read_runs(tmp_path)] == ["abc"]


def test_a_folder_without_its_record_is_unfinished(tmp_path: Path) -> None:
    write_jsonl(run_folder(tmp_path, "abc") / "predictions.jsonl", [])
    assert read_run(run_folder(tmp_path, "abc")) is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "run.json").write_text('{"schema": 1'),
        lambda folder: (folder / "run.json").write_text("[1]"),
        lambda folder: (folder / "predictions.jsonl").write_text('{"id": 0, "prediction": "another"}\n'),
        lambda folder: (folder / "predictions.jsonl").unlink(),
        lambda folder: rewrite(folder, schema=0),
        lambda folder: rewrite(folder, key="other"),
        lambda folder: rewrite(folder, metrics=[]),
    ],
)
def test_a_damaged_or_foreign_record_is_reported_and_left_out(
    tmp_path: Path, damage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    folder = finished(tmp_path)
    damage(folder)
    assert read_run(folder) is None
    assert "left out" in caplog.text


def rewrite(folder: Path, **changes: Any) -> None:
    raw = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**raw, **changes}))


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    write_whole(path, "old")
    monkeypatch.setattr("os.fsync", lambda handle: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
