"""A table of texts alone, which every output formats."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Texts:
    """A table of texts alone; ``numeric``: the places of the columns that are set to the right."""

    heads: list[str]
    lines: list[list[str]]
    numeric: tuple[int, ...] = ()


def first_capital(text: str) -> str:
    """A text that begins a sentence; the rest stays as it is."""
    return text[:1].upper() + text[1:]
