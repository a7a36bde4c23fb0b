"""Sentences and their comparisons as text, the same in every output."""

import math
from dataclasses import dataclass

from delta_lora.metrics.epochs import CROSS_FITTED
from delta_lora.suite.pages.texts import Texts
from delta_lora.suite.pages.words import NONE, NOT_RUN, row_title
from delta_lora.suite.tables.claims import Claim, Comparison
from delta_lora.suite.tables.gain import Region
from delta_lora.suite.tables.shape import decimals
from delta_lora.suite.tables.table import Table
from delta_lora.suite.tables.verdicts import counts

OF_THE_PAPER = ("Paper's gain", "Paper's size")
CLAIM_HEADS = [
    "Comparison",
    "Holds if",
    "Paper's gain",
    "Our gain",
    "95 % interval",
    "Seeds",
    "Paper's size",
    "Verdict",
]
CLAIM_NUMBERS = (2, 3, 4, 5)


@dataclass(frozen=True)
class ClaimView:
    """A sentence, how it fared (``5 comparisons: 3 reproduced, 2 undecided``), its verdict and its comparisons."""

    says: str
    summary: str
    verdict: str
    comparisons: Texts


def claim_view(table: Table, claim: Claim) -> ClaimView:
    """A sentence and its comparisons; a table of one's own has no gain of the paper's."""
    lines = [comparison_texts(table, comparison) for comparison in claim.comparisons]
    summary = f"{len(lines)} {'comparison' if len(lines) == 1 else 'comparisons'}: {counts(line[-1] for line in lines)}"
    verdict = claim.text(table.reproduces)
    if table.of_paper:
        return ClaimView(claim.says, summary, verdict, Texts(CLAIM_HEADS, lines, CLAIM_NUMBERS))
    kept = [place for place, head in enumerate(CLAIM_HEADS) if head not in OF_THE_PAPER]
    lines = [[line[place] for place in kept] for line in lines]
    return ClaimView(claim.says, summary, verdict, Texts([CLAIM_HEADS[place] for place in kept], lines, (2, 3, 4)))


def comparison_texts(table: Table, comparison: Comparison) -> list[str]:
    """A line under `CLAIM_HEADS`."""
    digits = decimals(table, comparison.column)
    gain = comparison.gain
    better, worse = (
        " and ".join(row_title(table, row) for row in side) for side in (comparison.better, comparison.worse)
    )
    printed = NONE if comparison.table_gain is None else f"{comparison.table_gain:+.2f}"
    if comparison.text_gain is not None and f"{comparison.text_gain:+.2f}" != printed:
        printed = f"{comparison.text_gain:+.2f} in the text, {printed} in the table"
    size = comparison.of_size or NONE
    column = comparison.column
    if column in table.metrics and table.judged(column) != table.metrics[column]:  # GLUE: cells show the best epoch
        column += f", {CROSS_FITTED.removeprefix('-')}"
    start = [f"{better} against {worse}, {column}", region_text(comparison.region, digits), printed]
    verdict = comparison.verdict.text(table.reproduces)
    if gain is None:
        return [*start, NOT_RUN, NONE, "0", size, verdict]
    low, high = gain.interval
    interval = f"{low:+.{digits}f} to {high:+.{digits}f}"
    return [*start, f"{gain.difference:+.{digits}f}", interval, str(gain.seeds), size, verdict]


def region_text(region: Region, digits: int) -> str:
    """``above 0``, ``above −0.62``, ``within ±0.62``, ``between 0 and 1.24``."""
    low, high = ("0" if end == 0 else f"{end:.{digits}f}".replace("-", "−") for end in (region.low, region.high))
    if math.isinf(region.high):
        return f"above {low}"
    return f"within ±{high}" if region.low == -region.high else f"between {low} and {high}"
