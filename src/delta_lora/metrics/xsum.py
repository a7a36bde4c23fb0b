"""XSum: ROUGE-1, -2, -L and -Lsum F-measure of the package ``rouge-score``, with its Porter stemmer."""

from collections.abc import Sequence

from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import DefaultTokenizer

from delta_lora.metrics.base import ItemMeans, Scores, check_items
from delta_lora.metrics.sentences import split_sentences

DESCRIPTION = """ROUGE-1, ROUGE-2, ROUGE-L and summary-level ROUGE-L F-measures × 100, with stemming."""

CITATION = """@inproceedings{lin2004rouge, title={{ROUGE}: A Package for Automatic Evaluation of Summaries},
author={Lin, Chin-Yew}, booktitle={Text Summarization Branches Out}, pages={74--81}, year={2004}}"""

_COLUMNS = {"Rouge-1": "rouge1", "Rouge-2": "rouge2", "Rouge-L": "rougeL", "Rouge-Sum": "rougeLsum"}


def score(predictions: Sequence[str], references: Sequence[str]) -> Scores:
    """``{"Rouge-1": …, "Rouge-2": …, "Rouge-L": …, "Rouge-Sum": …}``: means of F-measures, × 100.

    Args:
        predictions: One summary per document; it may be empty.
        references: Its reference summary.

    Raises:
        UserError: unequal numbers, or none.
    """
    return XSumResampler(predictions, references).score()


def official(scores: Scores) -> Scores:
    """``scores`` under rouge-score's own names, rounded to four decimals as Transformers' example prints them."""
    return {name: round(scores[column], 4) for column, name in _COLUMNS.items()}


class XSumResampler(ItemMeans):
    """Per-document scores of one system's summaries; see :class:`delta_lora.metrics.base.Resampler`.

    Raises:
        UserError: as :func:`score`.
    """

    def __init__(self, predictions: Sequence[str], references: Sequence[str]) -> None:
        check_items(predictions, references)
        # the tokenizer that it takes by itself, too, but with a remark on the terminal
        scorer = RougeScorer(list(_COLUMNS.values()), tokenizer=DefaultTokenizer(use_stemmer=True))
        rows = []
        for prediction, reference in zip(predictions, references, strict=True):
            # ROUGE-Lsum takes a line for a sentence; to the others a line end is a space.
            scores = scorer.score("\n".join(split_sentences(reference)), "\n".join(split_sentences(prediction)))
            rows.append([100 * scores[name].fmeasure for name in _COLUMNS.values()])
        super().__init__(list(_COLUMNS), rows)
