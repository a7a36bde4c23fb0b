"""make verify: every number beside kept records is one that their predictions give, and what is not is named."""

import gzip
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
from helpers import script
from helpers.table_records import ENVIRONMENT, grid_of, write_run

from delta_lora.errors import UserError
from delta_lora.suite.config.grid import Grid, compose_grid
from delta_lora.suite.config.key import RECIPE, run_key
from delta_lora.suite.config.settings import make_task
from delta_lora.suite.pages import claims_page
from delta_lora.suite.pages.claims_page import render_claims
from delta_lora.suite.pages.differences import same
from delta_lora.suite.pages.examples import render_examples
from delta_lora.suite.pages.figure_page import rank_texts, render_figure3
from delta_lora.suite.pages.html import examples_html, table_html, texts_html
from delta_lora.suite.pages.render import render_table
from delta_lora.suite.pages.verify import verify
from delta_lora.suite.pages.view import TableView, table_view
from delta_lora.suite.records.keep import keep_run
from delta_lora.suite.records.records import kept_runs, write_record
from delta_lora.suite.tables.build import build_table
from delta_lora.suite.tables.compare import resampler_of
from delta_lora.suite.tables.figure3 import read_csv as read_csv_file

pytestmark = [pytest.mark.usefixtures("cells_once"), pytest.mark.xdist_group("tables")]  # composed once

TABLE = ["table=table3", "scale=tiny", "method=lora,delta-lora,adalora", "seed=1"]
LORA = "xsum / bart-tiny / lora, seed 1"
REFERENCE = "The Vaults is a cheap pub near Café Adriatic with a low rating & £20 meals"


def line(item: int, words: int) -> dict[str, Any]:
    return {"id": item, "input": "a", "prediction": " ".join(REFERENCE.split()[:words]), "references": [REFERENCE]}


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder as it is committed: records of three methods, and their rendered table."""
    results = tmp_path_factory.mktemp("committed")
    for number, cell in enumerate(grid_of(results, *TABLE).cells):
        lines = [line(i, 4 + number + i % 3) for i in range(20)]
        made = write_run(results, cell, {}, lines)
        metrics = {name: float(score) for name, score in resampler_of(made).score().items()}
        keep_run(write_run(results, cell, metrics, lines), results)
    shutil.rmtree(results / "runs")
    render_table([*TABLE, f"results_dir={results}", f"cache_dir={results / 'cache'}"])
    return results


@pytest.fixture
def results(committed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DELTA_LORA_CACHE", str(committed / "cache"))
    shutil.copytree(committed / "tiny", tmp_path / "tiny")
    return tmp_path


def wrong(results: Path, sample: int | None = None) -> list[str]:
    return verify(["scale=tiny", f"results_dir={results}"], sample).wrong


def folder_of_lora(results: Path) -> Path:
    return next(run.path for run in kept_runs(results, "tiny") if run.name == LORA)


def sealed_anew(folder: Path, **changes: Any) -> None:
    """Write a record's seal as whoever changes a number could."""
    record = json.loads((folder / "run.json").read_text()) | changes
    write_record(folder, {name: value for name, value in record.items() if name not in ("schema", "files", "sha256")})


def test_what_is_committed_is_right(results: Path) -> None:
    found = verify(["scale=tiny", f"results_dir={results}"])
    assert (found.records, found.scored, found.pages, found.wrong) == (3, 3, ["table3"], [])
    found = verify(["scale=tiny", f"results_dir={results}"], sample=2)
    assert (found.records, found.scored, found.pages, found.wrong) == (3, 2, ["table3"], [])


