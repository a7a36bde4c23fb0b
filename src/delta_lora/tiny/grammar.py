"""A small text grammar: templates with alternatives and slots, expanded by a seeded random generator."""

import random
import re
from collections.abc import Mapping

_CHOICE = re.compile(r"\(([^()]*)\)")


def expand(template: str, rng: random.Random, values: Mapping[str, str] | None = None) -> str:
    """Expand ``template``: ``(a|b|)`` is one of its alternatives, ``{slot}`` is ``values[slot]``.

    Alternatives may nest, and are chosen before slots are filled, so a value may hold brackets. Runs of spaces become
    one, which lets a template have empty alternatives.

    Raises:
        KeyError: a slot of the chosen alternatives has no value.
    """
    while "(" in template:
        template = _CHOICE.sub(lambda match: rng.choice(match.group(1).split("|")), template)
    text = " ".join(template.format_map(values or {}).split())
    return text.replace(" ,", ",").replace(" .", ".")


def sentence(text: str) -> str:
    """``text`` with its first letter in upper case and a full stop at its end."""
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else text + "."


def article(noun_phrase: str) -> str:
    """``noun_phrase`` after "a" or "an"."""
    return ("an " if noun_phrase[:1].lower() in "aeiou" else "a ") + noun_phrase


def join(parts: list[str], last: str = "and") -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    if len(parts) < 2:
        return "".join(parts)
    return ", ".join(parts[:-1]) + f" {last} " + parts[-1]
