"""What the notebooks show, from runs and without them, and the page that needs no network."""

import csv
import json
import re
from io import StringIO
from pathlib import Path

import nbformat
import pytest
from helpers.table_records import grid_of, write_run, write_runs

from delta_lora.errors import UserError
from delta_lora.suite.config.grid import Grid, GridCell
from delta_lora.suite.pages import loading, notebook, report
from delta_lora.suite.pages.examples import render_examples
from delta_lora.suite.pages.html import BETTER, WORSE, report_html, table_html
from delta_lora.suite.pages.latex import latex
from delta_lora.suite.pages.markdown import markdown
from delta_lora.suite.pages.render import find_table, write_table
from delta_lora.suite.pages.view import table_view
from delta_lora.suite.tables.csv_file import to_csv

E2E = ["BLEU", "NIST", "METEOR", "ROUGE-L", "CIDEr"]
WEBNLG = [f"{metric}-{part}" for metric in ("BLEU", "METEOR", "TER") for part in "SUA"]

pytestmark = [pytest.mark.usefixtures("cells_once"), pytest.mark.xdist_group("tables")]  # composed once


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results in the test's folder, and nothing remembered from another test."""
    monkeypatch.delenv("DELTA_LORA_DATA", raising=False)
    monkeypatch.delenv("DELTA_LORA_SCALE", raising=False)
    monkeypatch.delenv("DELTA_LORA_SEEDS", raising=False)
    monkeypatch.setenv("DELTA_LORA_RESULTS", str(tmp_path))
    for kept in (loading.table_at, loading.grid, loading.similarity, loading.examples):
        kept.cache_clear()


def write_table_runs(results: Path, table: str, metrics: dict[str, float]) -> None:
    """Finished runs of two of a table's methods."""
    for cell in grid_of(results, f"table={table}", "scale=tiny", "method=lora,delta-lora").cells:
        lines = [
            {
                "id": i,
                "input": f"name : {i}",
                "prediction": f"<b>{cell.config.method.name}</b> {i}",
                "references": ["ref"],
            }
            for i in range(9)
        ]
        write_run(results, cell, metrics, lines)


def coloured(html: str) -> list[tuple[str, str]]:
    """The colour and the text of Delta-LoRA's coloured cells."""
    row = next(line for line in html.split("<tr>") if "Delta-LoRA" in line)
    return re.findall(r'<td style="background-color:([^;]*);[^"]*">([^<]*)</td>', row)


def write_webnlg(results: Path, scale: str, seeds: str = "1", noise: float = 0.0) -> Grid:
    """LoRA, and Delta-LoRA beside it: better in TER-S and BLEU-S, worse in METEOR-S, the same elsewhere.

    ``noise``: what Delta-LoRA's BLEU-S has more with each further seed.
    """
    grid = grid_of(results, "table=table2", f"scale={scale}", "method=lora,delta-lora", f"seed={seeds}")
    lora = {**dict.fromkeys(WEBNLG, 60.0), "METEOR-S": 0.4, "TER-S": 0.3}
    delta = {**lora, "BLEU-S": 63.5, "METEOR-S": 0.3, "TER-S": 0.1}

    def scores(cell: GridCell) -> dict[str, float]:
        if cell.config.method.name == "lora":
            return lora
        return {**delta, "BLEU-S": delta["BLEU-S"] + noise * (cell.config.seed - 1)}

    write_runs(results, grid, scores)
    return grid


def test_where_ours_are_other_models_the_gain_over_lora_is_coloured_and_nothing_less_the_papers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DELTA_LORA_SEEDS", "1,2,3")
    write_webnlg(tmp_path, "tiny", seeds="1,2,3")
    shown = notebook.show_table("table2")
    assert coloured(shown.html) == [(BETTER, "+3.50 ▲"), (WORSE, "-0.100 ▼"), (BETTER, "+0.200 ▲")]  # TER: lower
    assert "+0.79" in shown.html, "the paper's gain: 62.87 - 62.08 of BLEU-S"
    assert "difference" not in shown.html and "+0.63" not in shown.html  # 63.50 - 62.87
    assert (
        "Gain: over LoRA (repr.), on the seeds that both rows have, positive where better; coloured where" in shown.html
    )
    assert "TER-S ↓" in shown.html and "BLEU-S ↑" in shown.html
    assert "not run" in shown.html


