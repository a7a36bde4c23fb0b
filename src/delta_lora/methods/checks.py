"""Checks of a method's arguments, each ending in one clear line before anything is loaded."""

import math
from typing import Any

from delta_lora.errors import UserError


def integer(name: str, value: Any, minimum: int, maximum: int | None = None, why: str = "") -> None:
    """Raise :class:`UserError` unless ``value`` is an int with ``minimum`` ≤ value ≤ ``maximum``."""
    allowed = f"an integer ≥ {minimum}" if maximum is None else f"an integer from {minimum} to {maximum}"
    good = isinstance(value, int) and not isinstance(value, bool)
    if not good or value < minimum or (maximum is not None and value > maximum):
        raise UserError(f"method.{name} must be {allowed}{why and f' ({why})'}, got {value!r}")


def number(name: str, value: Any, minimum: float, maximum: float = math.inf, ends: str = "[]") -> None:
    """Raise :class:`UserError` unless ``value`` is a finite number from ``minimum`` to ``maximum``.

    ``ends`` says in interval notation which ends belong to the range: ``"[]"``, ``"(]"``, ``"[)"`` or ``"()"``.
    """
    above, below = ends[0] == "(", ends[1] == ")"
    allowed = f"{'>' if above else '≥'} {minimum:g}"
    if maximum != math.inf:
        allowed += f" and {'<' if below else '≤'} {maximum:g}"
    good = isinstance(value, int | float) and not isinstance(value, bool) and -math.inf < value < math.inf
    if good:
        good = (value > minimum if above else value >= minimum) and (value < maximum if below else value <= maximum)
    if not good:
        raise UserError(f"method.{name} must be a number {allowed}, got {value!r}")


def boolean(name: str, value: Any) -> None:
    """Raise :class:`UserError` unless ``value`` is true or false."""
    if not isinstance(value, bool):
        raise UserError(f"method.{name} must be true or false, got {value!r}")
