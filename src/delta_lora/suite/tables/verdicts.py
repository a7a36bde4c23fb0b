"""What a sentence's comparisons allow to say: verdicts, and from how many seeds on (docs/statistics.md)."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from delta_lora.suite.tables.gain import ENOUGH_POWER, LEVEL, Gain, Region, holm

Outcome = Literal["holds", "fails", "undecided", "undecidable", "few runs", "not run", "not borne out"]

PROVISIONAL, FULL = 3, 5  # seeds from which on there is a verdict, and one without that word


@dataclass(frozen=True)
class Verdict:
    """How a comparison, or a sentence, fared.

    seeds: the fewest that any of its comparisons has; 0 where one is not run. power: where the test set cannot decide,
    how likely it would show the paper's gain with any number of seeds.
    """

    outcome: Outcome
    seeds: int = 0
    power: float | None = None

    def text(self, comparable: bool) -> str:
        """In words; ``comparable``: whether ours may be held against the paper."""
        said = {
            "holds": "reproduced" if comparable else "holds here",
            "fails": "not reproduced" if comparable else "does not hold here",
            "undecidable": "cannot be decided with this test set",
            "few runs": "1 run: difference, item interval" if self.seeds == 1 else f"{self.seeds} runs: no verdict",
            "not borne out": "the paper's own table does not bear it out",
        }.get(self.outcome, self.outcome)
        judged = self.outcome in ("holds", "fails", "undecided", "undecidable")
        notes = [] if self.power is None else [f"power {self.power:.2f}"]
        notes += ["provisional"] if judged and self.seeds < FULL else []
        return f"{said} ({', '.join(notes)})" if notes else said


@dataclass(frozen=True)
class Judged:
    """One comparison: our gain, where the sentence says that it lies, and the paper's; None where there is none."""

    gain: Gain | None
    region: Region
    paper: float | None = None


def judge(comparisons: Sequence[Judged], quantifier: str) -> tuple[Verdict, list[Verdict]]:
    """The verdict on a sentence, and those on its comparisons.

    ``all``: it holds if every comparison's one-sided 95 % bounds lie inside its region; it fails if a bound lies
    outside after Holm's adjustment over all comparisons. ``any``: the reverse. A sentence that is neither is
    undecided; if what is undecided of it has too little power even with any number of seeds, it cannot be decided.
    """
    enough = [one.gain if one.gain is not None and one.gain.seeds >= PROVISIONAL else None for one in comparisons]
    pairs = list(zip(enough, comparisons, strict=True))
    inside = [1.0 if gain is None else gain.inside(one.region) for gain, one in pairs]
    outside = [1.0 if gain is None else gain.outside(one.region) for gain, one in pairs]
    if quantifier == "all":
        outside = holm(outside)
    else:
        inside = holm(inside)
    found = [verdict_of(one, *p_values) for one, *p_values in zip(comparisons, inside, outside, strict=True)]
    return of_sentence(found, quantifier), found


def verdict_of(one: Judged, inside: float, outside: float) -> Verdict:
    """On one comparison, from its p values."""
    if one.gain is None:
        return Verdict("not run")
    seeds = one.gain.seeds
    if seeds < PROVISIONAL:
        return Verdict("few runs", seeds)
    if inside < LEVEL:
        return Verdict("holds", seeds)
    if outside < LEVEL:
        return Verdict("fails", seeds)
    # A paper's gain that lies outside, where its own table does not bear the sentence out, is nothing to be shown.
    paper = one.paper if one.paper is not None and one.region.holds(one.paper) else None
    power = None if paper is None else one.gain.power(one.region, paper)
    if power is not None and power < ENOUGH_POWER:
        return Verdict("undecidable", seeds, power)
    return Verdict("undecided", seeds)


def of_sentence(found: Sequence[Verdict], quantifier: str) -> Verdict:
    """On the sentence whose comparisons ended so."""
    outcomes = [verdict.outcome for verdict in found]
    seeds = min(verdict.seeds for verdict in found)
    one, other = ("fails", "holds") if quantifier == "all" else ("holds", "fails")
    if one in outcomes:  # one comparison is enough
        decided = min(verdict.seeds for verdict in found if verdict.outcome == one)
        return Verdict("fails" if one == "fails" else "holds", decided)
    if "not run" in outcomes:
        return Verdict("not run")
    if "few runs" in outcomes:
        return Verdict("few runs", seeds)
    if all(outcome == other for outcome in outcomes):
        return Verdict("holds" if other == "holds" else "fails", seeds)
    powers = [verdict.power for verdict in found if verdict.outcome == "undecidable" and verdict.power is not None]
    if powers and (quantifier == "all" or "undecided" not in outcomes):
        return Verdict("undecidable", seeds, min(powers) if quantifier == "all" else max(powers))
    return Verdict("undecided", seeds)


def counts(texts: Iterable[str]) -> str:
    """``3 reproduced, 2 undecided`` of verdicts in words, whatever stands in brackets behind them."""
    words = [text.partition(" (")[0] for text in texts]
    # "1 run: difference, item interval" and the like: what they share
    counted = Counter("with too few runs" if word[0].isdigit() else word for word in words)
    return ", ".join(f"{count} {word}" for word, count in counted.items())