@pytest.mark.parametrize(("seeds", "noise"), [("1", 0.0), ("1,2", 0.0), ("1,2,3", -3.0)])
def test_a_gain_that_the_seeds_leave_open_has_no_colour(tmp_path: Path, seeds: str, noise: float) -> None:
    html = table_html(table_view(find_table(write_webnlg(tmp_path, "tiny", seeds, noise))))
    shown = coloured(html)
    assert ("BLEU-S" in html and "+0.50" in html) if noise else "+3.50" in html
    assert not any(text.startswith(("+0.50", "+3.50")) for _, text in shown), "63.5, 60.5 and 57.5 against 60"
    assert len(shown) == (2 if seeds == "1,2,3" else 0), "METEOR-S and TER-S are the same with every seed"
    assert "leaves out 0" in html


def test_at_paper_scale_the_difference_from_the_papers_is_coloured_and_the_gains_beside_it(tmp_path: Path) -> None:
    table = find_table(write_webnlg(tmp_path, "paper"))
    html = table_html(table_view(table))
    found = dict(zip(WEBNLG, coloured(html), strict=True))
    assert found["BLEU-S"] == (BETTER, "+0.63 ▲")
    assert found["TER-S"] == (BETTER, "-0.240 ▲"), "the paper's is 0.34"
    assert found["METEOR-S"] == (WORSE, "-0.150 ▼")
    assert "<td>+3.50</td>" in html and "<td>+0.79</td>" in html


def test_gains_stand_on_the_page_and_in_the_csv(tmp_path: Path) -> None:
    table = find_table(write_webnlg(tmp_path, "tiny"))
    view = table_view(table)
    line = next(line for line in markdown(view).splitlines() if line.startswith("| Delta-LoRA"))
    assert "63.50**<br><sub>62.87</sub><br><sub>+3.50 / +0.79</sub>" in line
    assert "Last line of a cell: the gain over LoRA (repr.), ours / the paper's; positive is better." in markdown(view)
    assert r"{\scriptsize +3.50 / +0.79}" in latex(view)
    row = next(row for row in csv.DictReader(StringIO(to_csv(table))) if row["row"] == "delta-lora")
    assert (row["BLEU-S gain"], row["BLEU-S gain (paper)"]) == ("3.5", "0.79")


def test_a_gain_can_be_over_a_row_of_another_table_also_from_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DELTA_LORA_SEEDS", "1,2,3")
    for name in ("table5", "table7"):
        grid = grid_of(tmp_path, f"table={name}", "scale=tiny", "seed=1,2,3")
        write_runs(
            tmp_path, grid, lambda cell: dict.fromkeys(E2E, 50.0 + (cell.config.method.get("update_ratio") or 0))
        )
        found = find_table(grid)
        write_table(found, table_view(found), tmp_path / "tiny")
    from_runs = notebook.show_table("table7").html
    assert "+5.00 ▲" in from_runs and "+0.53" in from_runs, "λ = 5, and the paper's 70.13 - 69.60 of LoRA in Table 5"
    (tmp_path / "runs").rename(tmp_path / "elsewhere")
    loading.table_at.cache_clear()
    assert notebook.show_table("table7").html == from_runs


