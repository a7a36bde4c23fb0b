"""Score any system's output with the official metrics: ``python scripts/score.py TASK HYPOTHESES REFERENCES``.

Prints JSON: the scores in the units of the paper's tables, and under "official" those of the official scorer.

Files, all UTF-8:
  e2e      one hypothesis a line | references one a line, instances parted by an empty line; or testset_w_refs.csv
  webnlg   one hypothesis a line | JSON lines {"references": ["…"], "seen": true}
  xsum     one summary a line    | one reference a line
  glue/…   one label a line      | one label a line; for glue/mnli optionally a tab and matched or mismatched after it
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, NoReturn

from delta_lora.errors import UserError
from delta_lora.metrics import files, glue
from delta_lora.streams import replace_unprintable

TASKS = ("e2e", "webnlg", "xsum", *(f"glue/{name}" for name in glue.TASKS))


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are the one line that every script here prints."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; {self.format_usage().strip()}")


def main(arguments: list[str] | None = None) -> int:
    """Print the scores; 0, or 2 after a line on standard error that says what is wrong with the input."""
    replace_unprintable()
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", metavar="TASK", help=", ".join(TASKS))
    parser.add_argument("hypotheses", metavar="HYPOTHESES", type=Path, help="the system's output")
    parser.add_argument("references", metavar="REFERENCES", type=Path, help="the references")
    try:
        given = parser.parse_args(arguments)
        result = score(given.task, given.hypotheses, given.references)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(result, indent=2))
    return 0


def score(task: str, hypotheses: Path, references: Path) -> dict[str, Any]:
    """The scores of one file of hypotheses against one of references."""
    if task not in TASKS:
        raise UserError(f"unknown task {task!r}: choose one of {', '.join(TASKS)}")
    if task.startswith("glue/"):
        return score_glue(task.removeprefix("glue/"), hypotheses, references)
    from delta_lora.metrics import e2e, webnlg, xsum  # imported late: --help and mistakes answer at once

    predictions = files.read_texts(hypotheses)
    if task == "e2e":
        instances = files.read_e2e_references(references, len(predictions))
        check_counts(hypotheses, len(predictions), references, len(instances))
        scores = e2e.score(predictions, instances)
        return {**scores, "official": e2e.official(scores)}
    if task == "webnlg":
        entries, seen = files.read_webnlg_references(references)
        check_counts(hypotheses, len(predictions), references, len(entries))
        scores = webnlg.score(predictions, entries, seen)
        return {**scores, "official": webnlg.official(scores, seen)}
    summaries = files.read_summaries(references)
    check_counts(hypotheses, len(predictions), references, len(summaries))
    scores = xsum.score(predictions, summaries)
    return {**scores, "official": xsum.official(scores)}


def score_glue(name: str, hypotheses: Path, references: Path) -> dict[str, Any]:
    """The scores of one file of predicted labels."""
    predictions = files.read_labels(hypotheses)
    if name == "mnli":
        labels, matched = files.read_mnli_references(references)
    else:
        labels, matched = files.read_labels(references), None
    check_counts(hypotheses, len(predictions), references, len(labels))
    scores = glue.score(name, predictions, labels, matched)
    return {**scores, "official": glue.official(scores)}


def check_counts(hypotheses: Path, found: int, references: Path, wanted: int) -> None:
    """Refuse files that do not belong together."""
    if found != wanted:
        raise UserError(
            f"{hypotheses} has {found} hypotheses (an empty line is one) for the {wanted} instances of "
            f"{references}: give one hypothesis a line, in the order of the instances"
        )


if __name__ == "__main__":
    sys.exit(main())
