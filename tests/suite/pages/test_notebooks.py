"""The notebooks run from top to bottom on the committed results, and what is committed of them is small and clean."""

import json
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

from delta_lora.suite.pages import loading, notebook, report
from delta_lora.suite.pages.loading import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LARGEST = 200_000  # bytes: a repository's web page shows it, and a diff stays small


def texts(output: dict[str, Any]) -> str:
    """Everything in one output that is text."""
    return "".join(
        "".join(part)
        for mime, part in {**output.get("data", {}), "": output.get("text", "")}.items()
        if mime != "image/png"
    )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_committed_is_small_and_free_of_this_machine(path: Path) -> None:
    assert path.stat().st_size < LARGEST
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        assert cell["cell_type"] == "markdown" or len(cell["source"]) <= 4, "short cells"
        for output in cell.get("outputs", []):
            assert output["output_type"] != "error"
            assert not re.search(r"/(home|root|tmp|Users|work)/", texts(output))


def test_the_report_knows_every_notebook() -> None:
    assert sorted(report.NOTEBOOKS) == [path.stem for path in NOTEBOOKS]


@pytest.mark.parametrize("name", report.NOTEBOOKS)
def test_a_notebook_runs_on_the_committed_results(name: str, tmp_path: Path) -> None:
    (tmp_path / "tiny").symlink_to(ROOT / "results" / "tiny")  # without runs: those are not in the repository
    notebook = report.execute(name, ["scale=tiny", f"results_dir={tmp_path}"])
    shown = "".join(texts(output) for cell in notebook.cells for output in cell.get("outputs", []))
    assert "Not comparable with the paper" in shown
    assert "Traceback" not in shown
    assert len(json.dumps(notebook)) < LARGEST
    if name == "tables":
        assert "Delta-LoRA (Ours)" in shown
        assert "background-color" in shown
    assert all(cell.outputs for cell in notebook.cells if cell.cell_type == "code")


def test_in_place_each_table_is_of_the_largest_scale_unless_one_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "notebooks").mkdir()
    source = "import os; print('scale', os.environ['DELTA_LORA_SCALE'] or 'largest')"
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    nbformat.write(made, tmp_path / "notebooks" / "sweeps.ipynb")
    monkeypatch.setattr(report, "ROOT", tmp_path)
    monkeypatch.setattr(report, "NOTEBOOKS", ("sweeps",))
    for given, said in ([], "scale largest"), (["scale=tiny"], "scale tiny"):
        (path,) = report.run_in_place([*given, "seed=1", f"results_dir={tmp_path}"])
        assert said in path.read_text(encoding="utf-8")


def test_a_table_that_the_scale_leaves_out_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DELTA_LORA_SCALE", "laptop")
    loading.table_at.cache_clear()
    assert "XSum needs a pretrained encoder–decoder" in notebook.show_table("table3").text
