"""Table 4's scores are of the epoch that was best on them: its page says what that adds, and no verdict rests on it."""

from pathlib import Path

import numpy as np
import pytest
from helpers.table_records import grid_of, write_run

from delta_lora.suite.config.settings import task_class
from delta_lora.suite.pages.epochs import epoch_texts
from delta_lora.suite.pages.render import render_table
from delta_lora.suite.tables.build import build_table
from delta_lora.suite.tables.csv_file import read_table

ASKED = ["table=table4", "scale=tiny", "method=lora,delta-lora"]
ITEMS = 200


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """LoRA's run: twenty epochs of guesses. Delta-LoRA's: one epoch, 53 % right."""
    monkeypatch.delenv("DELTA_LORA_DATA", raising=False)
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=ITEMS)
    for cell in [cell for cell in grid_of(tmp_path, *ASKED).cells if cell.config.task.name == "glue/rte"]:
        right = np.arange(ITEMS) % 100 < 53
        luck = cell.config.method.name == "lora"
        epochs = rng.integers(2, size=(20, ITEMS)) if luck else np.where(right, labels, 1 - labels)[None]
        best = max(epochs, key=lambda epoch: (epoch == labels).mean())
        lines = [
            {"id": i, "prediction": str(best[i]), "references": [str(labels[i])], "split": "validation"}
            | {"by_epoch": [str(epoch[i]) for epoch in epochs]}
            for i in range(ITEMS)
        ]
        kind = task_class(cell.config.task)
        metrics = kind(cell.config.task, None, tmp_path).resampler(lines).score()
        write_run(tmp_path, cell, metrics, lines)
    return tmp_path


def test_the_page_has_best_last_and_cross_fitted_and_verdicts_are_on_the_last_of_these(results: Path) -> None:
    asked = [*ASKED, f"results_dir={results}", f"cache_dir={results / 'cache'}"]
    table, view, _ = render_table(asked)
    lora, delta = (next(row for row in table.rows if row.name == name) for name in ("lora", "delta-lora"))
    assert table.judged("RTE") == "accuracy-cross-fitted"
    metrics = lora.runs["RTE"][1].metrics
    assert metrics["accuracy"] > 53 > metrics["accuracy-cross-fitted"], "the best of twenty guesses is above Delta-LoRA"
    page = (results / "tiny" / "table4.md").read_text(encoding="utf-8")
    cells = " / ".join(f"{metrics[name]:.2f}" for name in ("accuracy", "accuracy-last", "accuracy-cross-fitted"))
    assert f"| {cells} |" in page and "| 53.00 / 53.00 / 53.00 |" in page
    score = lora.scores["RTE"]
    assert score is not None and score.mean == metrics["accuracy"], "the table itself keeps the convention"
    compared = next(c for c in view.claims[0].comparisons.lines if c[0].endswith(", RTE, cross-fitted"))
    assert any(text.startswith(f"+{53 - metrics['accuracy-cross-fitted']:.2f}") for text in compared), compared
    assert delta.runs["RTE"][1].metrics["accuracy-cross-fitted"] == pytest.approx(53)
    rendered = (results / "tiny" / "table4.csv").read_text(encoding="utf-8")
    assert epoch_texts(read_table(rendered, table.grid)) is None, "its runs are not at hand"


def test_rows_of_one_method_are_told_apart_by_their_setting(tmp_path: Path) -> None:
    grid = grid_of(tmp_path, "table=tuning-glue", "scale=laptop", "method=lora", "task=glue/mrpc")
    scores = {"accuracy": 60.0, "accuracy-last": 59.0, "accuracy-cross-fitted": 58.0}
    texts = epoch_texts(build_table(grid, [write_run(tmp_path, cell, scores) for cell in grid.cells]))
    assert texts is not None
    assert [line[0] for line in texts.lines] == [
        f"LoRA (repr.), learning rate = {rate}" for rate in ("3e-4", "1e-3", "3e-3")
    ]
