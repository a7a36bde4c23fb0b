"""ROUGE for XSum and the GLUE metrics: definitions worked out by hand, and the libraries that define them."""

from pathlib import Path

import evaluate
import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer
from scipy.stats import pearsonr

from delta_lora.errors import UserError
from delta_lora.metrics import glue, xsum
from delta_lora.metrics.glue import GlueResampler
from delta_lora.metrics.sentences import split_sentences
from delta_lora.metrics.suite_metric import SuiteMetric
from delta_lora.metrics.xsum import XSumResampler


def test_rouge_of_a_worked_example() -> None:
    """Stemmed to "the cat sit on a mat" / "a cat sit": matches 3 of 3 and 3 of 6; bigrams 1 of 2 and 1 of 5."""
    scores = SuiteMetric("xsum").compute(predictions=["A cats sit"], references=["The cat sits on a mat"])
    assert scores == pytest.approx(
        {
            "Rouge-1": 100 * 2 * 3 / (3 + 6),
            "Rouge-2": 100 * 2 * 1 / (2 + 5),
            "Rouge-L": 100 * 2 * 2 / (3 + 6),
            "Rouge-Sum": 100 * 2 * 2 / (3 + 6),
        }
    )


def test_summary_level_rouge_takes_sentences_in_any_order() -> None:
    """Sentences swapped: one common sequence of 3 words for ROUGE-L, all 6 words for ROUGE-Lsum."""
    scores = xsum.score(["Dogs bark loudly. Cats eat fish."], ["Cats eat fish. Dogs bark loudly."])
    assert scores["Rouge-L"] == pytest.approx(50)
    assert scores["Rouge-Sum"] == pytest.approx(100)


def test_sentences_are_split_without_any_download(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NLTK_DATA", str(tmp_path))
    text = 'Mr. Smith of the U.S. met Dr. J. K. Jones at 5 p.m. on 3 Jan. 2016. "It cost £1.5m," he said. Was it? Yes!'
    assert split_sentences(text) == [
        "Mr. Smith of the U.S. met Dr. J. K. Jones at 5 p.m. on 3 Jan. 2016.",
        '"It cost £1.5m," he said.',
        "Was it?",
        "Yes!",
    ]
    assert split_sentences("  ") == []


def test_rouge_resampler_agrees_with_rouge_score() -> None:
    predictions = ["a man was shot", "", "police said. He ran"]
    references = ["a man has been shot dead", "nothing", "he ran, police said"]
    resampler = XSumResampler(predictions, references)
    scorer = RougeScorer(["rouge1"], use_stemmer=True)
    each = [scorer.score(r, p)["rouge1"].fmeasure for p, r in zip(predictions, references, strict=True)]
    assert resampler.score()["Rouge-1"] == pytest.approx(100 * sum(each) / 3)
    assert resampler.score([2, 2, 0])["Rouge-1"] == pytest.approx(100 * (2 * each[2] + each[0]) / 3)
    assert resampler.scores(np.array([[1.0, 0, 2]]))["Rouge-1"] == pytest.approx(100 * (2 * each[2] + each[0]) / 3)


def test_metric_writes_no_file(tmp_path: Path) -> None:
    SuiteMetric("xsum", cache_dir=str(tmp_path)).compute(predictions=["a"], references=["a"])
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_the_metric_loads_from_its_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """``evaluate.load("…/suite_metric.py", "xsum")`` finds it, and fetches nothing: any connection would fail here."""
    monkeypatch.setattr("evaluate.config.HF_MODULES_CACHE", str(tmp_path))
    monkeypatch.setattr("socket.socket.connect", None)
    file = str(Path(glue.__file__).with_name("suite_metric.py"))
    loaded = evaluate.load(file, "xsum")
    assert type(loaded).__name__ == "SuiteMetric"
    assert loaded.compute(predictions=["a cat"], references=["a cat"])["Rouge-1"] == 100
    assert evaluate.load(file, "glue/cola").compute(predictions=[1, 0], references=[1, 0]) == {"matthews": 100}


@pytest.mark.parametrize("task", [task for task in glue.TASKS if task not in ("cola", "stsb")])
def test_accuracy_is_in_per_cent(task: str) -> None:
    assert SuiteMetric(f"glue/{task}").compute(predictions=[1, 0, 1], references=[1, 1, 1]) == pytest.approx(
        {"accuracy": 200 / 3}
    )


def test_matthews_correlation_by_its_formula() -> None:
    """TP 2, TN 1, FP 1, FN 1: (2·1 − 1·1) / √(3·3·2·2)."""
    scores = SuiteMetric("glue/cola").compute(predictions=[1, 1, 1, 0, 0], references=[1, 1, 0, 0, 1])
    assert scores == pytest.approx({"matthews": 100 / 6})


def test_pearson_correlation_equals_scipy() -> None:
    predictions, references = [0.5, 2.5, 3.0, 4.75], [0.0, 2.0, 4.5, 4.0]
    scores = SuiteMetric("glue/stsb").compute(predictions=predictions, references=references)
    assert scores == pytest.approx({"pearson": 100 * pearsonr(predictions, references).statistic})


@pytest.mark.parametrize("task", ["cola", "stsb"])
def test_constant_predictions_have_no_correlation(task: str) -> None:
    assert glue.score(task, [1, 1, 1], [0, 1, 1]) == {glue.metric_name(task): 0.0}


def test_mnli_is_scored_over_both_sets_and_each() -> None:
    scores = SuiteMetric("glue/mnli").compute(
        predictions=[0, 1, 2, 2], references=[0, 1, 2, 0], matched=[True, False, False, False]
    )
    assert scores == pytest.approx({"accuracy": 75.0, "accuracy-matched": 100.0, "accuracy-mismatched": 200 / 3})


def test_glue_resampler_counts_repeats() -> None:
    generator = np.random.default_rng(0)
    predictions, references = generator.integers(2, size=(2, 50)).tolist()
    resampler = GlueResampler("cola", predictions, references)
    indices = generator.integers(50, size=50)
    drawn = [[labels[i] for i in indices] for labels in (predictions, references)]
    expected = glue.score("cola", *drawn)
    assert resampler.score(indices) == pytest.approx(expected)
    assert resampler.score(np.arange(50)) == glue.score("cola", predictions, references)


@pytest.mark.parametrize(
    ("task", "predictions", "references", "matched", "message"),
    [
        ("wnli", [0], [0], None, "unknown GLUE task 'wnli': choose one of mnli, sst2"),
        ("mnli", [3], [0], None, "prediction 1 is 3: the labels of mnli are 0, 1, 2"),
        ("cola", [1, 0.5], [1, 1], None, "prediction 2 is 0.5: the labels of cola are 0, 1"),
        ("rte", [0], [-1], None, "reference 1 is -1"),
        ("stsb", [float("nan")], [1.0], None, "prediction 1 is nan: the labels of stsb are finite numbers"),
        ("rte", [0], [0], [True], "only mnli"),
        ("mnli", [0], [0], [True, False], "2 matched flags for 1 examples"),
        ("rte", [0], [0, 1], None, "1 predictions for 2 test items"),
    ],
)
def test_wrong_input_is_one_clear_line(
    task: str, predictions: list[float], references: list[float], matched: list[bool] | None, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        glue.score(task, predictions, references, matched)


def test_unknown_task_is_refused_by_the_metric() -> None:
    with pytest.raises(UserError, match="no metric 'default'"):
        SuiteMetric()
