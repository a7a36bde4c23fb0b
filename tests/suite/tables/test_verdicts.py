"""What comparisons allow to say: nothing from few runs, `all` and `any` as words mean them, no chance for a verdict."""

import numpy as np
import pytest

from delta_lora.suite.tables.gain import Gain, Region
from delta_lora.suite.tables.verdicts import Judged, Verdict, counts, judge

ABOVE = Region(low=0)


def gain(mean: float, seeds: int = 5, error: float = 0.1) -> Gain:
    """A gain with this mean and roughly this standard error."""
    spread = np.linspace(-1, 1, seeds) if seeds > 1 else np.zeros(1)
    return Gain(tuple((mean + error * spread).tolist()), (error / 3) ** 2, 630)


def sentence(*means: float | None, quantifier: str = "all", seeds: int = 5) -> Verdict:
    return judge([Judged(None if m is None else gain(m, seeds), ABOVE) for m in means], quantifier)[0]


@pytest.mark.parametrize(
    ("seeds", "text"),
    [
        (1, "1 run: difference, item interval"),
        (2, "2 runs: no verdict"),
        (3, "reproduced (provisional)"),
        (4, "reproduced (provisional)"),
        (5, "reproduced"),
    ],
)
def test_no_verdict_below_three_seeds_and_a_full_one_from_five(seeds: int, text: str) -> None:
    assert sentence(5.0, seeds=seeds).text(comparable=True) == text


def test_where_ours_are_other_models_nothing_is_reproduced() -> None:
    assert sentence(5.0).text(comparable=False) == "holds here"
    assert sentence(-5.0).text(comparable=False) == "does not hold here"
    assert sentence(-5.0).text(comparable=True) == "not reproduced"


@pytest.mark.parametrize(
    ("means", "quantifier", "outcome"),
    [
        ((5.0, 5.0), "all", "holds"),
        ((5.0, 0.0), "all", "undecided"),
        ((5.0, -5.0), "all", "fails"),
        ((5.0, None), "all", "not run"),
        ((-5.0, None), "all", "fails"),
        ((5.0, -5.0), "any", "holds"),
        ((0.0, -5.0), "any", "undecided"),
        ((-5.0, -5.0), "any", "fails"),
        ((5.0, None), "any", "holds"),
        ((-5.0, None), "any", "not run"),
    ],
)
def test_a_sentence_of_many_comparisons_is_what_its_quantifier_says(
    means: tuple[float | None, ...], quantifier: str, outcome: str
) -> None:
    assert sentence(*means, quantifier=quantifier).outcome == outcome


def test_one_comparison_of_25_that_is_negative_by_chance_does_not_fail_a_sentence() -> None:
    unlucky = gain(-0.16)
    assert unlucky.below(0) < 0.05
    judged = [Judged(unlucky, ABOVE), *[Judged(gain(5.0), ABOVE)] * 24]
    verdict, each = judge(judged, "all")
    assert verdict.outcome == each[0].outcome == "undecided"
    assert judge(judged[:1], "all")[0].outcome == "fails", "alone it is no matter of chance"


def test_any_of_25_by_chance_does_not_make_a_sentence_hold() -> None:
    assert gain(0.16).above(0) < 0.05
    judged = [Judged(gain(0.16), ABOVE), *[Judged(gain(0.0), ABOVE)] * 24]
    assert judge(judged, "any")[0].outcome == "undecided"


def test_a_test_set_that_would_not_show_the_papers_gain_is_said_with_its_power() -> None:
    coarse = Gain((0.4, 0.2, 0.3, 0.5, 0.1), 1.0, 277)
    (verdict,) = judge([Judged(coarse, ABOVE, paper=0.36)], "all")[1]
    assert verdict.text(comparable=True) == "cannot be decided with this test set (power 0.10)"
    assert judge([Judged(coarse, ABOVE, paper=3.6)], "all")[0].outcome == "undecided"
    assert judge([Judged(coarse, ABOVE)], "all")[0].outcome == "undecided", "the paper prints no gain"
    few = Gain(coarse.by_seed[:3], 1.0, 277)
    (verdict,) = judge([Judged(few, ABOVE, paper=0.36)], "all")[1]
    assert verdict.text(comparable=True) == "cannot be decided with this test set (power 0.10, provisional)"


@pytest.mark.parametrize("paper", [-0.24, 0.0])
def test_a_papers_gain_that_is_none_leaves_a_comparison_undecided(paper: float) -> None:
    gain = Gain((0.1, 0.5, -0.2, 0.4, 0.0), 0.05, 872)
    assert judge([Judged(gain, ABOVE, paper)], "any")[0].outcome == "undecided"


def test_verdicts_are_counted_whatever_stands_in_brackets() -> None:
    texts = ["holds here", "holds here (provisional)", "1 run: difference, item interval", "2 runs: no verdict"]
    assert counts(texts) == "2 holds here, 2 with too few runs"
