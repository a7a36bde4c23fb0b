"""Markdown: rows, tables, and text that must not be read as markup."""

from collections.abc import Container, Sequence


def markdown_row(cells: Sequence[str]) -> str:
    """One line of a markdown table."""
    return f"| {' | '.join(cells)} |"


def markdown_table(heads: Sequence[str], lines: Sequence[Sequence[str]], numeric: Container[int] = ()) -> list[str]:
    """The lines of a table of plain text; the columns in ``numeric`` are set to the right."""
    rule = ["--:" if place in numeric else ":--" for place in range(len(heads))]
    body = [markdown_row([escape_markdown(text) for text in line]) for line in lines]
    return [markdown_row(heads), markdown_row(rule), *body]


def escape_markdown(text: str) -> str:
    """Text that markdown would read as markup: ``W_q``, ``a|b``, ``*``."""
    for character in "\\|*_<>`":
        text = text.replace(character, f"\\{character}")
    return text
