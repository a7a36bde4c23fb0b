"""Are the numbers beside a scale's kept records those of their predictions, scored anew? (``make verify``)"""

import csv
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from html import escape
from io import StringIO
from pathlib import Path

from delta_lora.errors import UserError
from delta_lora.places import place
from delta_lora.suite.config.compose import composed, composing
from delta_lora.suite.config.grid import Grid, compose_grid
from delta_lora.suite.pages import claims_page, loading
from delta_lora.suite.pages.figure_page import rank_texts
from delta_lora.suite.pages.loading import ROOT
from delta_lora.suite.pages.markdown import markdown_entry, markdown_row
from delta_lora.suite.pages.render import bootstrap_of, texts_of
from delta_lora.suite.pages.view import table_view
from delta_lora.suite.records.records import Run, checked_run, name_of
from delta_lora.suite.tables import csv_file, figure3
from delta_lora.suite.tables.build import build_table
from delta_lora.suite.tables.claims import check_claims
from delta_lora.suite.tables.compare import resampler_of
from delta_lora.suite.tables.spec import names_with
from delta_lora.suite.tables.table import Table
from delta_lora.tasks.base import spread

ROUNDING = 1e-9  # relative: another machine may add numbers in another order
ESCAPED = re.compile(r"\\([\\|*_<>`])")  # by markdown.escape_markdown


@dataclass
class Verified:
    """What was looked at, and a line for each number or file that is not what it should be."""

    records: int = 0
    scored: int = 0
    pages: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def verify(overrides: Sequence[str], sample: int | None = None) -> Verified:
    """Hold every kept record of a scale against its seals and its predictions, and every table against the records.

    Args:
        overrides: ``["scale=laptop"]``, and ``results_dir=…`` where it is another.
        sample: so many records are scored anew, spread over all of them, and no resamples are drawn; None: all of it.

    Raises:
        UserError: there is nothing to verify.
        UserError, HydraException: the overrides name no scale.
    """
    with composing():
        here = composed([*overrides, "data_dir=null"])
    results = place("results_dir", here.results_dir)
    found = Verified()
    runs = []
    for folder in sorted((results / here.scale.name / "runs").glob("*/")):
        found.records += 1
        try:
            runs.append(checked_run(folder))
        except (FileNotFoundError, ValueError) as error:
            found.wrong.append(f"{named(folder)}: {error}")
    chosen = {run.key for run in spread(runs, sample)}
    runs = [scored_anew(run, found) if run.key in chosen else run for run in runs]
    tables: list[Table] = []
    numbers: dict[str, list[str]] = {}
    for name in names_with("table"):
        page = results / here.scale.name / f"{name}.md"
        if page.is_file():
            found.pages.append(name)
            tables.append(build_table(grid_of(page, here.scale.name, results), runs))
            found.wrong += check_table(tables[-1], page, whole=sample is None)
            numbers[name] = scores_of(tables[-1])
    for name in names_with("figure"):
        page = results / here.scale.name / f"{name}.md"
        if page.is_file():
            found.pages.append(name)
            frame = figure3.build_figure3(grid_of(page, here.scale.name, results), runs).frame
            made = figure3.to_csv(frame) if len(frame) else ""
            found.wrong += differences(page.with_suffix(".csv"), made, ("label", "seed", "module"))
            numbers[name] = [text for line in rank_texts(frame).lines for text in line[1:5]] if made else []
    if not (found.records or found.pages):
        raise UserError(f"{results / here.scale.name} has neither kept records nor a rendered table: nothing to verify")
    report, claims = (results / here.scale.name / name for name in ("report.html", "claims.md"))
    if report.is_file():
        found.pages.append("report")
        shown = report.read_text(encoding="utf-8")
        found.wrong += lacking(report.name, shown, numbers, f"make report SCALE={here.scale.name}")
    if results == ROOT / "results" and (notebooks := sorted((ROOT / "notebooks").glob("*.ipynb"))):
        found.pages.append("notebooks")
        shown = "".join(map(outputs_of, notebooks))
        largest = {name: texts for name, texts in numbers.items() if loading.scale(f"{name}.csv") == here.scale.name}
        found.wrong += lacking("notebooks", shown, largest, "make notebooks")
    if claims.is_file() and sample is None:
        found.pages.append("claims")
        found.wrong += check_claims_page(claims, here.scale.name, results, runs)
    return found


def named(folder: Path) -> str:
    """What a record's cell is called, as far as it can be read, and its key."""
    with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        return f"{name_of(json.loads((folder / 'run.json').read_text(encoding='utf-8'))['config'])} ({folder.name})"
    return folder.name


def scored_anew(run: Run, found: Verified) -> Run:
    """The run with the scores that its predictions have; notes in ``found`` where its record has others."""
    found.scored += 1
    try:
        scores = resampler_of(run).score()
    except UserError as error:
        found.wrong.append(f"{run.name} ({run.key}): {error}")
        return run
    for name, stated in run.metrics.items():
        if not (name in scores and same(repr(stated), repr(float(scores[name])))):
            given = f"{scores[name]}" if name in scores else "none"
            found.wrong.append(f"{run.name} ({run.key}), {name}: {stated} in run.json, {given} from its predictions")
    return replace(run, metrics={name: float(scores.get(name, math.nan)) for name in run.metrics})


def grid_of(page: Path, scale: str, results: Path) -> Grid:
    """The grid that a page was rendered from: its seeds and overrides stand on it.

    Raises:
        UserError: they do not.
    """
    text = page.read_text(encoding="utf-8")
    seeds = re.search(r" · Seeds?: ([0-9, ]+)", text)
    if seeds is None:
        raise UserError(f"{page} does not say of which seeds it is; render it anew: make {page.stem} SCALE={scale}")
    extra = re.search(r" · Overrides: (.*?) · ", text)
    words = [f"table={page.stem}", f"scale={scale}", f"seed={seeds[1].replace(' ', '')}"]
    words += ESCAPED.sub(r"\1", extra[1]).split() if extra else []
    return replace(compose_grid([*words, f"results_dir={results}", "data_dir=null"]), overrides=tuple(words))