def test_a_table_is_shown_with_the_seeds_of_its_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not with others: a run of the table may stand in another one with more seeds."""
    for cell in (grid := grid_of(tmp_path, "table=table1", "scale=tiny", "method=lora", "seed=1,2,3")).cells:
        write_run(tmp_path, cell, dict.fromkeys(E2E, 60.0 + cell.config.seed))
    assert "61.00" in notebook.show_table("table1").html, "one seed where nothing else is said"
    found = find_table(grid)
    write_table(found, table_view(found), tmp_path / "tiny")
    for kept in (loading.table_at, loading.grid):
        kept.cache_clear()
    assert "62.00 ± 1.00" in notebook.show_table("table1").html
    for cell in grid_of(tmp_path, "table=table1", "scale=tiny", "method=lora", "seed=4").cells:
        write_run(tmp_path, cell, dict.fromkeys(E2E, 90.0))
    monkeypatch.setenv("DELTA_LORA_SEEDS", "1,2,3,4")
    for kept in (loading.table_at, loading.grid):
        kept.cache_clear()
    assert "62.00 ± 1.00" in notebook.show_table("table1").html


def test_a_file_of_other_cells_is_shown_as_what_it_is_and_a_mistake_is_none(tmp_path: Path) -> None:
    """The overrides that a page was rendered with stand on it, and no CSV takes the place of what cannot be read."""
    grid = grid_of(tmp_path, "table=table1", "scale=paper", "task.train.max_steps=10", "method=lora")
    for cell in grid.cells:
        write_run(tmp_path, cell, dict.fromkeys(E2E, 61.25))
    write_table(found := find_table(grid), table_view(found), tmp_path / "paper")
    (tmp_path / "runs").rename(tmp_path / "elsewhere")
    shown = notebook.show_table("table1").text
    assert "61.25" in shown and "these are other cells than its own, by task.train.max_steps=10." in shown
    (tmp_path / "elsewhere").rename(tmp_path / "runs")
    for kept in (loading.table_at, loading.grid):
        kept.cache_clear()
    with pytest.raises(UserError, match="two finished runs fit"):
        loading.load("table1.csv", "paper", "table1", raises, lambda text: text)


def raises() -> str:
    raise UserError("two finished runs fit")


def test_each_table_is_shown_at_the_largest_scale_that_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the rows that it takes from another table at its own scale, and each says which."""
    for scale, name, level in (("tiny", "table5", 50), ("laptop", "table5", 70), ("tiny", "table7", 50)):
        grid = grid_of(tmp_path, f"table={name}", f"scale={scale}")
        for cell in grid.cells:
            write_run(tmp_path, cell, dict.fromkeys(E2E, level + (cell.config.method.get("update_ratio") or 0)))
        found = find_table(grid)
        write_table(found, table_view(found), tmp_path / scale)
    (tmp_path / "runs").rename(tmp_path / "elsewhere")
    assert "(scale laptop): " in notebook.show_table("table5").text
    seventh = notebook.show_table("table7")
    assert "(scale tiny): " in seventh.text and "(scale tiny): " in seventh.html
    assert "+5.00" in seventh.html and "-15.00" not in seventh.html, "λ = 5 over LoRA of the tiny Table 5"
    assert "results of: laptop: table5; tiny: table7. Not comparable" in notebook.face().text
    monkeypatch.setenv("DELTA_LORA_SCALE", "tiny")
    loading.table_at.cache_clear()
    assert "(scale tiny): " in notebook.show_table("table5").text
    assert notebook.face().text.startswith("Scale tiny. Not comparable")


def test_examples_are_of_the_largest_scale_that_has_the_task(tmp_path: Path) -> None:
    item = {"id": 0, "input": "a", "references": ["b"], "outputs": {"LoRA": "c"}}
    for scale, tasks in (("laptop", ["e2e"]), ("tiny", ["e2e", "xsum"])):
        (tmp_path / scale).mkdir()
        (tmp_path / scale / "examples.json").write_text(json.dumps([{"task": task, "items": [item]} for task in tasks]))
    assert "Scale laptop." in notebook.show_examples("e2e").html
    assert "Scale tiny." in notebook.show_examples("xsum").html


def test_runs_that_were_kept_beside_the_tables_are_shown(tmp_path: Path) -> None:
    write_table_runs(tmp_path, "table1", dict.fromkeys(E2E, 61.25))
    (tmp_path / "tiny").mkdir()
    (tmp_path / "runs").rename(tmp_path / "tiny" / "runs")
    assert "61.25" in notebook.show_table("table1").html


def test_the_rendered_file_stands_in_where_the_runs_are_missing(tmp_path: Path) -> None:
    write_table_runs(tmp_path, "table1", dict.fromkeys(E2E, 61.25))
    found = find_table(grid_of(tmp_path, "table=table1", "scale=tiny"))
    write_table(found, table_view(found), tmp_path / "tiny")
    from_runs = notebook.show_table("table1").html
    (tmp_path / "runs").rename(tmp_path / "elsewhere")
    loading.table_at.cache_clear()
    assert notebook.show_table("table1").html == from_runs
    assert "61.25" in from_runs


@pytest.mark.parametrize("name", ["table1", "table4", "table7"])
def test_with_neither_runs_nor_files_one_line_names_the_command(name: str) -> None:
    assert f"make {name} SCALE=tiny" in repr(notebook.show_table(name))


def test_every_other_part_names_its_command_too() -> None:
    shown = [
        notebook.show_curves("table7"),
        notebook.show_shape("table8"),
        notebook.show_similarity(),
        notebook.show_spectra(),
        notebook.show_ranks(),
        notebook.show_claims(),
        notebook.show_examples("e2e"),
    ]
    for part in shown:
        assert re.search(r"make (tables|table\d|figure3|claims) SCALE=tiny", repr(part))
        assert "\n" not in repr(part)


