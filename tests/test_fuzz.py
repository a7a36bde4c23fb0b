"""2,000 malformed inputs, each made from its number: every one ends in a clear error or in a right result.

``FUZZ_CASES=1234`` runs one case again, ``FUZZ_CASES=2000-20000`` runs others. What is fuzzed: configurations
(40 % of the cases), run records (25 %), data files (20 %) and files to be scored (15 %).
"""

import csv
import json
import math
import os
import random
import shutil
from contextlib import suppress
from functools import cache
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import helpers
import pandas as pd
import pytest
from helpers.fuzz_inputs import (
    OVERRIDE_VALUES,
    SECONDS,
    TEXTS,
    WEBNLG,
    broken_bytes,
    broken_json,
    cases,
    csv_bytes,
    predictions_of,
    similarity,
    told,
)
from helpers.table_records import grid_of, write_run
from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from delta_lora.errors import UserError
from delta_lora.suite.cli import one_line
from delta_lora.suite.config.cell import Cell, build_cell
from delta_lora.suite.config.compose import CONFIGS, MISTAKES, composing
from delta_lora.suite.config.grid import Grid
from delta_lora.suite.config.settings import task_class, walk
from delta_lora.suite.pages.examples import task_examples
from delta_lora.suite.pages.figure_page import rank_texts
from delta_lora.suite.pages.markdown import markdown
from delta_lora.suite.pages.view import table_view
from delta_lora.suite.records.records import read_runs, write_record
from delta_lora.suite.tables.build import build_table, is_score
from delta_lora.suite.tables.claims import check_claims
from delta_lora.suite.tables.compare import PairedBootstrap, resampler_of
from delta_lora.suite.tables.csv_file import to_csv
from delta_lora.suite.tables.figure3 import build_figure3

pytestmark = pytest.mark.timeout(600, method="thread")  # SIGALRM is for the single case


def is_clear(error: BaseException) -> None:
    text = one_line(error)
    assert text and "\n" not in text and "Traceback" not in text


# --- configurations ---------------------------------------------------------------------------------------------------

BASES = [
    ("tiny", "gpt2-tiny", "e2e", "delta-lora"),
    ("tiny", "gpt2-tiny", "webnlg", "adalora"),
    ("tiny", "bart-tiny", "xsum", "dylora"),
    ("tiny", "roberta-tiny", "glue/mrpc", "lora"),
    ("tiny", "roberta-tiny", "glue/mnli", "full"),
    ("laptop", "roberta-tiny", "glue/stsb", "dora"),
    ("paper", "gpt2-medium", "e2e", "delta-lora-dropout"),
    ("paper", "roberta-base", "glue/rte", "ft-qv"),
]


@cache
def base(scale: str, model: str, task: str, method: str) -> DictConfig:
    choices = [f"scale={scale}", f"model={model}", f"task={task}", f"method={method}", "scale.require_gpu=false"]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("train", choices)


def override(rng: random.Random, settings: dict[str, Any]) -> str:
    """An override of any setting with any value; of a number often with a number near it."""
    name = rng.choice(list(settings))
    value = settings[name]
    if rng.random() < 0.5 and isinstance(value, int | float):
        return f"{name}={rng.choice([value, value * 2, int(value) + 1, value / 2, -value])}"
    if rng.random() < 0.1:
        name += rng.choice([".x", "s", ".0", "é", "."])
    prefix = rng.choice(["", "", "", "", "+", "++", "~"])
    return f"~{name}" if prefix == "~" else f"{prefix}{name}={rng.choice(OVERRIDE_VALUES)}"


def test_configurations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Overrides of every setting with values of any kind: a cell, or one line before anything is loaded or written."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DELTA_LORA_DATA", raising=False)
    parser, built, refused = OverridesParser.create(), 0, 0
    for number, rng in cases("configs"):
        chosen = rng.choice(BASES)
        config = base(*chosen)
        settings = dict(walk(OmegaConf.to_container(config)))
        given = [override(rng, settings) for _ in range(rng.choice([1, 1, 2, 3]))]
        with told(number, lambda: (chosen, given)):  # noqa: B023
            try:
                with composing():
                    if number % 200 == 0:  # as the command line does it; it takes half a second
                        mutated = compose("train", [f"scale={chosen[0]}", *given])
                    else:
                        mutated = config.copy()
                        ConfigLoaderImpl._apply_overrides_to_config(parser.parse_overrides(given), mutated)
                assert isinstance(build_cell(mutated), Cell)
                built += 1
            except MISTAKES as error:
                is_clear(error)
                refused += 1
    assert list(tmp_path.iterdir()) == []
    assert "FUZZ_CASES" in os.environ or (built > 50 and refused > 400), (built, refused)