def check_table(table: Table, page: Path, *, whole: bool) -> list[str]:
    """Where a table's files differ from what its records give.

    Args:
        table: from the records.
        page: its Markdown file; the others lie beside it.
        whole: every line of them, so with the intervals of its claims; else its cells.
    """
    wrong = differences(page.with_suffix(".csv"), csv_file.to_csv(table), ("row",))
    text = page.read_text(encoding="utf-8")
    if not whole:
        lines = [markdown_row([markdown_entry(entry) for entry in line]) for line in table_view(table).lines]
        missing = [line for line in lines if line not in text.splitlines()]
        return wrong + [f"{page.name}: there is no line {line!r}, which the records give" for line in missing]
    view = table_view(table, check_claims(table, bootstrap_of(table.grid)))
    for suffix, made in texts_of(table, view).items():
        if suffix != "csv":
            wrong += line_differences(page.with_suffix(f".{suffix}"), made)
    return wrong


def scores_of(table: Table) -> list[str]:
    """A table's scores as they are shown, whatever seeds were asked for."""
    entries = [entry for line in table_view(table).lines for entry in line if entry.value is not None]
    return [entry.text.partition(" (")[0] for entry in entries]


def lacking(page: str, shown: str, numbers: Mapping[str, Iterable[str]], command: str) -> Iterator[str]:
    """The numbers of tables and figures that a page lacks: it was made before they were."""
    for name, texts in numbers.items():
        for text in dict.fromkeys(texts):
            if escape(text) not in shown:
                yield f"{page}: there is no {text}, which {name} has; {command}"


def outputs_of(notebook: Path) -> str:
    """The HTML that a notebook's cells show.

    Raises:
        UserError: it is no notebook.
    """
    try:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        outputs = [output for cell in cells for output in cell.get("outputs", [])]
        return "".join("".join(output.get("data", {}).get("text/html", "")) for output in outputs)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{notebook} is no notebook that can be read ({error}); git checkout it") from None


def check_claims_page(page: Path, scale: str, results: Path, runs: Sequence[Run]) -> Iterator[str]:
    """Where the page of the paper's sentences differs from what the records give."""
    seeds = re.search(r"^From \d+ runs, seeds ([0-9, ]+)\.$", page.read_text(encoding="utf-8"), re.MULTILINE)
    asked = "1" if seeds is None else seeds[1].replace(" ", "")
    grids = claims_page.paper_grids([f"scale={scale}", f"seed={asked}", f"results_dir={results}", "data_dir=null"])
    sentences = claims_page.collect(grids, runs)
    yield from line_differences(page, claims_page.page(sentences, grids[0]))
    made = claims_page.to_csv(sentences.sentences)
    yield from differences(page.with_suffix(".csv"), made, ("where", "sentence", "Comparison"))


def same(one: str, other: str) -> bool:
    """Equal texts, or such whose words (``1=62.5 2=61.9``) are equal, numbers but for `ROUNDING`."""
    words, others = (re.split("[ =]", text) for text in (one, other))
    return one == other or (len(words) == len(others) and all(map(same_word, words, others)))


def same_word(one: str, other: str) -> bool:
    """Equal words, or equal numbers but for `ROUNDING`."""
    try:
        return one == other or math.isclose(float(one), float(other), rel_tol=ROUNDING)
    except ValueError:
        return False


def differences(path: Path, made: str, names: Sequence[str]) -> list[str]:
    """The cells of a CSV file that are not those of ``made``; the columns ``names`` name its rows."""
    shown, expected = rows_of(path.read_text(encoding="utf-8") if path.is_file() else "", names), rows_of(made, names)
    wrong = []
    for name in {**shown, **expected}:
        stated, given = shown.get(name, {}), expected.get(name, {})
        for column in {**stated, **given}:
            pair = stated.get(column, ""), given.get(column, "")
            if not same(*pair):
                wrong.append(f"{path.name}: {name}, {column}: {pair[0] or 'nothing'}, not {pair[1] or 'nothing'}")
    return wrong


def rows_of(text: str, names: Sequence[str]) -> dict[str, Mapping[str, str]]:
    """The lines of a CSV file by their names."""
    return {" / ".join(line.get(name, "") for name in names): line for line in csv.DictReader(StringIO(text))}


def line_differences(path: Path, made: str) -> Iterator[str]:
    """The lines of a text file that are not those of ``made``; of a Markdown table the cells."""
    shown = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    expected = made.splitlines()
    if len(shown) != len(expected):
        yield f"{path.name}: {len(shown)} lines, not {len(expected)}"
        return
    heads: list[str] = []
    for number, (stated, given) in enumerate(zip(shown, expected, strict=True), 1):
        cells, ours = (line.strip("| ").split(" | ") for line in (stated, given))
        heads = [] if not given.startswith("| ") else heads or ours
        if stated != given and heads and len(cells) == len(ours) == len(heads):
            yield from cell_differences(f"{path.name}: {ours[0]}", zip(heads, cells, ours, strict=True))
        elif stated != given:
            yield f"{path.name}, line {number}: {stated!r}, not {given!r}"


def cell_differences(row: str, cells: Iterable[tuple[str, str, str]]) -> Iterator[str]:
    """Of a row: heading, what is shown and what is right, where they differ."""
    for head, stated, given in cells:
        if stated != given:
            yield f"{row}, {head}: {stated}, not {given}"
