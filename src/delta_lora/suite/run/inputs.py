"""What a run reads: the tokenizer, the training examples, the scored items."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from delta_lora.models.load import load_tokenizer
from delta_lora.suite.config.cell import Cell
from delta_lora.suite.machine import ranks
from delta_lora.tasks.base import Item


@dataclass(frozen=True)
class Inputs:
    """The data of a run: ``examples`` are tokenized, ``items`` are in the official order."""

    tokenizer: PreTrainedTokenizerBase
    examples: list[dict[str, Any]]
    items: Sequence[Item]


def load_inputs(cell: Cell) -> Inputs:
    """Read the run's data; what is not there yet is downloaded, or made, once, by rank 0.

    Raises:
        UserError: they are missing or damaged, or not what the configuration says.
    """
    model = cell.config.model
    with ranks.main_first():
        tokenizer = load_tokenizer(model, cell.cache_dir)
        return Inputs(tokenizer, cell.task.train_examples(tokenizer, model.kind), cell.task.test_items())
