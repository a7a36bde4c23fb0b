"""What the paper printed: its Tables 1-8 as CSV files, the hyper-parameters of its Tables 9-13 as YAML.

Source: *Delta-LoRA: Fine-Tuning High-Rank Parameters with the Delta of Low-Rank Matrices*, arXiv 2309.02411.
"""

from importlib import resources
from typing import Any

import pandas as pd
import yaml

_FILES = resources.files(__name__)


def table(number: int) -> pd.DataFrame:
    """The paper's Table ``number`` (1-8), every cell the text as printed ("69.60", "0.375M", "" where blank).

    Tables 1-5 name their rows in ``method`` (this project's method names; ``lora-quoted`` is LoRA as Hu et
    al. printed it, which the paper quotes), Table 6 in ``method`` and ``learning_rate``, Table 7 in
    ``update_ratio`` (λ) and Table 8 in ``start_steps`` (K). BLEU, METEOR (E2E), ROUGE and GLUE scores are
    ×100; NIST and CIDEr are as they are; METEOR (WebNLG) and TER lie in 0-1, and a lower TER is better.

    Raises:
        ValueError: the paper has no such table of results.
    """
    if number not in range(1, 9):
        raise ValueError(f"the paper's result tables are 1-8, got {number}")
    with (_FILES / f"table{number}.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file, dtype=str, keep_default_na=False)


def hyperparameters() -> dict[str, dict[str, Any]]:
    """Tables 9-13: task name → the settings the paper used, under this project's names for them."""
    return yaml.safe_load((_FILES / "hyperparameters.yaml").read_text(encoding="utf-8"))
