"""The official metrics as an ``evaluate.Metric``: the one module here that needs Hugging Face's ``evaluate``.

``SuiteMetric("e2e").compute(predictions=["…"], references=[["…", "…"]])``, or from this file
``evaluate.load("…/delta_lora/metrics/suite_metric.py", "e2e")``. Its other names are ``webnlg`` (with
``seen=[True, …]``), ``xsum`` and ``glue/cola``, ``glue/mnli`` (with ``matched=[True, …]`` also the accuracies of its
halves), ….
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import datasets
import evaluate

from delta_lora.errors import UserError
from delta_lora.metrics import e2e, glue, webnlg, xsum
from delta_lora.metrics.base import Scores, check_items

_TEXT, _NUMBER = datasets.Value("string"), datasets.Value("float64")


@dataclass(frozen=True)
class _Suite:
    module: Any
    score: Callable[..., Scores]
    inputs: str
    features: dict[str, Any]


def _suite(name: str) -> _Suite:
    if name == "e2e":
        texts = {"predictions": _TEXT, "references": datasets.Sequence(_TEXT)}
        return _Suite(e2e, e2e.score, "predictions: a text per item. references: a list of texts per item.", texts)
    if name == "webnlg":
        says = "predictions: a text per entry. references: a list of texts per entry. seen: whether its category is "
        texts = {"predictions": _TEXT, "references": datasets.Sequence(_TEXT), "seen": datasets.Value("bool")}
        return _Suite(webnlg, webnlg.score, says + "one of the training data.", texts)
    if name == "xsum":
        texts = {"predictions": _TEXT, "references": _TEXT}
        return _Suite(xsum, xsum.score, "predictions: a summary per document. references: its reference.", texts)
    group, _, task = name.partition("/")
    if group != "glue" or task not in glue.TASKS:
        names = ", ".join(["e2e", "webnlg", "xsum", *(f"glue/{known}" for known in glue.TASKS)])
        raise UserError(f"no metric {name!r}: choose one of {names}")

    def score(predictions: Any, references: Any, **matched: Any) -> Scores:
        return glue.score(task, predictions, references, **matched)

    # Numbers for labels too: an integer feature would round a wrong label instead of refusing it.
    numbers = {"predictions": _NUMBER, "references": _NUMBER}
    return _Suite(glue, score, "predictions: a label per example. references: the right ones.", numbers)


class SuiteMetric(evaluate.Metric):
    """The metric suite of the task ``config_name``; it fetches nothing and writes no file.

    Raises:
        UserError: there is no such task.
    """

    def __init__(self, config_name: str | None = None, **options: Any) -> None:
        options.setdefault("keep_in_memory", True)
        super().__init__(config_name, **options)

    def _info(self) -> evaluate.MetricInfo:
        suite = _suite(self.config_name)
        return evaluate.MetricInfo(
            description=suite.module.DESCRIPTION,
            citation=suite.module.CITATION,
            inputs_description=suite.inputs,
            features=datasets.Features(suite.features),
        )

    def _compute(self, predictions: Any, references: Any, **more: Any) -> Scores:
        return _suite(self.config_name).score(predictions, references, **more)

    def compute(self, *, predictions: Any = None, references: Any = None, **more: Any) -> Scores:
        """The suite's scores, keyed by the tables' column names and in their units.

        Empty on all but the first process, where several share one metric (``num_process``).

        Raises:
            UserError: the numbers of predictions and references differ, or there are none.
        """
        if predictions is not None and references is not None:
            check_items(predictions, references)
        return super().compute(predictions=predictions, references=references, **more) or {}
