"""METEOR 1.5 (Denkowski and Lavie 2014) for English, with ``-l en -norm`` as coco-caption and GenerationEval call it.

The jar aligns; it is asked for each segment's statistics, and the scores are computed from these here, so that
the score of any selection of segments (a resample, the seen entries) needs no second alignment.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from delta_lora.metrics.java import JavaProgram, coco_file

# METEOR's parameters for English (tuned for ranking), and its matchers' weights: exact, stem, synonym, paraphrase.
_ALPHA, _BETA, _GAMMA, _DELTA = 0.85, 0.20, 0.60, 0.75
_MATCHER_WEIGHTS = np.array([1.0, 0.6, 0.8, 0.6])

# The columns of a segment's statistics, in the jar's order. Test is METEOR's name for the hypothesis.
_TEST_LENGTH, _REFERENCE_LENGTH, _TEST_FUNCTION, _REFERENCE_FUNCTION = range(4)
_MATCHERS = slice(4, 20)  # per matcher: content words of test and reference, function words of test and reference
_CHUNKS, _TEST_MATCHES, _REFERENCE_MATCHES = 20, 21, 22
COLUMNS = 23

_CHECKS = 7  # between two segments stands a check: a text of 1 to 7 words against itself, in turn
_CHECK_WORD = "check"


class Meteor(JavaProgram):
    """The METEOR process: started once per scoring (loading its paraphrase table takes seconds), then closed.

    Raises:
        UserError: the runtime, the jar or the paraphrase table is missing.
    """

    def __init__(self) -> None:
        coco_file("meteor/data/paraphrase-en.gz")
        jar = str(coco_file("meteor/meteor-1.5.jar"))
        super().__init__("METEOR", ["-Xmx2G", "-jar", jar, "-", "-", "-stdio", "-l", "en", "-norm"])

    def statistics(self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> NDArray[np.float64]:
        """Statistics of each segment against its best reference: an array (segments, 23).

        Each text is one line of tokens. A check whose answer is known stands before, between and after the segments,
        so that an answer that belongs to another segment is noticed.

        Raises:
            UserError: the program failed, or its answers are not those to what was asked.
        """
        requests = [
            " ||| ".join(["SCORE", *refs, hypothesis.replace("|||", "").replace("  ", " ")])
            for hypothesis, refs in zip(hypotheses, references, strict=True)
        ]
        checks = [1 + number % _CHECKS for number in range(len(requests) + 1)]
        asked = [""] * (len(requests) + len(checks))
        asked[::2], asked[1::2] = [_check_request(words) for words in checks], requests
        *answers, _ = self.communicate("".join(line + "\n" for line in asked))
        for words, line in zip(checks, answers[::2], strict=True):
            if line.split() != _check_answer(words):
                raise self.unexpected("lines that belong to something else", line)
        lines = answers[1::2]
        for line in lines:
            if not line.startswith("Error") and not _is_statistics(line):
                raise self.unexpected("something other than statistics", line)
        # A line that the jar takes for one without any reference is answered "Error: …": nothing matches.
        statistics = np.array(
            [[0.0] * COLUMNS if line.startswith("Error") else line.split() for line in lines],
            dtype=np.float64,
        ).reshape(-1, COLUMNS)
        # As the jar adds segments up: one that equals its reference adds no chunk.
        statistics[_identical(statistics), _CHUNKS] = 0
        return statistics


def meteor(statistics: NDArray[np.float64]) -> NDArray[np.float64]:
    """The METEOR score, 0 to 1, of summed statistics (…, 23): (…).

    With P and R the matches over the lengths, weighted by matcher and by δ for content words against function
    words, ``F = 1 / ((1 − α)/P + α/R)`` and the score is ``F · (1 − γ · (chunks / matches)^β)``; 0 without a match.
    """
    weights = np.stack([_MATCHER_WEIGHTS * _DELTA] * 2 + [_MATCHER_WEIGHTS * (1 - _DELTA)] * 2, axis=1)
    matched = statistics[..., _MATCHERS].reshape(*statistics.shape[:-1], 4, 4)
    weighted = (matched * weights).sum(axis=-2)
    test_matched, reference_matched = weighted[..., 0] + weighted[..., 2], weighted[..., 1] + weighted[..., 3]
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = test_matched / _weighted_length(statistics[..., _TEST_LENGTH], statistics[..., _TEST_FUNCTION])
        recall = reference_matched / _weighted_length(
            statistics[..., _REFERENCE_LENGTH], statistics[..., _REFERENCE_FUNCTION]
        )
        f_mean = 1 / ((1 - _ALPHA) / precision + _ALPHA / recall)
        matches = (statistics[..., _TEST_MATCHES] + statistics[..., _REFERENCE_MATCHES]) / 2
        penalty = _GAMMA * (statistics[..., _CHUNKS] / matches) ** _BETA
        score = np.maximum(f_mean * (1 - penalty), 0.0)
    return np.where((test_matched == 0) | (reference_matched == 0), 0.0, score)


def _check_request(words: int) -> str:
    text = " ".join([_CHECK_WORD] * words)
    return f"SCORE ||| {text} ||| {text}"


def _check_answer(words: int) -> list[str]:
    """All ``words`` match exactly, in one chunk."""
    count = f"{words}.0"
    return [count, count, "0.0", "0.0", count, count, *["0.0"] * 14, "1.0", count, count]


def _is_statistics(line: str) -> bool:
    numbers = line.split()
    try:
        return len(numbers) == COLUMNS and all(float(number) >= 0 for number in numbers)
    except ValueError:
        return False


def _weighted_length(words: NDArray[np.float64], function_words: NDArray[np.float64]) -> NDArray[np.float64]:
    return _DELTA * (words - function_words) + (1 - _DELTA) * function_words


def _identical(statistics: NDArray[np.float64]) -> NDArray[np.bool_]:
    matched = statistics[:, _MATCHERS].reshape(-1, 4, 4)
    return (
        (statistics[:, _CHUNKS] == 1)
        & (matched[:, :, [0, 2]].sum(axis=(1, 2)) == statistics[:, _TEST_LENGTH])
        & (matched[:, :, [1, 3]].sum(axis=(1, 2)) == statistics[:, _REFERENCE_LENGTH])
    )
