"""ROUGE-L and CIDEr of coco-caption, per segment, on PTB tokens."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge


def rouge_l(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """ROUGE-L F-measure of each segment (β = 1.2; the best precision with the best recall), 0 to 1."""
    scorer = Rouge()
    return np.array([scorer.calc_score([h], refs) for h, refs in zip(hypotheses, references, strict=True)])


def cider(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """CIDEr of each segment, 0 to 10; the document frequencies are those of all the references given."""
    if not any(reference for refs in references for reference in refs):
        return np.zeros(len(hypotheses))  # references of punctuation alone: the original stops with an exception
    candidates = {i: [hypothesis] for i, hypothesis in enumerate(hypotheses)}
    _, scores = Cider().compute_score(dict(enumerate(map(list, references))), candidates)
    return np.asarray(scores, dtype=np.float64)
