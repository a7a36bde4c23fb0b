"""A table of one's own is one YAML in configs/table: in a copy of the repository, with nothing else changed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT

pytestmark = pytest.mark.xdist_group("own table")  # one copy for all
MINE = """\
# @package _global_
hydra:
  sweeper:
    params:
      task: xsum
      model: ${scale.models.bart}
      method: lora,delta-lora
      method.rank: 2,4

table:
  title: Two ranks on XSum
  rows: {method: method.name, rank: method.rank}
  metrics: [Rouge-1, Rouge-2]
  parameters: true
  examples: true
  claims:
    - says: Delta-LoRA beats LoRA at rank 2
      better: [delta-lora 2]
      worse: [lora 2]
      gains: {Rouge-1: null, Rouge-2: null}
"""
RANKS = MINE.replace("lora,delta-lora\n", "lora\n").replace(
    "rows: {method: method.name, rank: method.rank}", "rows: {rank: method.rank}"
).split("  parameters")[0]  # fmt: skip

WRITE = """\
import sys
from pathlib import Path
from helpers.table_records import grid_of, write_run
results = Path(sys.argv[1])
words = "The Vaults is a cheap pub near a river with a low rating and meals".split()
for name in ("mine", "ranks"):
    for cell in grid_of(results, f"table={name}", "scale=tiny").cells:
        kept = 4 if cell.config.method.name == "lora" else 9
        texts = [" ".join(words[: kept + i % 3]) for i in range(20)]
        reference = [" ".join(words)]
        rows = [{"id": i, "input": str(i), "prediction": texts[i], "references": reference} for i in range(20)]
        write_run(results, cell, {"Rouge-1": 10.0 * kept, "Rouge-2": 5.0 * kept}, rows)
"""
RENDER = """\
import importlib.util, sys
from rich.console import Console
spec = importlib.util.spec_from_file_location("render_script", "scripts/render.py")
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)
script.main(["mine", "ranks", "examples", *sys.argv[1:]])
from delta_lora.suite.pages import notebook
for shown in (notebook.show_own_tables(), notebook.show_table("mine")):
    print("SHOWN", repr(shown))
    print("HTML", shown.html)
from delta_lora.suite.cli import per_table
from delta_lora.suite.plan.plan import compose_tables
print("PLAN", {name: len(cells) for name, (_, cells) in compose_tables(per_table(["mine", *sys.argv[1:]])).items()})
print("ALL", [words[0] for words in per_table(["all"])])
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository with two files more, and finished runs of them."""
    folder = tmp_path_factory.mktemp("copy")
    for name in ("configs", "scripts", "src"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, folder)
    for path in (folder / "configs/table").glob("*.yaml"):  # each takes seconds to compose
        if path.stem not in ("figure3", "table1", "table3"):
            path.unlink()
    (folder / "configs/table/mine.yaml").write_text(MINE, encoding="utf-8")
    (folder / "configs/table/ranks.yaml").write_text(RANKS, encoding="utf-8")
    python(folder, WRITE, str(folder / "results"))
    return folder


def python(copy: Path, code: str, *arguments: str) -> str:
    """What a program prints that runs in the copy, on the copy's sources."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DELTA_LORA_")}
    environment |= {"PYTHONPATH": f"{copy / 'src'}{os.pathsep}{ROOT / 'tests'}"}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def printed(copy: Path) -> str:
    """What rendering everything of the two tables prints."""
    return python(copy, RENDER, "scale=tiny", f"results_dir={copy / 'results'}", f"cache_dir={copy / 'cache'}")


@pytest.mark.usefixtures("printed")
def test_its_files_have_its_name_and_nothing_of_the_papers(copy: Path) -> None:
    folder = copy / "results" / "tiny"
    page, csv, tex = ((folder / f"mine.{suffix}").read_text(encoding="utf-8") for suffix in ("md", "csv", "tex"))
    assert page.startswith("# mine: Two ranks on XSum, bart-tiny\n")
    assert "| Delta-LoRA (Ours) | 2 | 0.375M | – | **90.00** | **45.00** |" in page
    assert "1 comparison" not in page and "2 comparisons: 2 with too few runs." in page
    assert "| Comparison | Holds if | Our gain | 95 % interval | Seeds | Verdict |" in page
    assert "| Delta-LoRA (Ours), Rank = 2 against LoRA (repr.), Rank = 2, Rouge-1 | above 0 | +50.00 |" in page
    assert r"\label{tab:delta-lora-mine}" in tex and "90.00" in tex
    assert csv.splitlines()[0].startswith("row,label,rank,trainable,extra_updatable,Rouge-1,Rouge-1 sd,")
    for text in (page.split("## Claims")[0].split("**From**")[0].replace(str(copy), ""), csv.splitlines()[0], tex):
        assert "paper" not in text.lower()


@pytest.mark.usefixtures("printed")
def test_a_sweep_of_ones_own_has_curves(copy: Path) -> None:
    folder = copy / "results" / "tiny"
    assert {path.suffix for path in folder.glob("ranks.*")} == {".md", ".csv", ".tex", ".png", ".svg"}
    assert "![Curves of ranks](ranks.png)" in (folder / "ranks.md").read_text(encoding="utf-8")


def test_the_terminal_the_notebooks_and_its_page_show_it_with_its_sentences(printed: str, copy: Path) -> None:
    assert "mine: Two ranks on XSum, bart-tiny" in printed.split("SHOWN")[0]
    assert "Delta-LoRA beats LoRA at rank 2. 1 run: difference, item interval; 2 comparisons" in " ".join(
        printed.split()
    )
    html = printed.split("HTML")[1].split("SHOWN")[0]
    assert "<th>Rouge-1 ↑</th>" in html and "ranks: Two ranks on XSum, bart-tiny" in html
    assert "paper" not in html and "difference" not in html and "<td><strong>90.00</strong></td>" in html
    page = (copy / "results/tiny/mine.md").read_text(encoding="utf-8")
    assert "**Delta-LoRA beats LoRA at rank 2.** 1 run: difference, item interval; 2 comparisons" in page
    assert "Delta-LoRA (Ours), Rank = 4" in (copy / "results/tiny/examples.json").read_text(encoding="utf-8")


def test_plan_and_make_know_it_without_being_told(printed: str, copy: Path) -> None:
    assert "PLAN {'mine': 4}" in printed
    assert "'table=mine', 'table=ranks', 'table=table1'" in printed.split("ALL")[1]
    for target, expected in {
        "mine": "scripts/train.py -m table=mine scale=tiny",
        "table TABLE=mine": "for grid in mine;",
        "prefetch TABLE=mine": "scripts/prefetch.py mine scale=tiny",
        "plan TABLE='1 mine'": "scripts/plan.py table1 mine scale=tiny",
        "tables": "grids=$(.venv/bin/python scripts/render.py check scale=tiny)",
    }.items():
        done = subprocess.run(
            f"make -n {target} SCALE=tiny", shell=True, cwd=copy, capture_output=True, text=True, check=False
        )
        assert expected in done.stdout, done.stderr
