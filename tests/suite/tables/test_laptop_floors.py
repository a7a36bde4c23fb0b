"""Floors under the committed laptop records: what a mistake in training, decoding or scoring would fall below.

They hold for what is in the repository; a record that is not there yet is not asked for.
"""

import csv
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
from helpers import ROOT
from helpers.table_records import grid_of, write_run

from delta_lora.suite.records.records import Run, kept_runs

UNTUNED = {"e2e": ("BLEU", 0.0), "webnlg": ("BLEU-A", 0.0)}  # SmolLM2 writes nothing before it is trained
TABLE_1 = 60.0  # BLEU of each method with Table 1's settings: the lowest so far is 64.19
LORA_ON_E2E = 62.0  # BLEU on all 630 inputs, mean over the seeds
COLUMNS = ("BLEU", "NIST", "METEOR", "ROUGE-L", "CIDEr")
STRANGERS = 0.02  # of E2E's texts may leave out the place's name; more are another input's texts
DIVERGED = dict.fromkeys(("lora-rate", "lora-squared"), 3.0)  # training loss went up beyond: the size is the question
ORDINARY = {"glue/mrpc": 77.70, "glue/sst2": 86.24}  # of tests/helpers/ordinary_glue.py; floors are two points below
STSB = 80.0  # Pearson's correlation in percent: 11 where the head was given a constant, 88 where it learns


def answer(run: Run) -> tuple[str, float]:
    """A column, and what one answer to everything gives in it: the commonest class's share, or no correlation."""
    column = run.config["task"]["metrics"][0]
    if column != "accuracy":
        return column, 0.0
    labels = Counter(line["references"][0] for line in run.predictions())
    return column, 100 * max(labels.values()) / sum(labels.values())


def place(source: str) -> str:
    """``The Vaults`` of ``name : The Vaults | Type : pub``."""
    return source.partition("|")[0].partition(":")[2].strip()


def below(runs: Sequence[Run]) -> Iterable[str]:
    """A line for each run that is below its floor, or not below 100."""
    runs = [run for run in runs if run.config["task"].get("split", "test") == "test"]  # not those that chose settings
    runs = [
        run for run in runs if run.train.get("final_loss", 0) < DIVERGED.get(run.config["method"]["name"], math.inf)
    ]
    for run in runs:
        column, floor = UNTUNED.get(run.config["task"]["name"]) or answer(run)
        floor = STSB if run.config["task"]["name"] == "glue/stsb" else floor
        floor = max(floor, ORDINARY.get(run.config["task"]["name"], floor + 2) - 2)
        if not floor < run.metrics[column] < 100:
            yield f"{run.name} ({run.key}): {column} {run.metrics[column]:.2f}, floor {floor:.2f}"
    for run in (run for run in runs if run.config["task"]["name"] == "e2e" and "input" in run.predictions()[0]):
        unnamed = [line["id"] for line in run.predictions() if place(line["input"]) not in line["prediction"]]
        if len(unnamed) > STRANGERS * len(run.predictions()):
            yield f"{run.name} ({run.key}): {len(unnamed)} texts do not name what their input names"
    whole = [run for run in runs if run.config["task"]["name"] == "e2e" and len(run.predictions()) == 630]
    lora: dict[float, list[float]] = {}  # at each learning rate
    for run in whole:
        if run.config["method"]["name"] == "lora":
            lora.setdefault(run.config["method"]["learning_rate"], []).append(run.metrics["BLEU"])
    for scores in lora.values():
        if mean(scores) < LORA_ON_E2E:
            yield f"LoRA on E2E: BLEU {mean(scores):.2f}, floor {LORA_ON_E2E}"


def test_no_committed_record_is_below_its_floor() -> None:
    assert not list(below(kept_runs(ROOT / "results", "laptop")))


def test_every_method_of_table_1_learns() -> None:
    """By the committed table, which `make verify` holds against the records."""
    rows = csv_rows(ROOT / "results" / "laptop" / "table1.csv")
    scores = [float(pair.partition("=")[2]) for row in rows for pair in row["BLEU by seed"].split()]
    assert len(scores) >= 11 and min(scores) >= TABLE_1


def made(results: Path, task: str, scores: dict[str, float], items: Sequence[dict[str, Any]], *more: str) -> Run:
    table = "table=table4" if task.startswith("glue/") else "table=table1"
    (cell,) = grid_of(results, table, "scale=laptop", f"task={task}", "method=lora", *more).cells
    return write_run(results, cell, scores, items)


