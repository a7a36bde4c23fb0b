"""Tables as files and on the command line: whole, honest about what they are, and readable by what reads them."""

import csv
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import helpers
import pytest
from helpers import ROOT
from helpers.table_records import grid_of, write_run
from rich.console import Console

from delta_lora.errors import UserError
from delta_lora.suite.cli import guard, per_table
from delta_lora.suite.pages.fuller import check_fuller
from delta_lora.suite.pages.html import table_html
from delta_lora.suite.pages.latex import escape_latex
from delta_lora.suite.pages.markdown import escape_markdown
from delta_lora.suite.pages.render import render_table
from delta_lora.suite.pages.terminal import terminal
from delta_lora.suite.pages.view import table_view
from delta_lora.suite.records.records import SCHEMA, read_runs, run_folder, write_jsonl
from delta_lora.suite.tables.build import build_table
from delta_lora.suite.tables.csv_file import read_table
from delta_lora.suite.tables.table import Table

ROUGE = ["Rouge-1", "Rouge-2", "Rouge-L", "Rouge-Sum"]
SCALE = ["scale=tiny", "task.source=generated"]
REFERENCE = "The Vaults is a cheap pub near Café Adriatic with a low rating & £20 meals"

pytestmark = [pytest.mark.usefixtures("cells_once"), pytest.mark.xdist_group("tables")]  # composed once


@pytest.fixture(autouse=True)
def no_local_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DELTA_LORA_DATA", raising=False)


@pytest.fixture
def xsum_runs(tmp_path: Path) -> list[str]:
    """Finished runs of LoRA and Delta-LoRA on XSum, Delta-LoRA plainly better, and the overrides that find them."""
    overrides = ["table=table3", *SCALE, "method=lora,delta-lora,adalora"]
    kept = {"lora": 6, "delta-lora": 12}  # words of the reference in each summary
    for cell in grid_of(tmp_path, *overrides).cells:
        words = kept.get(cell.config.method.name)
        if words is None:
            continue
        rows: list[dict[str, Any]] = [
            {"id": i, "prediction": " ".join(REFERENCE.split()[: words + i % 3]), "references": [REFERENCE]}
            for i in range(40)
        ]
        write_run(tmp_path, cell, dict.fromkeys(ROUGE, 5.0 * words), rows)
    return [*overrides, f"results_dir={tmp_path}", f"cache_dir={tmp_path / 'cache'}"]


def rendered(overrides: list[str]) -> tuple[Table, dict[str, str]]:
    table, _, paths = render_table(overrides)
    return table, {path.suffix: path.read_text(encoding="utf-8") for path in paths}


def test_the_files_stand_below_results_and_scale(xsum_runs: list[str], tmp_path: Path) -> None:
    rendered(xsum_runs)
    assert {path.name for path in (tmp_path / "tiny").iterdir()} == {"table3.md", "table3.csv", "table3.tex"}


def test_a_page_of_more_runs_is_kept_unless_forced(xsum_runs: list[str], tmp_path: Path) -> None:
    page = tmp_path / "tiny" / "table3.md"
    page.parent.mkdir()
    page.write_text("**From** Scale: tiny · Runs: 3 of 3 · Seed: 1", encoding="utf-8")
    with pytest.raises(UserError, match=r"table3.md is made from 3 runs and there are 2 now, so it is kept"):
        render_table(xsum_runs)
    check_fuller(page, 3, force=False)
    render_table(xsum_runs, force=True)
    assert "Runs: 2 of 3" in page.read_text(encoding="utf-8")


def test_the_markdown_page_is_whole(xsum_runs: list[str]) -> None:
    _, files = rendered(xsum_runs)
    page = files[".md"]
    lines = page.splitlines()
    assert lines[0] == "# Table 3: XSum, bart-tiny"
    assert lines[2].startswith("> **Not comparable with the paper (scale tiny): ours is bart-tiny on generated data.")
    body = [line for line in lines if line.startswith("|") and "Rouge-1 ↑" not in line][1:8]
    assert all(len(re.split(r"(?<!\\)\|", line)) == 9 for line in body)
    assert "| Delta-LoRA (Ours) |" in page
    assert "**60.00**<br><sub>43.49</sub>" in page  # full fine-tuning is the best of the paper's rows
    assert "*not run*<br><sub>42.91</sub>" in page
    assert "Runs: 2 of 3" in page
    assert "Device: CPU, 1 threads" in page
    assert "torch 2.13.0, transformers 5.23.0, peft 0.21.0" in page
    assert "Commit: 0123abc" in page
    assert "Wall time of the runs together: 0:02:00" in page
    assert "python scripts/train.py -m table=table3" in page


