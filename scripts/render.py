"""Render tables, figures and claims from finished runs; nothing is trained.

    python scripts/render.py table1 scale=tiny
    python scripts/render.py table1 table5 figure3 scale=paper seed=1,2,3
    python scripts/render.py tables scale=tiny        # all of it
    python scripts/render.py report scale=tiny        # run the notebooks, write one page

Bare words are what to render: a table or figure by its file in configs/table (table1, figure3, one of your own),
claims, examples (outputs side by side), tables (all of these), report, notebooks (run them in place; without scale=
each table at the largest scale that has it), check (whether this machine can train the scale, and its tables). The rest
are the overrides that `scripts/train.py -m` was given. A page that was made from more runs than there are now is kept,
unless force=true is given.
Everything is written below <results_dir>/<scale>/, tables and claims are printed too.
"""

import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from delta_lora.suite.cli import one_line, per_table, words_main
from delta_lora.suite.config.compose import MISTAKES

Rendered = tuple[list[Any], list[str], list[Path]]  # what to print, what was left out and why, the files


def table(overrides: Sequence[str], force: bool) -> Rendered:
    """One table, with its shape and its claims."""
    from delta_lora.suite.pages.render import render_table  # imported late: --help answers at once
    from delta_lora.suite.pages.terminal import terminal
    from delta_lora.suite.tables.choice import preset_lines, said

    found, view, paths = render_table(overrides, force)
    return [terminal(view), *said(found), *preset_lines(found)], found.problems, paths


def figure(overrides: Sequence[str], force: bool) -> Rendered:
    """Figure 3, or another of its kind."""
    from delta_lora.suite.pages.figure_page import render_figure3, title
    from delta_lora.suite.tables.table import comparable

    found, claims, paths = render_figure3(overrides, force)
    ours = comparable(found.grid)
    return [title(found), *(f"{c.claim.says}: {c.verdict.text(ours)}." for c in claims)], found.problems, paths


def claims(overrides: Sequence[str], force: bool) -> Rendered:
    """All claims."""
    from delta_lora.suite.pages.claims_page import render_claims, tally

    sentences, problems, paths = render_claims(overrides, force)
    lines = [f"{s.verdict:>14}: {s.says} ({s.place})" for s in sentences]
    return [*lines, f"{tally(sentences)}."], problems, paths


def examples(overrides: Sequence[str], force: bool) -> Rendered:
    """Outputs side by side."""
    from delta_lora.suite.pages.examples import render_examples

    _, problems, paths = render_examples(overrides, force=force)
    return [], problems, paths


def report(overrides: Sequence[str], force: bool) -> Rendered:
    """The notebooks as one page."""
    from delta_lora.suite.pages.report import render_report

    return [], [], render_report(overrides, force=force)


def notebooks(overrides: Sequence[str], force: bool) -> Rendered:
    """The notebooks themselves, run in place."""
    from delta_lora.suite.pages.report import run_in_place

    return [], [], run_in_place(overrides, force=force)


def check(overrides: Sequence[str], _: bool) -> Rendered:
    """Whether this machine can train the scale's cells, and its tables: for `make tables`, which asks once."""
    from delta_lora.suite.config.grid import compose_grid
    from delta_lora.suite.config.settings import check_device

    check_device(compose_grid(["table=table1", "method=lora", *overrides]).config)
    return [" ".join(table.removeprefix("table=") for table, *_ in per_table(["all", *overrides]))], [], []


EVERYTHING = ("all", "claims", "examples")  # all: what is in configs/table
OTHERS: dict[str, Callable[[Sequence[str], bool], Rendered]] = {
    "claims": claims,
    "examples": examples,
    "report": report,
    "notebooks": notebooks,
    "check": check,
}


def render(overrides: Sequence[str], console: Console, force: bool) -> None:
    """Render one thing: the first of the overrides names it."""
    from delta_lora.suite.tables.spec import names_with

    name = overrides[0].removeprefix("table=") if overrides else "table"
    with console.status(f"{name}: reading runs, resampling test items"):
        if name in OTHERS:
            parts, problems, paths = OTHERS[name](overrides[1:], force)
        else:
            parts, problems, paths = (figure if name in names_with("figure") else table)(overrides, force)
    for problem in problems:
        print(f"warning: {problem}", file=sys.stderr)
    for part in parts:
        console.print(part, highlight=False)
    if paths:
        console.print(f"Written: {', '.join(map(str, paths))}", highlight=False, soft_wrap=True)


def main(arguments: list[str]) -> None:
    """Render everything asked for; what cannot be rendered does not stop the others."""
    console = Console(width=None if sys.stdout.isatty() else 140)
    force = "force=true" in arguments
    arguments = [word for word in arguments if word != "force=true"]
    wanted = per_table([word for given in arguments for word in (EVERYTHING if given == "tables" else [given])])
    mistakes: list[BaseException] = []
    for overrides in wanted:
        try:
            render(overrides, console, force)
        except MISTAKES as error:
            if len(wanted) == 1:
                raise
            mistakes.append(error)
            print(f"error: {one_line(error)}", file=sys.stderr)
    if mistakes:
        raise SystemExit(2)


if __name__ == "__main__":
    logging.basicConfig(format="warning: %(message)s", level=logging.WARNING)
    sys.exit(words_main(__doc__, "NAME or OVERRIDE", main))