@pytest.mark.parametrize(
    ("task", "scores", "wrong"),
    [
        ("e2e", {"BLEU": 62.5}, None),
        ("e2e", {"BLEU": 61.0}, "LoRA on E2E: BLEU 61.00"),
        ("e2e", {"BLEU": 0.0}, "BLEU 0.00, floor"),
        ("glue/mrpc", {"accuracy": 80.0}, None),
        ("glue/mrpc", {"accuracy": 66.0}, "accuracy 66.00, floor 75.70"),
        ("glue/stsb", {"pearson": 11.0}, "pearson 11.00, floor 80.00"),
        ("glue/cola", {"matthews": 100.0}, "matthews 100.00"),
    ],
)
def test_what_is_below_is_named(tmp_path: Path, task: str, scores: dict[str, float], wrong: str | None) -> None:
    items = [{"id": i, "references": [str(min(i % 3, 1))]} for i in range(630)]
    found = list(below([made(tmp_path, task, scores, items)]))
    assert (not found) if wrong is None else any(wrong in line for line in found)


def test_texts_of_other_inputs_are_found(tmp_path: Path) -> None:
    names = [f"The {i} Arms" for i in range(630)]
    items = [
        {"id": i, "input": f"name : {name} | Type : pub", "prediction": f"{names[i - i % 10]} is a pub ."}
        for i, name in enumerate(names)
    ]
    found = list(below([made(tmp_path, "e2e", {"BLEU": 63.0}, items)]))
    assert len(found) == 1 and found[0].endswith("567 texts do not name what their input names")


def test_a_run_that_chose_settings_has_no_floor(tmp_path: Path) -> None:
    assert not list(below([made(tmp_path, "e2e", {"loss": 1.2}, [{"id": 0}], "task.split=dev", "task.metrics=[loss]")]))


def test_the_controls_page_prints_its_own_numbers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What its command prints is what it says."""
    monkeypatch.chdir(ROOT)
    page = (ROOT / "docs" / "controls.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(compile(code, "docs/controls.md", "exec"), {})
    low, high, equal, items = re.fullmatch(
        r"cosine (\S+) to (\S+)\n(\d+) of (\d+) texts\n", capsys.readouterr().out
    ).groups()
    assert f"between {low} and {high} on the two layers" in page
    assert f"for {equal} of {items} inputs" in page


def csv_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def readme_rows(results: Path) -> list[str]:
    """README's Table 1 and Delta-LoRA's gain over LoRA with its interval, as the committed CSVs give them."""
    rows = csv_rows(results / "table1.csv")
    most = max(int(row[f"{column} seeds"] or 0) for row in rows for column in COLUMNS)
    lines = []
    for row in rows:
        if row["status"] != "run":
            continue
        sd, seeds = row["BLEU sd"], int(row["BLEU seeds"])
        cells = []
        for name in COLUMNS:
            shown = f"{float(row[name]):.2f}" + (f" ± {float(row[f'{name} sd']):.2f}" if sd else "")
            gain = row[f"{name} gain"]
            cells.append(shown + (f"<br><sub>{float(gain):+.2f}</sub>" if gain else ""))
        lines.append(f"| {row['label']} | {seeds} of {most} | {' | '.join(cells)} |")
    gains = [
        row for row in csv_rows(results / "claims.csv") if row["sentence"] == "Delta-LoRA beats LoRA on E2E (§5.2)"
    ]
    cells = [f"{row['Our gain']} ({row['95 % interval']})" for row in gains]
    return [
        *lines,
        f"| Delta-LoRA's gain over LoRA (95 % interval) | {gains[0]['Seeds']} of {most} | {' | '.join(cells)} |",
    ]


def test_the_readme_shows_the_committed_table() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [row for row in readme_rows(ROOT / "results" / "laptop") if row not in readme] == []


NUMBER = r"[+−-]?\d+\.\d+"
INTERVAL = rf"(?:\((?:95 % interval )?|, )({NUMBER}) to ({NUMBER})"


def intervals(text: str) -> set[tuple[str, str]]:
    """``(−0.66 to +0.50)`` and the like, as (low, high) with their digits."""
    plain = text.replace("−", "-")
    return {(low.lstrip("+"), high.lstrip("+")) for low, high in re.findall(INTERVAL, plain)}


def rendered_intervals(results: Path, digits: int) -> set[tuple[str, str]]:
    """Those of the committed pages' sentences with so many digits, either way round: a gain of either row."""
    text = "".join(path.read_text(encoding="utf-8") for path in sorted(results.glob("*/*.md")))
    found = re.findall(rf"\| ({NUMBER}) to ({NUMBER}) \|", text)
    pairs = {(float(low), float(high)) for low, high in found}
    pairs |= {(-high, -low) for low, high in pairs}
    return {(f"{low:.{digits}f}", f"{high:.{digits}f}") for low, high in pairs}