def test_a_run_that_diverged_is_named_beneath_its_scores(tmp_path: Path) -> None:
    overrides = ["table=table3", *SCALE, "method=lora,adalora"]
    for cell, losses in zip(
        grid_of(tmp_path, *overrides).cells, ([2.0, 1.5, 1.0, 0.5], [2.0, 5.5, 5.0, 4.56]), strict=True
    ):
        folder = run_folder(tmp_path, cell.key)
        write_jsonl(folder / "log.jsonl", [{"step": step, "loss": loss} for step, loss in enumerate(losses)])
        write_run(tmp_path, cell, dict.fromkeys(ROUGE, 5.0), [{"id": 0, "prediction": "a", "references": [REFERENCE]}])
    _, view, paths = render_table([*overrides, f"results_dir={tmp_path}", f"cache_dir={tmp_path / 'cache'}"])
    said = (
        "Diverged: AdaLoRA, seed 1: the loss of its training was 2 at step 0 and 4.56 at the end, so its scores say "
        "only that."
    )
    assert view.diverged == [said]
    pages = {path.suffix: path.read_text(encoding="utf-8") for path in paths}
    console = Console(width=300, record=True, file=StringIO())
    console.print(terminal(view))
    for page in (pages[".md"], pages[".tex"], table_html(view), view.texts, console.export_text()):
        assert page.count(said) == 1
    from_file = read_table(pages[".csv"], grid_of(tmp_path, *overrides))
    assert table_view(from_file).diverged == [said], "where there is no log any more"


def test_a_run_that_diverged_is_named_with_its_task_where_there_are_several(tmp_path: Path) -> None:
    lines = [{"step": step, "loss": loss} for step, loss in enumerate((0.7, 0.8, 0.8, 0.9))]
    for cell in (grid := grid_of(tmp_path, "table=controls-glue", "scale=tiny", "method=controls/lora")).cells:
        write_jsonl(run_folder(tmp_path, cell.key) / "log.jsonl", lines)
        write_run(tmp_path, cell, {"accuracy": 50.0})
    (row, *_) = build_table(grid, read_runs(tmp_path)).rows
    assert [text.partition(":")[0] for text in row.diverged] == ["glue/sst2, seed 1", "glue/mrpc, seed 1"]


def test_the_claims_stand_beneath_with_their_verdicts(xsum_runs: list[str]) -> None:
    _, files = rendered(xsum_runs)
    claims = files[".md"].split("## Claims")[1]
    assert "12 comparisons: 4 with too few runs, 8 not run." in claims
    line = next(line for line in claims.splitlines() if "against LoRA" in line and "Rouge-1 |" in line)
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[1:4] == ["above 0", "+0.22", "+30.00"]  # 43.49 - 43.27 in the paper's table; 60 - 30 in ours
    assert cells[5:] == ["1", "–", "1 run: difference, item interval"]
    low, high = (float(text) for text in cells[4].split(" to "))
    assert 0 < low < high


def test_the_csv_holds_the_numbers_in_full(xsum_runs: list[str]) -> None:
    _, files = rendered(xsum_runs)
    rows = {row["row"]: row for row in csv.DictReader(StringIO(files[".csv"]))}
    assert float(rows["delta-lora"]["Rouge-1"]) == 60.0
    assert rows["delta-lora"]["Rouge-1 (paper)"] == "43.49"
    assert rows["delta-lora"]["trainable"] == "393216"
    assert rows["delta-lora"]["status"] == "run"
    assert len(rows["delta-lora"]["runs"]) == 16
    assert (rows["adalora"]["Rouge-1"], rows["adalora"]["status"]) == ("", "not run")
    assert list(rows) == ["full", "ft-frozen-emb", "ft-qv", "lora", "dylora", "adalora", "delta-lora"]


