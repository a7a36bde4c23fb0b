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
    if room is not None and config.is_encoder_decoder:  # what its decoder reads is the target, moved by one
        longest = max(len(example["labels"]) for example in examples)
        if longest > room:
            raise UserError(
                f"a target has {longest} tokens, the model's decoder has {room} positions; "
                f"give task.train.max_target_length={room}"
            )


def check_decoder(config: PretrainedConfig, max_new_tokens: int) -> None:
    """An encoder–decoder's decoder has positions for the token that it starts from and what is generated after it.

    Raises:
        UserError: it lacks some.
    """
    most = positions(config)
    if most is not None and 1 + max_new_tokens > most:
        raise UserError(
            f"task.decode.max_new_tokens={max_new_tokens} and the token that they start from need more than the "
            f"model's {most} positions; give {most - 1} or less"
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
