"""Where a file is not what it should be: cells of a CSV file, lines of a page, numbers but for rounding."""

import csv
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import StringIO
from pathlib import Path

ROUNDING = 1e-9  # relative: another machine may add numbers in another order


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