# --- records ----------------------------------------------------------------------------------------------------------

TRUE = {"Rouge-1": 43.21, "Rouge-2": 20.5, "Rouge-L": 36.25, "Rouge-Sum": 36.5}


@pytest.fixture(scope="module")
def table_grid(tmp_path_factory: pytest.TempPathFactory) -> Grid:
    """Two cells of Table 3, with their runs as they should be."""
    results = tmp_path_factory.mktemp("table3")
    grid = grid_of(results, "table=table3", "scale=tiny", "method=lora,delta-lora")
    for cell in grid.cells:
        write_run(results, cell, TRUE, predictions_of(cell))
    return grid


@pytest.fixture(scope="module")
def figure_grid(tmp_path_factory: pytest.TempPathFactory) -> Grid:
    """Two cells of Figure 3, with their runs as they should be."""
    results = tmp_path_factory.mktemp("figure3")
    grid = grid_of(results, "table=figure3", "scale=tiny", "method=lora,delta-lora")
    for cell in grid.cells:
        run = write_run(results, cell, {"BLEU": 50.0}, [])
        (run.path / "similarity.json").write_text(json.dumps(similarity()))
        reseal(run.path, json.loads((run.path / "run.json").read_text()))
    return grid


def reseal(folder: Path, record: Any) -> None:
    """Write a record with the checksums of whatever it says and of the files as they are."""
    fields = {name: value for name, value in record.items() if name not in ("schema", "files", "sha256")}
    (folder / "run.json").unlink()
    with suppress(AssertionError):  # it cannot be read back, which is for the reader to say again
        write_record(folder, fields)


def damage(rng: random.Random, folder: Path, file: str) -> tuple[str, Any]:
    """Damage a run; how, and the metrics that its record now states under a seal that holds (None: no such seal)."""
    how = rng.choice(["bytes", "record", "sealed record", "sealed record", "file", "sealed file", "gone"])
    path = folder / ("run.json" if "record" in how or how == "bytes" else file)
    if how == "gone":
        path.unlink()
        if rng.random() < 0.5:
            path.mkdir()
        return how, None
    if how in ("bytes", "file"):
        path.write_bytes(broken_bytes(rng, path.read_bytes()))
        return how, None
    record = json.loads((folder / "run.json").read_text())
    if how == "sealed file":
        if rng.random() < 0.5:
            path.write_bytes(broken_bytes(rng, path.read_bytes()))
        else:
            lines = [broken_json(rng, json.loads(line)) for line in path.read_text().splitlines()]
            path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        reseal(folder, record)
        return how, record["metrics"]
    changed = broken_json(rng, record)
    if how == "record" or not isinstance(changed, dict):
        path.write_text(json.dumps(changed))
        return how, None
    reseal(folder, changed)
    return how, changed.get("metrics")


def check_table(grid: Grid, results: Path, victim: str, stated: Any, claims: bool) -> tuple[bool, bool]:
    """Whether the table shows the victim, and says what it left out. What it shows must be what the record states."""
    runs = read_runs(results)
    table = build_table(grid, runs)
    (row,) = [row for row in table.rows if row.name == victim]
    (line,) = [line for line in csv.DictReader(StringIO(to_csv(table))) if victim in line.values()]
    page = markdown(table_view(table))
    for column in TRUE:
        score, printed = row.scores[column], line[column]
        if score is None:
            assert printed == "", f"{column}: {printed}"
            continue
        assert is_score(stated[column]) and score.mean == stated[column], f"{column}: {score}, stated {stated[column]}"
        assert float(printed) == pytest.approx(stated[column], abs=0.005)
        assert f"{score.mean:.2f}" in page
    if claims and table.runs:
        try:
            check_claims(table, PairedBootstrap(resampler_of, None, resamples=10))
        except UserError as error:
            is_clear(error)
    problems: list[str] = []
    task_examples(grid, {run.key: run for run in runs}, problems)
    return any(row.runs.values()), bool(table.problems)


