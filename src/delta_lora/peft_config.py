"""A PEFT configuration that can be written: PEFT writes it as JSON, but not before the first checkpoint."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from peft import PeftConfig, PeftModel

from delta_lora.errors import UserError


def make_all_writable(model: PeftModel) -> None:
    """:func:`make_writable` for every adapter of a model: a checkpoint writes them all."""
    for config in model.peft_config.values():
        make_writable(config)


def make_writable(config: PeftConfig) -> None:
    """Give ``config`` plain containers in the place of a configuration library's, and write it once, to nowhere.

    Raises:
        UserError: an option that JSON cannot hold, so that no checkpoint and no export could be written.
    """
    for field in fields(config):
        setattr(config, field.name, plain(getattr(config, field.name)))
    for name, value in config.to_dict().items():
        try:
            json.dumps(sorted(value) if isinstance(value, set) else value, sort_keys=True)
        except (TypeError, ValueError) as error:
            raise UserError(
                f"the adapter's {name}={value!r:.80} cannot be written as JSON ({error}), so that no checkpoint could "
                "be; give plain Python numbers, texts, lists and dictionaries"
            ) from None


def plain(value: Any) -> Any:
    """A mapping as a ``dict`` and a sequence as a ``list``, and so within them; anything else, sets too, as it is."""
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [plain(item) for item in value]
    return value
