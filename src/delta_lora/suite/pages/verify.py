"""Are the numbers beside a scale's kept records those of their predictions, scored anew? (``make verify``)"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from html import unescape
from pathlib import Path
from typing import Any

from delta_lora.errors import UserError
from delta_lora.places import place
from delta_lora.suite.config.compose import composed, composing
from delta_lora.suite.config.grid import Grid, compose_grid
from delta_lora.suite.pages import claims_page, figure_page, loading
from delta_lora.suite.pages.differences import differences, line_differences, same
from delta_lora.suite.pages.examples import example_grids, examples_of, to_json
from delta_lora.suite.pages.html import examples_html, table_html, texts_html
from delta_lora.suite.pages.loading import ROOT
from delta_lora.suite.pages.markdown import markdown_entry, markdown_row
from delta_lora.suite.pages.provenance import asked_on
from delta_lora.suite.pages.render import bootstrap_of, texts_of
from delta_lora.suite.pages.view import table_view
from delta_lora.suite.records.records import Run, checked_run, name_of
from delta_lora.suite.tables import csv_file, figure3
from delta_lora.suite.tables.build import build_table
from delta_lora.suite.tables.claims import check_claims
from delta_lora.suite.tables.compare import resampler_of
from delta_lora.suite.tables.figure3_claims import check_similarity
from delta_lora.suite.tables.spec import names_with
from delta_lora.suite.tables.table import Table
from delta_lora.tasks.base import spread


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
    shown: dict[str, str] = {}
    for name in names_with("table"):
        if (page := whole_page(results / here.scale.name / f"{name}.md", (".csv", ".tex"), found)) is not None:
            found.pages.append(name)
            table = build_table(grid_of(page, here.scale.name, results), runs)
            found.wrong += check_table(table, page, whole=sample is None)
            shown[name] = table_html(table_view(table))
    for name in names_with("figure"):
        if (page := whole_page(results / here.scale.name / f"{name}.md", (".csv",), found)) is not None:
            found.pages.append(name)
            figure = figure3.build_figure3(grid_of(page, here.scale.name, results), runs)
            frame = figure.frame
            made = figure3.to_csv(frame) if len(frame) else ""
            if made:
                found.wrong += line_differences(page, figure_page.page(figure, check_similarity(figure)))
                shown[name] = texts_html(figure_page.rank_texts(frame))
            found.wrong += differences(page.with_suffix(".csv"), made, ("label", "seed", "module"))
    examples = results / here.scale.name / "examples.json"
    if examples.is_file():
        found.pages.append("examples")
        found.wrong += check_examples(examples, here.scale.name, results, runs)
        shown["examples"] = "".join(examples_html(task["items"]) for task in read_examples(examples))
    if not (found.records or found.pages):
        raise UserError(f"{results / here.scale.name} has neither kept records nor a rendered table: nothing to verify")
    report = results / here.scale.name / "report.html"
    if report.is_file():
        found.pages.append("report")
        text = report.read_text(encoding="utf-8")
        found.wrong += lacking(report.name, text, shown, f"make report SCALE={here.scale.name}")
    if results == ROOT / "results" and (notebooks := sorted((ROOT / "notebooks").glob("*.ipynb"))):
        found.pages.append("notebooks")
        text = "".join(map(outputs_of, notebooks))
        ends = {"examples": "json"}
        largest = {
            name: html
            for name, html in shown.items()
            if loading.scale(f"{name}.{ends.get(name, 'csv')}") == here.scale.name
        }
        found.wrong += lacking("notebooks", text, largest, "make notebooks")
    claims = whole_page(results / here.scale.name / "claims.md", (".csv",), found)
    if claims is not None and sample is None:
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
    asked = asked_on(page.read_text(encoding="utf-8"))
    if not asked:
        raise UserError(f"{page} does not say of which seeds it is; render it anew: make {page.stem} SCALE={scale}")
    words = [f"table={page.stem}", f"scale={scale}", *asked]
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


def read_examples(file: Path) -> list[dict[str, Any]]:
    """What ``examples.json`` shows.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return [{"seed": task["seed"], "items": list(task["items"])} for task in json.loads(file.read_text("utf-8"))]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} cannot be read ({error}); git checkout it") from None


def check_examples(file: Path, scale: str, results: Path, runs: Sequence[Run]) -> Iterator[str]:
    """Where the shown texts differ from those of the records."""
    seeds = {str(task["seed"]) for task in read_examples(file)}
    words = [f"scale={scale}", f"seed={','.join(sorted(seeds)) or 1}", f"results_dir={results}", "data_dir=null"]
    yield from line_differences(file, to_json(examples_of(example_grids(words), runs, [])))


def whole_page(page: Path, suffixes: Sequence[str], found: Verified) -> Path | None:
    """A rendered page; None where there is none. That is noted in ``found`` as wrong if other files of it are there.

    Args:
        suffixes: of the files that are written with it.
    """
    files = [page, *map(page.with_suffix, suffixes)]
    missing = [file.name for file in files if not file.is_file()]
    if len(missing) == len(files):
        return None
    found.wrong += [f"{name} is missing; make {page.stem} SCALE={page.parent.name}" for name in missing]
    return page if not missing else None


def lacking(page: str, text: str, shown: Mapping[str, str], command: str) -> Iterator[str]:
    """What of tables, as HTML, a page in HTML lacks: it was made before they were, or was changed.

    A table has to be there as a whole, since two may share a line (LoRA's of Tables 1 and 5).
    """
    there = set(html_tables(text))
    lines = {line for table in there for line in table}
    for name, html in shown.items():
        for table in html_tables(html):
            missing = [f"line {' | '.join(line)!r}" for line in table if line not in lines]
            for what in [] if table in there else missing or ["whole table"]:
                yield f"{page}: there is no {what} of {name}, which the records give; {command}"


def html_tables(text: str) -> Iterator[tuple[tuple[str, ...], ...]]:
    """The tables in HTML, each by the texts of the cells of its lines."""
    for table in re.findall(r"<table.*?</table>", text, re.DOTALL):
        lines = re.findall(r"<tr[^>]*>(.*?)</tr>", table, re.DOTALL)
        rows = (re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", line, re.DOTALL) for line in lines)
        yield tuple(tuple(" ".join(unescape(re.sub(r"<[^>]*>", "", cell)).split()) for cell in row) for row in rows)


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