def quoted_numbers(text: str) -> set[str]:
    """Means with their spread, ``65.51 ± 0.32``."""
    return set(re.findall(r"\d+\.\d+ ± \d+\.\d+", re.sub(r"\s", " ", text)))  # pages have unbreakable spaces


@pytest.mark.parametrize("name", ["README.md", "docs/controls.md"])
def test_prose_quotes_the_committed_pages(name: str) -> None:
    """Every interval, and every mean with its spread, stands in a page that `make verify` holds against the records."""
    prose = (ROOT / name).read_text(encoding="utf-8").partition("## The library")[0]
    results = ROOT / "results"
    quoted = intervals(prose)
    assert quoted, "nothing to hold"
    for low, high in quoted:
        assert (low, high) in rendered_intervals(results, len(low.partition(".")[2])), f"{low} to {high}"
    shown = "".join(path.read_text(encoding="utf-8") for path in sorted(results.glob("*/*.md")))
    assert quoted_numbers(prose) <= quoted_numbers(shown)


def test_the_single_seeds_of_k_0_are_those_of_the_committed_table() -> None:
    rows = {row["row"]: row["BLEU by seed"].split() for row in csv_rows(ROOT / "results" / "laptop" / "controls.csv")}
    by_seed = [dict(pair.split("=") for pair in rows[name]) for name in ("Delta-LoRA, λ 2, K 0", "LoRA, α 96")]
    apart = [float(by_seed[0][seed]) - float(by_seed[1][seed]) for seed in sorted(by_seed[0])]
    *first, last = (f"{value:+.2f}".replace("-", "−") for value in apart)
    page = (ROOT / "docs" / "controls.md").read_text(encoding="utf-8")
    assert f"In single seeds the two are {', '.join(first)} and {last} apart" in page


def test_the_account_of_the_runs_is_that_of_the_committed_pages() -> None:
    """How many, and minutes in the mean; each loss and score of what stands on no page."""
    account = (ROOT / "docs" / "real-data.md").read_text(encoding="utf-8").partition("## What was run")[2]
    kept = kept_runs(ROOT / "results", "laptop")
    assert account.lstrip().startswith(f"{len(kept)} runs, ")
    lines = re.findall(r"^\| \[(\S+)\.md\]\S+ \| (.*) \| (\S*) \|$", account, re.MULTILINE)
    assert len(lines) >= 8
    for name, text, minutes in lines:
        page = (ROOT / "results" / "laptop" / f"{name}.md").read_text(encoding="utf-8")
        ran, asked = re.search(r"Runs: (\d+) of (\d+)", page).groups()
        wall = re.search(r"Wall time of the runs together: (?:(\d+) days?, )?(\d+):(\d+):(\d+)", page)
        days, hours, more, seconds = (int(part or 0) for part in wall.groups())
        assert text.endswith(f": {ran} of {asked}"), name
        assert minutes == f"{(60 * (24 * days + hours) + more + seconds / 60) / int(ran):.0f}", name
    (others,) = re.findall(r"^\| none \| (.*) \| +\|$", account, re.MULTILINE)
    measured = {f"{score:.{digits}f}" for run in kept for score in run.metrics.values() for digits in (2, 4)}
    assert set(re.findall(r"\d+\.\d+", others)) <= measured


def test_prose_that_quotes_another_number_is_found() -> None:
    assert intervals("by −0.08 (95 % interval −0.66 to +0.50; the paper)") == {("-0.66", "0.50")}
    assert intervals("better by 0.011, −0.014 to +0.037") == {("-0.014", "0.037")}
    known = rendered_intervals(ROOT / "results", 2)
    assert ("-0.66", "0.50") in known and ("-0.67", "0.50") not in known
