"""Rendered files that hold more than what is about to take their place are kept: runs are not in the repository."""

import json
import re
from pathlib import Path

from delta_lora.errors import UserError

NUMBER = re.compile(r"<td[^>]*>\s*(?:<strong>)?[+-]?\d")  # a cell of a table in HTML, also within a notebook's JSON
RUNS = re.compile(r"(?:Runs: |^From )(\d+) (?:of|runs)", re.MULTILINE)


def check_fuller(page: Path, runs: int, force: bool) -> None:
    """A page on disk is not of more runs than the one that is about to take its place.

    Args:
        page: a table's, a figure's or the claims' Markdown page; there need not be one.
        runs: how many the new one is made from.
        force: it may be.

    Raises:
        UserError: it is of more.
    """
    found = RUNS.search(page.read_text(encoding="utf-8")) if page.is_file() and not force else None
    if found is not None and int(found[1]) > runs:
        raise kept(page, f"is made from {found[1]} runs and there are {runs} now")


def check_outputs(path: Path, text: str, force: bool) -> None:
    """As :func:`check_fuller`, of ``examples.json`` and what is to be written there: runs whose outputs it shows."""
    before, now = (shown(old) for old in (path.read_text(encoding="utf-8") if path.is_file() else "[]", text))
    if before > now and not force:
        raise kept(path, f"shows outputs of {before} runs and there are {now} now")


def check_numbers(path: Path, text: str, force: bool) -> None:
    """As :func:`check_fuller`, of a notebook or the report and what is to be written there: numbers in its tables."""
    before = len(NUMBER.findall(path.read_text(encoding="utf-8"))) if path.is_file() else 0
    now = len(NUMBER.findall(text))
    if before > now and not force:
        raise kept(path, f"shows {before} numbers and would show {now} now")


def shown(text: str) -> int:
    """How many runs' outputs stand in the text of an ``examples.json``; 0 in a damaged one."""
    try:
        return sum(len(task["items"][0]["outputs"]) for task in json.loads(text))
    except (ValueError, LookupError, TypeError):
        return 0


def kept(path: Path, why: str) -> UserError:
    """What to tell of a file that is kept."""
    return UserError(
        f"{path} {why}, so it is kept; train the others, set results_dir to another folder, or replace it with "
        "force=true (make: FORCE=1)"
    )
