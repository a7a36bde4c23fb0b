"""Where the time of scoring goes: E2E's metrics by stage, ours beside coco-caption's own code on the same texts.

The official script of E2E runs coco-caption's PTB tokenizer, METEOR, ROUGE-L and CIDEr, which the package pycocoevalcap
brings as they are. Its BLEU and NIST are in no package: their time is given, and left out of the ratio.
"""

import gc
import os
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TypeVar

from delta_lora.errors import UserError
from delta_lora.tasks.e2e import TEST, read_rows

T = TypeVar("T")


@dataclass(frozen=True)
class Stage:
    """Processor seconds of one stage, children included, and its score on a scale of 0 to 1 (CIDEr: to 10)."""

    name: str
    ours: float
    official: float | None = None
    difference: float | None = None
    """Between the two scores."""


def held_out(folder: Path) -> tuple[list[str], list[list[str]]]:
    """Each instance's last reference as what a system wrote, and the others; an instance with one keeps it as both.

    Args:
        folder: with E2E's ``testset_w_refs.csv``.

    Raises:
        UserError: it has no such file.
    """
    if not (folder / TEST).is_file():
        raise UserError(
            f"no {TEST} in {folder}: give --data, or DELTA_LORA_DATA, a folder in the layout of docs/data.md"
        )
    references: dict[str, list[str]] = {}
    for mr, text in read_rows(folder / TEST):
        references.setdefault(mr, []).append(text)
    return [texts[-1] for texts in references.values()], [texts[:-1] or texts for texts in references.values()]


def measure(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> list[Stage]:
    """Each stage, ours and the official one in turn; then the sums: of what both do, of a first and of a later cell."""
    from delta_lora.metrics.coco import cider, rouge_l
    from delta_lora.metrics.e2e import bleu_and_nist_statistics
    from delta_lora.metrics.meteor import Meteor, meteor
    from delta_lora.metrics.ptb import ptb_tokenize

    official = Official(hypotheses, references)
    flat = [text for item in references for text in item]
    tokens, own = timed(lambda: ptb_tokenize(hypotheses))
    reference_tokens, lines = timed(lambda: iter(ptb_tokenize(flat)))
    refs = [[next(lines) for _ in item] for item in references]
    stages = [Stage("PTB tokenizer", tokens + reference_tokens, timed(official.tokenize)[0])]

    def align(times: int) -> float:
        with Meteor() as program:
            for _ in range(times):
                statistics = program.statistics(own, refs)
        return float(meteor(statistics.sum(axis=0)))

    def compared(name: str, ours: Callable[[], float], other: Callable[[], float]) -> Stage:
        (seconds, score), (its, right) = timed(ours), timed(other)
        return Stage(name, seconds, its, abs(score - right))

    stages.append(compared("METEOR", lambda: align(1), official.meteor))
    stages.append(compared("ROUGE-L", lambda: float(rouge_l(own, refs).mean()), official.rouge))
    stages.append(compared("CIDEr", lambda: float(cider(own, refs).mean()), official.cider))
    again = (timed(lambda: align(3))[0] - timed(lambda: align(1))[0]) / 2  # with the program that runs already
    bleu, _ = timed(lambda: bleu_and_nist_statistics(hypotheses, references))
    ours = sum(stage.ours for stage in stages)
    return [
        *stages,
        Stage("all of these", ours, sum(stage.official or 0.0 for stage in stages)),
        Stage("BLEU and NIST", bleu),
        Stage("a first cell", ours + bleu),
        Stage("each later cell", tokens + again + sum(stage.ours for stage in stages[2:]) + bleu),
    ]


class Official:
    """coco-caption's own code on the Java runtime that ours uses.

    Args:
        hypotheses: one text an instance.
        references: per instance, its texts.
    """

    def __init__(self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> None:
        from delta_lora.metrics.java import java_executable

        os.environ["PATH"] = os.pathsep.join([str(java_executable().parent), os.environ.get("PATH", "")])
        self._asked = [
            {number: [{"caption": text} for text in texts] for number, texts in enumerate(side)}
            for side in ([[text] for text in hypotheses], references)
        ]

    def tokenize(self) -> None:
        from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

        self.hypotheses, self.references = (PTBTokenizer().tokenize(side) for side in self._asked)

    def meteor(self) -> float:
        from pycocoevalcap.meteor.meteor import Meteor

        scorer = Meteor()
        score, _ = scorer.compute_score(self.references, self.hypotheses)
        del scorer  # which ends its process, so that its time is known
        gc.collect()
        return float(score)

    def rouge(self) -> float:
        from pycocoevalcap.rouge.rouge import Rouge

        return float(Rouge().compute_score(self.references, self.hypotheses)[0])

    def cider(self) -> float:
        from pycocoevalcap.cider.cider import Cider

        return float(Cider().compute_score(self.references, self.hypotheses)[0])


def timed(call: Callable[[], T]) -> tuple[float, T]:
    """Processor seconds of this process and its children that have ended, and what the call returned."""
    before = os.times()
    with redirect_stdout(StringIO()):
        value = call()
    return sum(os.times()[:4]) - sum(before[:4]), value


def markdown(stages: Sequence[Stage], instances: int, references: int) -> str:
    """A table for people."""
    lines = [
        "# Benchmark: scoring E2E",
        "",
        f"Processor seconds, Java's included, for {instances} texts against {references} references (`python "
        "scripts/bench.py --score`). Official: coco-caption's own code, in turn with ours on the same runtime; BLEU "
        "and NIST, whose official script is no package, are ours alone. A later cell is the next of the same process: "
        "METEOR runs already and the references are tokenized.",
        "",
        "| stage | ours (s) | official (s) | official / ours | difference of the scores |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for stage in stages:
        official = "" if stage.official is None else f"{stage.official:.2f}"
        ratio = "" if stage.official is None else f"{stage.official / max(stage.ours, 0.01):.1f}"
        difference = "" if stage.difference is None else f"{stage.difference:.0g}"
        lines.append(f"| {stage.name} | {stage.ours:.2f} | {official} | {ratio} | {difference} |")
    return "\n".join(lines) + "\n"