def test_the_latex_is_well_formed(xsum_runs: list[str]) -> None:
    _, files = rendered(xsum_runs)
    source = files[".tex"]
    body = source.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
    columns = re.search(r"\\begin\{tabular\}\{([lr]+)\}", source)
    assert columns is not None
    assert all(len(re.findall(r"(?<!\\)&", line)) == len(columns[1]) - 1 for line in body)
    assert all(re.search(r"\\\\(\[2pt\])?$", line) for line in body)
    stripped = re.sub(r"\\[{}]", "", source)
    assert stripped.count("{") == stripped.count("}")
    assert re.findall(r"\\begin\{(\S+?)\}", source)[::-1] == re.findall(r"\\end\{(\S+?)\}", source)[0:2]
    assert not re.search(r"(?<!\\)[_#]", source)
    assert source.isascii()


def test_text_is_escaped_where_a_format_would_read_it_as_markup() -> None:
    assert escape_latex("W_q & 50 % of $x$ {#1} ~^\\ λ ≥ 2") == (
        r"W\_q \& 50 \% of \$x\$ \{\#1\} \textasciitilde{}\textasciicircum{}\textbackslash{} $\lambda$ $\geq$ 2"
    )
    assert escape_markdown("W_q|*x*") == r"W\_q\|\*x\*"


def test_the_terminal_shows_ours_the_papers_and_the_verdicts(xsum_runs: list[str]) -> None:
    _, view, _ = render_table(xsum_runs)
    console = Console(width=140, record=True, file=StringIO())
    console.print(terminal(view))
    text = console.export_text()
    assert "60.00" in text
    assert "43.49" in text
    assert "Not comparable with the paper" in text
    assert "4 with too few runs" in text


def test_without_a_finished_run_the_command_that_makes_them_is_named(tmp_path: Path) -> None:
    overrides = ["table=table1", *SCALE, "method=lora", f"results_dir={tmp_path}"]
    with pytest.raises(
        UserError, match=r"no finished run of this table in .*: python scripts/train\.py -m table=table1"
    ):
        render_table(overrides)
    assert not (tmp_path / "tiny").exists()


def test_the_script_renders_and_reports_what_it_left_out(xsum_runs: list[str], tmp_path: Path) -> None:
    damaged = sorted((tmp_path / "runs").iterdir())[0] / "run.json"
    record = damaged.read_text(encoding="utf-8")
    damaged.write_text(record.replace(f'"schema": {SCHEMA}', '"schema": 0'), encoding="utf-8")
    command = [sys.executable, "scripts/render.py", "table3", *xsum_runs[1:]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Table 3: XSum, bart-tiny" in done.stdout
    assert str(tmp_path / "tiny" / "table3.md") in done.stdout
    assert f"warning: {damaged} is left out: its schema is 0" in done.stderr


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return helpers.script("render")


def test_bare_words_are_tables() -> None:
    assert per_table(["table1", "scale=tiny", "table5"]) == [
        ["table=table1", "scale=tiny"],
        ["table=table5", "scale=tiny"],
    ]
    assert per_table(["table=table1", "seed=1,2"]) == [["table=table1", "seed=1,2"]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["table1", *SCALE, "results_dir=/nowhere"], "no finished run of this table"),
        (["table9", *SCALE], "table1, table2"),
        (["figure3", *SCALE, "results_dir=/nowhere"], "no finished run of Figure 3"),
        (["claims", "scale=tiny", "results_dir=/nowhere"], "make tables SCALE=tiny"),
        (["examples", "scale=tiny", "results_dir=/nowhere"], "no finished run of table1, table2, table3"),
        (SCALE, "give one of table1, table2"),
        (["table1", *SCALE, "method=nonesuch"], "nonesuch"),
        (["table1", *SCALE, "method=["], ""),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    script: ModuleType, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert guard(lambda: script.main(arguments)) == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1
    assert printed.err.startswith("error: ")
    assert message in printed.err
    assert printed.out.strip() == ""
