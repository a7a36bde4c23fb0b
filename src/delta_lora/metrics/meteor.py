"""METEOR 1.5 (Denkowski and Lavie 2014) for English, with ``-l en -norm`` as coco-caption and GenerationEval call it.

The jar aligns; it is asked for each segment's statistics, and the scores are computed from these here, so that
the score of any selection of segments (a resample, the seen entries) needs no second alignment.
"""

import atexit
import logging
import os
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from threading import Lock
from typing import Self

import numpy as np
from numpy.typing import NDArray

from delta_lora.metrics import paraphrases
from delta_lora.metrics.conversation import Conversation, Died
from delta_lora.metrics.java import coco_file, unexpected

log = logging.getLogger(__name__)

# METEOR's parameters for English (tuned for ranking), and its matchers' weights: exact, stem, synonym, paraphrase.
_ALPHA, _BETA, _GAMMA, _DELTA = 0.85, 0.20, 0.60, 0.75
_MATCHER_WEIGHTS = np.array([1.0, 0.6, 0.8, 0.6])

# The columns of a segment's statistics, in the jar's order. Test is METEOR's name for the hypothesis.
_TEST_LENGTH, _REFERENCE_LENGTH, _TEST_FUNCTION, _REFERENCE_FUNCTION = range(4)
_MATCHERS = slice(4, 20)  # per matcher: content words of test and reference, function words of test and reference
_CHUNKS, _TEST_MATCHES, _REFERENCE_MATCHES = 20, 21, 22
COLUMNS = 23

_NAME = "METEOR"
_CHECKS = 7  # between two segments stands a check: a text of 1 to 7 words against itself, in turn
_CHECK_WORD = "check"


class Meteor:
    """METEOR's process: started with the first texts, asked again and again, with the paraphrases that these can use.

    Where later texts can use more it is started again with those of both; where it has died meanwhile, too. Threads
    take turns; a forked process starts one of its own.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._program: Conversation | None = None
        self._loaded: NDArray[np.bool_] | None = None  # the words of its table; None: of the whole one

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def statistics(self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> NDArray[np.float64]:
        """Statistics of each segment against its best reference: an array (segments, 23).

        Each text is one line of tokens. A check whose answer is known stands before, between and after the segments,
        so that an answer that belongs to another segment is noticed.

        Raises:
            UserError: the runtime, the jar or the paraphrase table is missing, the program failed, or its answers are
                not those to what was asked.
        """
        requests = [
            " ||| ".join(["SCORE", *refs, hypothesis.replace("|||", "").replace("  ", " ")])
            for hypothesis, refs in zip(hypotheses, references, strict=True)
        ]
        known = _known([*hypotheses, *(text for refs in references for text in refs)])
        with self._lock:
            kept = self._program is not None
            try:
                answers = self._answers(requests, known)
            except Died as died:
                if not (kept or died.again):
                    raise
                answers = self._answers(requests, known)
        # A line that the jar takes for one without any reference is answered "Error: …": nothing matches.
        statistics = np.array(
            [[0.0] * COLUMNS if line.startswith("Error") else line.split() for line in answers], dtype=np.float64
        ).reshape(-1, COLUMNS)
        # As the jar adds segments up: one that equals its reference adds no chunk.
        statistics[_identical(statistics), _CHUNKS] = 0
        return statistics

    def close(self) -> None:
        """End the process."""
        with self._lock:
            if self._program is not None:
                self._program.close()
                self._program = None

    def forget(self) -> None:
        """In a forked process: let go of the one that belongs to the parent."""
        self._lock = Lock()
        if self._program is not None:
            self._program.abandon()
            self._program = None

    def _answers(self, requests: list[str], known: NDArray[np.bool_] | None) -> list[str]:
        checks = [1 + number % _CHECKS for number in range(len(requests) + 1)]
        asked = [""] * (len(requests) + len(checks))
        asked[::2], asked[1::2] = [_check_request(words) for words in checks], requests
        program = self._program = self._started(known)
        found = []
        try:
            with closing(program.answers(asked)) as lines:
                for number, line in enumerate(lines):
                    if number % 2 == 0:
                        _hold(line, checks[number // 2])
                    elif line.startswith("Error") or _is_statistics(line):
                        found.append(line)
                    else:
                        raise unexpected(_NAME, "something other than statistics", line)
        except BaseException:
            self._program = None  # whoever stops before the last answer has ended it
            raise
        return found

    def _started(self, known: NDArray[np.bool_] | None) -> Conversation:
        """The process, with a table of all pairs of ``known`` words (None: the whole table)."""
        if self._program is not None:
            if self._program.is_ready() and _covers(self._loaded, known):
                return self._program
            known = None if self._loaded is None or known is None else known | self._loaded
            self._program.close()
            self._program = None
        if known is not None and (index := paraphrases.index()) is not None:
            try:
                with tempfile.TemporaryDirectory() as folder:
                    table = Path(folder) / "paraphrases.gz"
                    index.write(known, table)
                    self._loaded = known
                    return _start(table)
            except OSError as error:
                log.info("METEOR reads its whole table (%s)", error)
        self._loaded = None
        return _start(paraphrases.table())


_shared = Meteor()
atexit.register(_shared.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_shared.forget)


def meteor_statistics(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """:meth:`Meteor.statistics` of the one METEOR that serves this process until it ends."""
    return _shared.statistics(hypotheses, references)


def _start(table: Path) -> Conversation:
    """METEOR, which has read its ``table``."""
    arguments = ["-Xmx2G", "-jar", str(coco_file("meteor/meteor-1.5.jar")), "-", "-", "-stdio", "-l", "en", "-norm"]
    program = Conversation(_NAME, [*arguments, "-a", str(table)])
    with closing(program.answers([_check_request(1)])) as lines:
        for line in lines:
            _hold(line, 1)
    return program


def _known(texts: Sequence[str]) -> NDArray[np.bool_] | None:
    """The table's words that can stand in ``texts``; None for all: METEOR lower-cases only what it has normalized."""
    paraphrases.table()
    index = paraphrases.index()
    if index is None or any(text != text.lower() for text in texts):
        return None
    return index.known(texts)


def _covers(loaded: NDArray[np.bool_] | None, known: NDArray[np.bool_] | None) -> bool:
    return loaded is None or (known is not None and not (known & ~loaded).any())


def _hold(line: str, words: int) -> None:
    if line.split() != _check_answer(words):
        raise unexpected(_NAME, "lines that belong to something else", line)


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
