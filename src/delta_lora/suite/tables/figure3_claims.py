"""The sentences about Figure 3 held against its blocks."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from delta_lora.suite.tables.claims import overall
from delta_lora.suite.tables.compare import Verdict
from delta_lora.suite.tables.figure3 import Figure3, SimilarityClaim

RESAMPLES = 1000


@dataclass(frozen=True)
class Share:
    """In how many of a projection's blocks one method is the most, or the least, similar.

    share: of the blocks, mean over seeds; None where a method has no run. low, high: its 95 % interval when blocks
    (and seeds) are drawn anew.
    """

    projection: str
    blocks: int
    seeds: int
    share: float | None = None
    low: float = math.nan
    high: float = math.nan

    @property
    def verdict(self) -> Verdict:
        """Whether it is most of the blocks: the interval lies above a half, below it, or holds it."""
        if self.share is None:
            return "not run"
        if self.low > 0.5:
            return "reproduced"
        return "not reproduced" if self.high < 0.5 else "within noise"


@dataclass(frozen=True)
class CheckedSimilarity:
    """One sentence and how it fared, for W_q and for W_v."""

    claim: SimilarityClaim
    shares: list[Share]

    @property
    def verdict(self) -> Verdict:
        """Of the sentence as a whole."""
        return overall([share.verdict for share in self.shares])


def check_similarity(figure: Figure3) -> list[CheckedSimilarity]:
    """Hold the paper's sentences against the figure's numbers."""
    return [
        CheckedSimilarity(claim, [share_of(figure.frame, claim, projection) for projection in ("q", "v")])
        for claim in figure.spec.claims
    ]


def share_of(frame: pd.DataFrame, claim: SimilarityClaim, projection: str) -> Share:
    """In how many blocks ``claim.method`` lies beyond the others of ``claim.among``, over the seeds that all have."""
    if frame.empty:
        return Share(projection, 0, 0)
    methods = list(dict.fromkeys([claim.method, *claim.among]))
    part = frame[frame["projection"] == projection]
    wide = part.pivot(index=["seed", "block"], columns="method", values="cosine")
    if any(method not in wide.columns for method in methods):
        return Share(projection, part["block"].nunique(), 0)
    wide = wide[methods].dropna()
    others = wide.drop(columns=claim.method)
    beyond = wide[claim.method] > others.max(axis=1) if claim.highest else wide[claim.method] < others.min(axis=1)
    table = beyond.astype(float).unstack("block").dropna()  # (seeds, blocks)
    if table.empty:
        return Share(projection, part["block"].nunique(), 0)
    seeds, blocks = table.shape
    rng = np.random.default_rng([0, seeds, blocks])
    drawn = table.to_numpy()[
        rng.integers(seeds, size=(RESAMPLES, seeds, 1)), rng.integers(blocks, size=(RESAMPLES, 1, blocks))
    ]
    low, high = np.percentile(drawn.mean(axis=(1, 2)), [2.5, 97.5])
    return Share(projection, blocks, seeds, float(table.to_numpy().mean()), float(low), float(high))


def share_texts(checked: CheckedSimilarity, share: Share) -> list[str]:
    """What is compared, the paper's number, ours, its interval and the verdict, under a page's heads of claims."""
    claim = checked.claim
    what = f"{claim.method} {'highest' if claim.highest else 'lowest'}, W_{share.projection}"
    if share.share is None:
        return [what, "most blocks (no numbers)", "not run", "–", share.verdict]
    ours = f"{100 * share.share:.0f} % of {share.blocks} blocks" + (f", {share.seeds} seeds" if share.seeds > 1 else "")
    interval = f"{100 * share.low:.0f} to {100 * share.high:.0f} %"
    return [what, "most blocks (no numbers)", ours, interval, share.verdict]
