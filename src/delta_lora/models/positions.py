"""How long a text a model can read, by its family, and whether a run's texts fit."""

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PretrainedConfig

from delta_lora.errors import UserError

# Families whose positions start after the padding token's id, as RoBERTa's.
AFTER_PADDING = {"camembert", "data2vec-text", "longformer", "mpnet", "roberta", "xlm-roberta", "xlm-roberta-xl"}


def positions(config: PretrainedConfig) -> int | None:
    """Longest text of the model in tokens; None where its positions are relative alone (T5, DeBERTa-v3)."""
    config = config.get_text_config()
    most: int | None = getattr(config, "max_position_embeddings", None)
    if most is None or not getattr(config, "position_biased_input", True):
        return None
    return most - (config.pad_token_id + 1 if config.model_type in AFTER_PADDING else 0)


def check_lengths(config: PretrainedConfig, examples: Sequence[Mapping[str, Any]]) -> None:
    """The model has a position for every token of the longest example.

    Raises:
        UserError: it lacks some.
    """
    room = positions(config)
    longest = max(len(example["input_ids"]) for example in examples)
    if room is not None and longest > room:
        raise UserError(
            f"an example has {longest} tokens, the model has {room} positions; give task.train.max_length={room}"
        )


def check_room(config: PretrainedConfig, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> None:
    """A decoder-only model has positions for the longest prompt and what is generated after it.

    Raises:
        UserError: it lacks some.
    """
    most = positions(config)
    longest = max(len(ids) for ids in prompts)
    if most is not None and longest + max_new_tokens > most:
        raise UserError(
            f"a test input has {longest} tokens; with task.decode.max_new_tokens={max_new_tokens} the "
            f"model's {most} positions leave room for {most - max_new_tokens}"
        )