def test_a_page_is_right_whatever_the_order_of_its_overrides_and_without_a_seed(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command for what has not been run stands on it."""
    shutil.rmtree(folder_of_lora(results))
    monkeypatch.setenv("DELTA_LORA_RESULTS", str(results))
    render_table(["scale=tiny", "method=lora,delta-lora,adalora", "table=table3"], force=True)
    page = (results / "tiny" / "table3.md").read_text()
    assert "train.py -m table=table3 scale=tiny seed=1 method=lora,delta-lora,adalora" in page
    assert wrong(results) == []


@pytest.mark.parametrize("sealed", [False, True])
def test_a_changed_prediction_is_found(results: Path, sealed: bool) -> None:
    folder = folder_of_lora(results)
    lines = [json.loads(text) for text in gzip.decompress((folder / "predictions.jsonl.gz").read_bytes()).splitlines()]
    lines[0]["prediction"] = REFERENCE
    text = "".join(json.dumps(changed) + "\n" for changed in lines)
    (folder / "predictions.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    if sealed:
        sealed_anew(folder)
    found = wrong(results)
    assert found[0].startswith(f"{LORA} ({folder.name})")
    assert ("Rouge-1: " in found[0] and "from its predictions" in found[0]) if sealed else "changed since" in found[0]
    assert any(text.startswith("table3.csv: lora, Rouge-1: ") for text in found)


def test_a_changed_metric_is_found(results: Path) -> None:
    folder = folder_of_lora(results)
    metrics = json.loads((folder / "run.json").read_text())["metrics"]
    sealed_anew(folder, metrics=metrics | {"Rouge-1": 99.0})
    assert any(text.startswith(f"{LORA} ({folder.name}), Rouge-1: 99.0 in run.json") for text in wrong(results))


@pytest.mark.parametrize(
    ("suffix", "sample", "named"),
    [
        ("csv", 1, "table3.csv: lora, Rouge-1: 99"),
        ("md", None, "table3.md: LoRA (repr.), Rouge-1 ↑: "),
        ("md", 1, "table3.md: there is no line '| LoRA"),
        ("tex", None, "table3.tex, line "),
    ],
)
def test_a_changed_cell_is_found(results: Path, suffix: str, sample: int | None, named: str) -> None:
    page = results / "tiny" / f"table3.{suffix}"
    lines = page.read_text(encoding="utf-8").splitlines(keepends=True)
    place = next(i for i, text in enumerate(lines) if "LoRA (repr.)" in text)
    (score,) = [row["Rouge-1"] for row in read_csv(results) if row["row"] == "lora"]
    shown = score if suffix == "csv" else f"{float(score):.2f}"
    assert shown in lines[place]
    lines[place] = lines[place].replace(shown, "99.9", 1)
    page.write_text("".join(lines), encoding="utf-8")
    (found,) = wrong(results, sample)
    assert found.startswith(named)


def read_csv(results: Path) -> list[dict[str, str]]:
    import csv

    return list(csv.DictReader((results / "tiny" / "table3.csv").read_text(encoding="utf-8").splitlines()))


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("62.5", "62.50000000001", True),
        ("1=62.5 2=61.9", "1=62.5 2=61.900000000001", True),
        ("62.5", "62.51", False),
        ("1=62.5", "1=62.5 2=61.9", False),
        ("1=62.5", "2=62.5", False),
        ("lora", "full", False),
        ("", "0", False),
    ],
)
def test_numbers_differ_from_the_ninth_digit_on(one: str, other: str, equal: bool) -> None:
    assert same(one, other) == equal


def test_a_row_without_its_record_is_found(results: Path) -> None:
    shutil.rmtree(folder_of_lora(results))
    assert any(text.startswith("table3.csv: lora, Rouge-1 seeds: 1, not 0") for text in wrong(results, 1))


def test_a_report_and_a_page_of_claims_that_are_older_than_the_tables_are_found(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = results / "tiny"

    def one_grid(overrides: list[str]) -> list[Grid]:  # all tables take a minute
        return [compose_grid([*TABLE[:1], *overrides])]

    monkeypatch.setattr(claims_page, "paper_grids", one_grid)
    render_claims(["scale=tiny", "seed=1", f"results_dir={results}"])
    report, html = folder / "report.html", table_html(view(results))
    report.write_text(html, encoding="utf-8")
    assert wrong(results) == []
    score = next(entry.text for line in view(results).lines for entry in line if entry.value is not None)
    report.write_text(html.replace(f">{score}<", ">99.99<", 1), encoding="utf-8")
    (claims := folder / "claims.md").write_text(claims.read_text().replace("| 1 | – |", "| 2 | – |", 1))
    first, last = wrong(results)
    assert first.startswith("report.html: there is no line 'LoRA (repr.) | ") and f"| {score} |" in first
    assert first.endswith(" of table3, which the records give; make report SCALE=tiny")
    line = re.findall(r"<tr>.*?</tr>", html, re.DOTALL)[-1]  # a line that another table has, too
    report.write_text(html.replace(line, "") + f"<table>{line}</table>", encoding="utf-8")
    assert wrong(results)[0] == (
        "report.html: there is no whole table of table3, which the records give; make report SCALE=tiny"
    )
    assert last.startswith("claims.md: ") and last.endswith("Seeds: 2, not 1")
    claims.unlink()
    report.write_text(html, encoding="utf-8")
    assert wrong(results) == wrong(results, 1) == ["claims.md is missing; make claims SCALE=tiny"]


@pytest.mark.parametrize("suffix", ["md", "csv", "tex"])
@pytest.mark.parametrize("sample", [None, 1])
def test_a_file_of_a_table_that_was_removed_is_found(results: Path, suffix: str, sample: int | None) -> None:
    (results / "tiny" / f"table3.{suffix}").unlink()
    assert wrong(results, sample) == [f"table3.{suffix} is missing; make table3 SCALE=tiny"]


def test_notebooks_that_are_older_than_the_tables_are_found(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = results / "repository"
    shutil.copytree(results / "tiny", root / "results" / "tiny")
    monkeypatch.setattr("delta_lora.suite.pages.verify.ROOT", root)
    monkeypatch.setenv("DELTA_LORA_RESULTS", str(root / "results"))
    html = table_html(view(results))
    output = nbformat.v4.new_output("display_data", {"text/html": html})
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("", outputs=[output])])
    (root / "notebooks").mkdir()
    nbformat.write(made, root / "notebooks" / "tables.ipynb")
    found = verify(["scale=tiny", f"results_dir={root / 'results'}"], 1)
    assert (found.pages, found.wrong) == (["table3", "notebooks"], [])
    output["data"]["text/html"] = html.replace("LoRA (repr.)", "LoRA")
    nbformat.write(made, root / "notebooks" / "tables.ipynb")
    (found_line,) = wrong(root / "results", 1)
    assert found_line.startswith("notebooks: there is no line 'LoRA (repr.) | ")
    assert found_line.endswith("of table3, which the records give; make notebooks")
    (root / "notebooks" / "tables.ipynb").write_text("[]")
    with pytest.raises(UserError, match="is no notebook that can be read"):
        wrong(root / "results", 1)


@pytest.mark.parametrize("recipe", [RECIPE, RECIPE - 1])
def test_a_page_of_runs_on_another_copy_of_the_data_is_of_them_wherever_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: int
) -> None:
    """Its digest is in their keys; whoever renders or verifies need not have it. An older recipe stays out."""
    for task, sentences in (("mrpc", ["sentence1", "sentence2"]), ("sst2", ["sentence"])):
        (copy := tmp_path / "data" / "glue" / task).mkdir(parents=True)
        rows = pd.DataFrame({name: ["a", "b"] for name in sentences} | {"label": [0, 1]})
        for split in ("train", "validation"):
            rows.to_parquet(copy / f"{split}-00000-of-00001.parquet")
    items = [{"id": i, "prediction": "1", "references": [str(i)], "split": "validation"} for i in range(2)]
    asked = ["table=controls-glue", "scale=laptop", "method=controls/lora"]
    here = [*asked, f"data_dir={tmp_path / 'data'}"]
    cells, released = (grid_of(tmp_path, *words).cells for words in (here, asked))
    assert not {cell.key for cell in cells} & {cell.key for cell in released}
    monkeypatch.setattr("delta_lora.suite.config.key.RECIPE", recipe)
    for cell in cells:
        task = make_task(cell.config)
        environment = ENVIRONMENT | {"data_revision": task.revision()}
        cell = replace(cell, key=run_key(cell.config, task))
        keep_run(write_run(tmp_path, cell, {"accuracy": 50.0}, items, environment=environment), tmp_path)
    shutil.rmtree(tmp_path / "runs")
    monkeypatch.setattr("delta_lora.suite.config.key.RECIPE", RECIPE)
    elsewhere = [*asked, f"results_dir={tmp_path}", f"cache_dir={tmp_path / 'cache'}"]
    if recipe != RECIPE:
        with pytest.raises(UserError, match="no finished run of this table"):
            render_table(elsewhere)
        return
    render_table(elsewhere)
    page = (tmp_path / "laptop" / "controls-glue.md").read_text(encoding="utf-8")
    assert "Runs: 2 of 2 · Seed: 1" in page
    assert "Data: files that are not the released ones in 2 of the runs (docs/data.md)" in page
    found = verify(["scale=laptop", f"results_dir={tmp_path}"], 0)
    assert (found.pages, found.wrong) == (["controls-glue"], [])


def view(results: Path) -> TableView:
    return table_view(build_table(grid_of(results, *TABLE), kept_runs(results, "tiny")))


def test_the_command_ends_with_1_and_names_the_cell(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verify = script("verify")
    verify.main(["scale=tiny", f"results_dir={results}", "sample=3"])
    assert "3 kept records, 3 of them scored anew; table3: 0 wrong" in capsys.readouterr().out
    for given in ("0", "-1", "three"):
        with pytest.raises(UserError, match=f"sample={given} is no number of records from 1 on"):
            verify.main(["scale=tiny", f"results_dir={results}", f"sample={given}"])
    sealed_anew(folder_of_lora(results), metrics={"Rouge-1": 1.0})
    with pytest.raises(SystemExit) as ended:
        verify.main(["scale=tiny", f"results_dir={results}", "sample=3"])
    assert ended.value.code == 1 and f"wrong: {LORA}" in capsys.readouterr().err


def test_a_changed_number_of_the_figure_is_found(tmp_path: Path) -> None:
    asked = ["table=figure3", "scale=tiny"]
    measured = {"cosine": 0.9, "weight_norm": 10.0, "update_norm": 2.0, "rank": 4, "entropy_rank": 3.0}
    for number, cell in enumerate(grid_of(tmp_path, *asked).cells):
        run = write_run(tmp_path, cell, {}, [])
        found = measured | {"cosine": 0.9 - 0.01 * number, "singular_values": [1.5, 1.0, 0.75, 0.4]}
        layers = {f"transformer.h.{block}.attn.c_attn.{name}_proj": found for block in (0, 1) for name in "qv"}
        (run.path / "similarity.json").write_text(json.dumps(layers))
        keep_run(run, tmp_path)
    shutil.rmtree(tmp_path / "runs")
    render_figure3([*asked, f"results_dir={tmp_path}"])
    here = ["scale=tiny", f"results_dir={tmp_path}"]
    assert (verify(here, 0).pages, verify(here, 0).wrong) == (["figure3"], [])
    file = tmp_path / "tiny" / "figure3.csv"
    means = texts_html(rank_texts(read_csv_file(file.read_text(encoding="utf-8"))))
    (report := tmp_path / "tiny" / "report.html").write_text(means, encoding="utf-8")
    assert verify(here, 0).wrong == []
    report.write_text(means.replace("0.8900", "0.8600"), encoding="utf-8")
    (line_found,) = verify(here, 0).wrong
    assert "| 0.8900 |" in line_found and "of figure3, which the records give" in line_found
    report.unlink()
    file.write_text(file.read_text(encoding="utf-8").replace(",0.9,", ",0.99,", 1), encoding="utf-8")
    (line_found,) = verify(here, 0).wrong
    assert line_found.startswith("figure3.csv: ") and ".h.0." in line_found and "cosine: 0.99, not 0.9" in line_found


def test_where_there_is_nothing_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="tiny has neither kept records nor a rendered table: nothing to verify"):
        verify(["scale=tiny", f"results_dir={tmp_path}"])


def test_a_changed_text_of_the_examples_is_found(results: Path) -> None:
    """In the file, and in the report that shows it."""
    tasks, _, (path,) = render_examples(["scale=tiny", "seed=1", f"results_dir={results}"])
    report = path.with_name("report.html")
    report.write_text(examples_html(tasks[0]["items"]) + table_html(view(results)))
    assert wrong(results) == []
    text = tasks[0]["items"][1]["outputs"]["AdaLoRA"]  # no other item has it
    path.write_text(path.read_text().replace(f'"{text}"', '"The Vaults is dear"', 1))
    report.write_text(report.read_text().replace(f">{text}<", ">The Vaults is dear<", 1))
    (here,) = wrong(results)  # the report shows what the file does
    assert here.startswith("examples.json, line") and "The Vaults is dear" in here
    render_examples(["scale=tiny", "seed=1", f"results_dir={results}"], force=True)
    (there,) = wrong(results)
    assert there.startswith("report.html: there is no ") and "of examples, which the records give" in there
    path.write_text("damaged")
    with pytest.raises(UserError, match=r"examples.json cannot be read .*git checkout it"):
        verify(["scale=tiny", f"results_dir={results}"])