def test_examples_are_the_same_items_of_every_method(tmp_path: Path) -> None:
    write_table_runs(tmp_path, "table1", dict.fromkeys(E2E, 50.0))
    found, problems, (path,) = render_examples(["scale=tiny", f"results_dir={tmp_path}"])
    assert problems == [] and path == tmp_path / "tiny" / "examples.json"
    (task,) = json.loads(path.read_text(encoding="utf-8"))
    assert task == found[0]
    assert [item["id"] for item in task["items"]] == [0, 2, 4, 6]
    assert task["items"][1]["outputs"] == {"LoRA (repr.)": "<b>lora</b> 2", "Delta-LoRA (Ours)": "<b>delta-lora</b> 2"}
    html = notebook.show_examples("e2e").html
    assert "&lt;b&gt;delta-lora&lt;/b&gt; 2" in html and "<b>" not in html
    assert "make tables" in repr(notebook.show_examples("xsum"))


def test_examples_need_a_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no finished run of table1, table2, table3 .*table=table1"):
        render_examples(["scale=tiny", f"results_dir={tmp_path}"])


def test_examples_of_more_runs_are_kept_unless_forced(tmp_path: Path) -> None:
    write_table_runs(tmp_path, "table1", dict.fromkeys(E2E, 50.0))
    path, given = tmp_path / "tiny" / "examples.json", ["scale=tiny", f"results_dir={tmp_path}"]
    path.parent.mkdir()
    path.write_text(json.dumps([{"items": [{"outputs": {"a": "", "b": ""}}]}, {"items": [{"outputs": {"c": ""}}]}]))
    with pytest.raises(UserError, match=r"examples.json shows outputs of 3 runs and there are 2 now, so it is kept"):
        render_examples(given)
    render_examples(given, force=True)
    assert "delta-lora" in path.read_text()
    path.write_text("damaged")
    render_examples(given)


def test_a_report_and_notebooks_with_more_numbers_are_kept_unless_forced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "ROOT", tmp_path)
    monkeypatch.setattr(report, "execute", lambda name, overrides, one_scale=True: made_notebook())
    given = ["scale=tiny", "method=lora", f"results_dir={tmp_path}"]
    fuller = made_notebook()
    fuller.cells[1].outputs[0]["data"]["text/html"] = '<td>1</td><td class="x">2</td><td><strong>3</strong></td>'
    fuller, page = nbformat.writes(fuller), tmp_path / "tiny" / "report.html"
    sweeps = tmp_path / "notebooks" / "sweeps.ipynb"
    for path, text in ((page, "<td>1</td>" * 4), (sweeps, fuller)):
        path.parent.mkdir()
        path.write_text(text)
    with pytest.raises(UserError, match=r"report.html shows 4 numbers and would show 3 now, so it is kept"):
        report.render_report(given)
    with pytest.raises(UserError, match=r"sweeps.ipynb shows 3 numbers and would show 1 now, so it is kept"):
        report.run_in_place(given)
    assert sweeps.read_text() == fuller and [path.name for path in sweeps.parent.iterdir()] == ["sweeps.ipynb"]
    assert report.render_report(given, force=True) == [page] and "secret_call" not in page.read_text()
    assert len(report.run_in_place(given, force=True)) == 3 and sweeps.read_text() != fuller


def made_notebook() -> nbformat.NotebookNode:
    """A notebook with the kinds of output that ours have."""
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

    outputs = [
        {"text/html": "<table><tr><td>1</td></tr></table>", "text/plain": "1"},
        {"image/png": "iVBORw0KGgo=", "text/plain": "Figure 3"},
        {"text/markdown": "| a |\n| :-- |\n| b |", "text/plain": "a"},
    ]
    cells = [new_code_cell("secret_call()", outputs=[new_output("execute_result", data=data)]) for data in outputs]
    return new_notebook(cells=[new_markdown_cell("# Title"), *cells])


def test_the_page_fetches_nothing_and_its_tables_scroll_in_their_own_box() -> None:
    html = report_html("tiny", [("tables", report.as_html(made_notebook()))])
    assert not re.search(r'<script|<link|@import|(?:src|href)="(?!#|data:)|url\(', html)
    assert html.count('<div class="wide"><table') == html.count("<table") == 2
    assert 'src="data:image/png;base64,' in html
    assert "secret_call" not in html
    assert 'name="viewport"' in html


def test_a_failing_notebook_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "notebooks").mkdir()
    broken = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 / 0")])
    nbformat.write(broken, tmp_path / "notebooks" / "tables.ipynb")
    monkeypatch.setattr(report, "ROOT", tmp_path)
    with pytest.raises(UserError, match=r"notebooks/tables\.ipynb fails: ZeroDivisionError"):
        report.execute("tables", ["scale=tiny"])