def test_run_records(tmp_path: Path, table_grid: Grid, figure_grid: Grid, caplog: pytest.LogCaptureFixture) -> None:
    """A damaged record, sealed anew or not, is left out and reported, or shows what it truly states; never a guess."""
    shown = left_out = 0
    for number, rng in cases("records"):
        grid, file = (figure_grid, "similarity.json") if rng.random() < 0.3 else (table_grid, "predictions.jsonl")
        results = tmp_path / "results"
        shutil.rmtree(results, ignore_errors=True)
        shutil.copytree(Path(grid.config.results_dir), results)
        victim = rng.choice(grid.cells)
        folder = results / "runs" / victim.key
        how, stated = damage(rng, folder, file)
        caplog.clear()
        record = folder / "run.json"
        with told(number, lambda: (how, record.is_file() and record.read_bytes(), (folder / file).read_bytes())):  # noqa: B023
            if grid is figure_grid:
                figure = build_figure3(grid, read_runs(results))
                if not figure.frame.empty:
                    rank_texts(figure.frame)
                found, reported = victim.key in {run.key for run in figure.runs}, bool(figure.problems)
            else:
                name = victim.config.method.name
                found, reported = check_table(grid, results, name, stated or TRUE, claims=number % 3 == 0)
            unfinished = not record.is_file()
            assert found or reported or caplog.records or unfinished, "it was left out in silence"
            shown, left_out = shown + found, left_out + (not found)
    assert "FUZZ_CASES" in os.environ or (shown > 20 and left_out > 200), (shown, left_out)


# --- data files -------------------------------------------------------------------------------------------------------

COLUMNS = {
    "xsum": ["document", "summary", "id"],
    "glue/rte": ["sentence1", "sentence2", "label"],
    "glue/stsb": ["sentence1", "sentence2", "label"],
}
FOLDERS = {"e2e": "e2e", "webnlg": "webnlg_challenge_2017"}
FILES = {
    "e2e": ["trainset.csv", "testset_w_refs.csv"],
    "webnlg": ["train/1triples/a.xml", "test/testdata_with_lex.xml"],
    "xsum": ["train-00000-of-00001.parquet", "test-00000-of-00001.parquet"],
    "glue/rte": ["train-00000-of-00001.parquet", "validation-00000-of-00001.parquet"],
    "glue/stsb": ["train-00000-of-00001.parquet", "validation-00000-of-00001.parquet"],
}


ODD_COLUMNS: list[list[Any]] = [
    [None, "a", "b"], [None] * 3, ["", " ", "x"], [b"a", b"\xff", b""], [1, 2, 3], [10**18, -1, 0], [1.5, math.nan, 0],
    [True, False, True], [["a"], [], ["b"]], [{"a": 1}] * 3, [pd.Timestamp(0)] * 3,
]  # fmt: skip


def table_bytes(rng: random.Random, task: str, broken: bool) -> bytes:
    """A parquet file of a task; where it is to be broken, it may lack a column or have odd cells."""
    rows = [[f"{column} {i}." for column in COLUMNS[task]] for i in range(3)]
    frame = pd.DataFrame(rows, columns=COLUMNS[task])
    if "label" in frame:
        frame["label"] = [0, 1, 1]
    if not broken or rng.random() < 0.4:
        return frame.to_parquet(compression=rng.choice(["snappy", None, "gzip"]))
    column = rng.choice(COLUMNS[task])
    how = rng.randrange(4)
    if how == 0:
        frame = frame.rename(columns={column: rng.choice(["", "x", "Label"])})
    elif how == 1:
        frame = frame.iloc[:0]
    else:
        frame[column] = rng.choice(ODD_COLUMNS)
    return frame.to_parquet()


def test_data_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged data file is named in one line, or what is read from it is whole: texts, and labels of the task."""
    monkeypatch.delenv("DELTA_LORA_DATA", raising=False)
    configs = {name: base_of_task(name) for name in FILES}
    read = refused = 0
    for number, rng in cases("data"):
        name = rng.choice(list(FILES))
        folder = tmp_path / FOLDERS.get(name, name)
        victim = rng.choice(FILES[name])
        contents = {}
        for file in FILES[name]:
            whole = {"e2e": csv_bytes(), "webnlg": WEBNLG.encode()}.get(name) or table_bytes(rng, name, file == victim)
            contents[file] = broken_bytes(rng, whole) if file == victim and rng.random() < 0.8 else whole
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(contents[file])
        task = task_class(configs[name])(configs[name], tmp_path, tmp_path / "cache")
        with told(number, lambda: (name, victim, contents[victim])):  # noqa: B023
            try:
                if name == "e2e":  # whose released files are held against their SHA-256 before they are read
                    with pytest.raises(UserError, match=r"is not the released file|has no devset\.csv"):
                        task.check_files()
                else:
                    task.check_files()
                size, items = task.train_size(), task.test_items()
                assert size > 0 and items
                texts = [text for item in items for text in (item.input, *item.references)]
                assert all(isinstance(text, str) for text in texts)
                assert all(item.references for item in items)
                if name.startswith("glue"):
                    assert all(0 <= float(item.references[0]) <= 5 for item in items)
                read += 1
            except UserError as error:
                is_clear(error)
                refused += 1
    assert "FUZZ_CASES" in os.environ or (read > 20 and refused > 150), (read, refused)


def base_of_task(name: str) -> DictConfig:
    """A task's configuration at the scale that reads files."""
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("train", [f"task={name}", "scale.require_gpu=false"]).task


