"""What a run reads: the tokenizer, the training examples, the scored items."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from delta_lora.models.load import check_config, load_tokenizer
from delta_lora.models.positions import check_decoder, check_lengths, check_room
from delta_lora.suite.config.cell import Cell
from delta_lora.suite.machine import ranks
from delta_lora.tasks.base import Item
from delta_lora.tasks.generation import causal_prompts


@dataclass(frozen=True)
class Inputs:
    """The data of a run: ``examples`` are tokenized, ``items`` are in the official order."""

    tokenizer: PreTrainedTokenizerBase
    examples: list[dict[str, Any]]
    items: Sequence[Item]


def load_inputs(cell: Cell) -> Inputs:
    """Read the run's data, and hold them against the model; what is not there yet is downloaded, or made, by rank 0.

    Raises:
        UserError: they are missing or damaged, not what the configuration says, or too long for the model.
    """
    model, decode = cell.config.model, cell.decode
    with ranks.main_first():
        config = check_config(model, cell.cache_dir, cell.train.dropouts)
        tokenizer = load_tokenizer(model, cell.cache_dir)
        inputs = Inputs(tokenizer, cell.task.train_examples(tokenizer, model.kind), cell.task.test_items())
    check_lengths(config, inputs.examples)
    if decode is not None and model.kind == "causal":
        check_room(config, causal_prompts(tokenizer, [item.input for item in inputs.items]), decode.max_new_tokens)
    if decode is not None and model.kind == "seq2seq":
        check_decoder(config, decode.max_new_tokens)
    return inputs
