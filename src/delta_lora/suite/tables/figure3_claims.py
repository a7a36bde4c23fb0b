"""The sentences about Figure 3 held against its blocks."""

from dataclasses import dataclass

import pandas as pd

from delta_lora.suite.tables.figure3 import Figure3, SimilarityClaim
from delta_lora.suite.tables.gain import Gain, Region
from delta_lora.suite.tables.verdicts import Judged, Verdict, judge

HALF = 50.0  # per cent: more is most of the blocks


@dataclass(frozen=True)
class Share:
    """In how many of a projection's blocks one method is the most, or the least, similar.

    above: the share less a half, in per cent, over seeds, with blocks in the place of test items; None where a method
    has no run.
    """

    projection: str
    blocks: int
    above: Gain | None
    verdict: Verdict


@dataclass(frozen=True)
class CheckedSimilarity:
    """One sentence, how it fared for W_q and for W_v, and the verdict on it."""

    claim: SimilarityClaim
    shares: list[Share]
    verdict: Verdict


def check_similarity(figure: Figure3) -> list[CheckedSimilarity]:
    """Hold the paper's sentences against the figure's numbers."""
    return [check_sentence(figure.frame, claim) for claim in figure.spec.claims]


def check_sentence(frame: pd.DataFrame, claim: SimilarityClaim) -> CheckedSimilarity:
    """One sentence: it holds if it does for both projections."""
    found = {projection: share_of(frame, claim, projection) for projection in ("q", "v")}
    verdict, each = judge([Judged(gain, Region(low=0)) for _, gain in found.values()], "all")
    shares = [
        Share(projection, blocks, gain, one)
        for (projection, (blocks, gain)), one in zip(found.items(), each, strict=True)
    ]
    return CheckedSimilarity(claim, shares, verdict)


def share_of(frame: pd.DataFrame, claim: SimilarityClaim, projection: str) -> tuple[int, Gain | None]:
    """How many blocks there are, and in how many more than half of them ``claim.method`` lies beyond ``claim.among``.

    In per cent, over the seeds that all of the methods have.
    """
    if frame.empty:
        return 0, None
    methods = list(dict.fromkeys([claim.method, *claim.among]))
    part = frame[frame["projection"] == projection]
    wide = part.pivot(index=["seed", "block"], columns="method", values="cosine")
    if any(method not in wide.columns for method in methods):
        return part["block"].nunique(), None
    wide = wide[methods].dropna()
    others = wide.drop(columns=claim.method)
    beyond = wide[claim.method] > others.max(axis=1) if claim.highest else wide[claim.method] < others.min(axis=1)
    table = 100 * beyond.astype(float).unstack("block").dropna().to_numpy()  # (seeds, blocks)
    if table.size == 0:
        return part["block"].nunique(), None
    blocks = table.shape[1]
    of_blocks = float(table.mean(axis=0).var()) / blocks  # what 10,000 draws of the blocks come to
    return blocks, Gain(tuple((table.mean(axis=1) - HALF).tolist()), of_blocks, blocks)


def share_texts(checked: CheckedSimilarity, share: Share, comparable: bool) -> list[str]:
    """What is compared, the paper's number, ours, its interval and the verdict, under a page's heads of claims."""
    claim = checked.claim
    what = f"{claim.method} {'highest' if claim.highest else 'lowest'}, W_{share.projection}"
    texts = [what, "above 50 %", "most blocks (no numbers)"]
    if share.above is None:
        return [*texts, "not run", "–", "0", "–", share.verdict.text(comparable)]
    low, high = (min(100, max(0, HALF + end)) for end in share.above.interval)
    ours = f"{HALF + share.above.difference:.0f} % of {share.blocks} blocks"
    interval = f"{low:.0f} to {high:.0f} %"
    return [*texts, ours, interval, str(share.above.seeds), "–", share.verdict.text(comparable)]
