"""The world that all text of the tiny scale tells of (``world.yaml``, ``events.yaml``), and its small text grammar."""

import random
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import yaml

_CHOICE = re.compile(r"\(([^()]*)\)")
_T = TypeVar("_T")


@cache
def world() -> dict[str, Any]:
    """The content of ``world.yaml`` and, under ``events``, of ``events.yaml``."""
    folder = Path(__file__).parent
    read = [yaml.safe_load((folder / name).read_text(encoding="utf-8")) for name in ("world.yaml", "events.yaml")]
    return {**read[0], "events": read[1]}


@cache
def words(names: str) -> list[str]:
    """The words of one of the world's lists, or of several ("colour quality")."""
    return [word for name in names.split() for word in world()["words"][name].split()]


class Values(dict[str, str]):
    """Slot → value, made when it is first asked for: a word of a list, a number of a range, or a template filled.

    Two slots never have the same word. A slot in capitals ("Thing") is that in small letters ("thing") in capitals.
    """

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self._rng = rng

    def __missing__(self, slot: str) -> str:
        if slot != slot.lower():
            return self[slot.lower()].title()
        made = world()["slots"].get(slot, slot)
        if "{" in made:
            value = expand(made, self._rng, self)
        elif made[0].isdigit():
            value = str(self._rng.randint(*map(int, made.split("-"))))
        else:
            taken = set(self.values())
            value = self._rng.choice([word for word in words(made) if word not in taken])
        self[slot] = value
        return value


def expand(template: str, rng: random.Random, values: Mapping[str, str] | None = None) -> str:
    """Expand ``template``: ``(a|b|)`` is one of its alternatives, ``{slot}`` is ``values[slot]``.

    Alternatives may nest, and are chosen before slots are filled, so a value may hold brackets. Runs of spaces become
    one, which lets a template have empty alternatives.

    Raises:
        KeyError: a slot of the chosen alternatives has no value.
    """
    while "(" in template:
        template = _CHOICE.sub(lambda match: rng.choice(match.group(1).split("|")), template)
    text = " ".join(template.format_map({} if values is None else values).split())
    return text.replace(" ,", ",").replace(" .", ".")


def sentence(text: str) -> str:
    """``text`` with a capital at its start, also inside a quotation mark, and a full stop at its end."""
    quoted = text.startswith('"')
    text = text[:quoted] + text[quoted : quoted + 1].upper() + text[quoted + 1 :]
    return text if text.endswith((".", "!", "?")) else text + "."


def article(noun_phrase: str) -> str:
    """``noun_phrase`` after "a" or "an"."""
    return ("an " if noun_phrase[:1].lower() in "aeiou" else "a ") + noun_phrase


def join(parts: list[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def different(count: int, make: Callable[[], _T], taken: set[Any], key: Callable[[_T], Any]) -> list[_T]:
    """``count`` things of ``make`` whose ``key`` is not yet among ``taken``, to which it is added."""
    found: list[_T] = []
    while len(found) < count:
        made = make()
        if key(made) not in taken:
            taken.add(key(made))
            found.append(made)
    return found
