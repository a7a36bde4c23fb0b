"""The keys and values of a beam search, each token's once: the beams of an input are paths in a tree of tokens.

A beam that branches copies nothing: its branches share the nodes up to where they part, and all share the prompt. The
stock model runs over a plain row of tokens, whatever inputs and beams they belong to; only its attention, through
Transformers' own interface for that, is :func:`attend`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel

from delta_lora.errors import UserError
from delta_lora.suite.run.precision import attention_as

NAME = "prefix_tree"
GROWTH = 32  # a slot's places come in multiples of so many


class Queries(NamedTuple):
    """Rows of a step whose attention is computed together, laid out as ``(slots, width)``."""

    rows: slice  # of the step's tokens
    slots: Tensor | None  # the slots that they are in, in order; None: all
    at: Tensor  # each row's place in that layout, counted through it
    width: int
    mask: Tensor  # (slots, width, places): the places that each one sees


class PrefixTree:
    """Keys and values of the inputs in ``slots`` slots; a slot has *places*, each for one token of its tree.

    Args:
        slots: inputs at a time.
        places: tokens a slot has room for; it may be raised between two steps.
        dtype: the model's.
    """

    def __init__(self, slots: int, places: int, dtype: torch.dtype) -> None:
        self.slots, self.places, self.dtype = slots, places, dtype
        # Places are seen in multiples of so many. In bf16 oneDNN 3.12 leaves what it pads a sum of another length with
        # as it was, on some processors with AMX: NaN, if that was NaN (tests/suite/run/test_beam.py).
        self.multiple = GROWTH if dtype == torch.bfloat16 else 8
        self.layers: dict[int, tuple[Tensor, Tensor]] = {}  # each (slots, key-value heads, places, d)
        self.slot = self.place = torch.empty(0, dtype=torch.long)
        # With the row that stands at each place of the layout, any where none does; and −∞ for what each does not see.
        self.queries: list[tuple[Queries, Tensor, Tensor]] = []

    def step(self, slot: Tensor, place: Tensor, queries: list[Queries]) -> None:
        """Say where the next tokens go, ``slot`` and ``place`` of each (both ``(tokens,)``), and what they see."""
        self.slot, self.place = slot, place
        self.queries = []
        for part in queries:
            if len(part.at):
                unseen = torch.zeros_like(part.mask, dtype=self.dtype).masked_fill_(~part.mask, float("-inf"))
                row = part.at.new_zeros(part.mask.shape[0] * part.width)
                row[part.at] = torch.arange(len(part.at), device=row.device)
                self.queries.append((part, row, unseen))

    def attend(self, layer: int, states: tuple[Tensor, Tensor, Tensor], scaling: float | None) -> Tensor:
        """Attention of the step's tokens to their own prefixes, their keys and values kept.

        Args:
            layer: its number.
            states: queries, keys and values, each ``(heads, tokens, d)``.
            scaling: of the scores.

        Returns:
            ``(tokens, heads, d)``.
        """
        query, key, value = (state.transpose(0, 1) for state in states)
        keys, values = self.room(layer, key)
        keys[self.slot, :, self.place] = key
        values[self.slot, :, self.place] = value
        query = query * (query.shape[-1] ** -0.5 if scaling is None else scaling)
        outputs = []
        for part, row, unseen in self.queries:
            seen = part.mask.shape[-1]
            own = slice(None) if part.slots is None else part.slots
            laid = query[part.rows].flatten(1).index_select(0, row).view(-1, part.width, *query.shape[1:])
            attended = grouped_attention(laid, (keys[own, :, :seen], values[own, :, :seen]), unseen)
            outputs.append(attended.index_select(0, part.at).view_as(query[part.rows]))
        return torch.cat(outputs) if len(outputs) > 1 else outputs[0]

    def room(self, layer: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """A layer's keys and values with `places` places, those that it has kept."""
        have = self.layers.get(layer)
        if have is None or have[0].shape[2] < self.places:
            # Zeros: what no beam sees is still multiplied by its weight of 0.
            grown = [like.new_zeros(self.slots, like.shape[1], self.places, like.shape[2]) for _ in range(2)]
            for new, old in zip(grown, have or (), strict=False):
                new[:, :, : old.shape[2]] = old
            have = self.layers[layer] = (grown[0], grown[1])
        return have


def grouped_attention(query: Tensor, states: tuple[Tensor, Tensor], unseen: Tensor) -> Tensor:
    """Attention of scaled queries ``(slots, width, heads, d)`` to ``(slots, key-value heads, places, d)``.

    The heads that share a key-value head are further queries of it, so that keys and values are not repeated. Three
    plain products: for so few queries they take half the time of the fused kernel on a CPU.

    Args:
        unseen: ``(slots, width, places)``, −∞ for what a query does not see, else 0.

    Returns:
        ``(slots · width, heads · d)``.
    """
    keys, values = states
    slots, shared, places, d = keys.shape
    width, heads = query.shape[1:3]
    if keys.dtype == torch.bfloat16:
        keys = keys.contiguous()  # a CPU's product would copy them too, transposed, which takes eight times as long
    grouped = query.view(slots, width, shared, heads // shared, d).permute(0, 2, 3, 1, 4)
    scores = grouped.reshape(slots, shared, -1, d) @ keys.transpose(-1, -2)
    scores.view(slots, shared, -1, width, places).add_(unseen[:, None, None])
    output = scores.softmax(-1, dtype=torch.float32).to(values.dtype) @ values
    output = output.view(slots, shared, heads // shared, width, values.shape[-1])
    return output.permute(0, 3, 1, 2, 4).reshape(slots * width, -1)


def attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **arguments: Any
) -> tuple[Tensor, None]:
    """Transformers' attention interface: states ``(1, heads, tokens, d)`` → ``(1, tokens, heads, d)``."""
    tree: PrefixTree | None = arguments.get(NAME)
    layer: Any = module.layer_idx
    if tree is None or any(arguments.get(name) is not None for name in ("sliding_window", "softcap", "position_bias")):
        raise UserError(f"{type(module).__name__} needs an attention of its own; set task.decode.search=transformers")
    return tree.attend(layer, (query[0], key[0], value[0]), arguments.get("scaling"))[None], None


AttentionInterface.register(NAME, attend)


@contextmanager
def attention_in_trees(model: PreTrainedModel) -> Iterator[None]:
    """Without dropout, the model attends in the `PrefixTree` that a call gives as ``prefix_tree``; then as before.

    Raises:
        UserError: the model takes no attention but its own.
    """
    if not model._supports_attention_backend:
        raise UserError(f"{type(model).__name__} takes no other attention; set task.decode.search=transformers")
    training = model.training
    with attention_as(model, NAME):
        model.eval()
        try:
            yield
        finally:
            model.train(training)