# --- files to be scored -----------------------------------------------------------------------------------------------

WITH_JAVA = 2  # cases of E2E and of WebNLG that all metrics score; the others end before Java starts


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return helpers.script("score")


def to_score(rng: random.Random, task: str) -> tuple[list[bytes], list[bytes]]:
    """Lines of hypotheses and of references that belong together, with odd texts in them."""
    size = rng.randint(1, 5)
    if task.startswith("glue"):
        values = (
            [b"0", b"1", b"1.0", b" 1 "]
            if rng.random() < 0.5
            else [b"0", b"1", b"nan", b"1e400", b"1e308", b"-1e308", b"", b"2"]
        )
        return [rng.choice(values) for _ in range(size)], [rng.choice(values) for _ in range(size)]
    texts = [text.replace("\n", " ").replace("\r", " ") for text in TEXTS]
    hypotheses = [rng.choice(texts) for _ in range(size)]
    references = [rng.choice([text for text in texts if text.strip()]) for _ in range(size)]
    if task == "webnlg":
        references = [json.dumps({"references": [text, "\ud800"], "seen": rng.random() < 0.5}) for text in references]
    if task == "e2e":
        references = [text + "\n" for text in references]
    return [text.encode() for text in hypotheses], [text.encode() for text in references]


def test_files_to_be_scored(tmp_path: Path, script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 0 with finite scores in their ranges, or exit code 2 with one line on standard error."""
    scored = refused = 0
    with_java = {"e2e": 0, "webnlg": 0}
    paths = [tmp_path / "hypotheses", tmp_path / "references"]
    for number, rng in cases("scoring"):
        task = rng.choice(["e2e", "webnlg", "xsum", "xsum", "glue/cola", "glue/stsb", "glue/mnli", "glue/rte"])
        sides = to_score(rng, task)
        contents = [b"\n".join(side) + b"\n" for side in sides]
        fails = task in with_java and with_java[task] >= WITH_JAVA
        if fails:  # what cannot be scored: Java takes seconds to start
            side = rng.randrange(2)
            wrong = [
                b"",
                b"\xff" + contents[side],
                contents[side] + b"x\n\n\xc3\n",
                b"\n\n\n\n\n\n" + contents[side] * 9,
            ]
            contents[side] = rng.choice(
                wrong if side == 0 or task == "e2e" else [*wrong, b"[1]\n", b"{\n", b"[" * 99_999]
            )
        elif task not in with_java and rng.random() < 0.5:
            side = rng.randrange(2)
            contents[side] = broken_bytes(rng, contents[side])
        elif task in with_java:
            with_java[task] += 1
        for path, content in zip(paths, contents, strict=True):
            path.write_bytes(content)
        with told(number, lambda: (task, contents), seconds=300 if task in with_java and not fails else SECONDS):  # noqa: B023
            code = script.main([task, *map(str, paths)])
            out, err = capsys.readouterr()
            if code == 0:
                assert not fails and err == ""
                scores = json.loads(out)
                official = scores.pop("official")
                json.dumps(official, allow_nan=False)
                for metric, score in scores.items():  # TER counts edits per reference word: it alone has no upper bound
                    most = math.inf if metric.startswith("TER") else 100.001
                    assert math.isfinite(score) and -100.001 <= score <= most, scores
                scored += 1
            else:
                assert code == 2 and out == ""
                assert err.startswith("error: ") and err.count("\n") == 1
                refused += 1
    assert "FUZZ_CASES" in os.environ or (scored > 50 and refused > 100), (scored, refused)
