"""Logits where there is something to learn: half of a training batch of E2E is context and padding."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import PreTrainedModel

from delta_lora.tasks.generation import IGNORED


@contextmanager
def at_targets(model: PreTrainedModel, batch: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A batch with which ``model`` makes logits only at the positions that predict a target token.

    The model's head then sees those hidden states of all examples as one sequence, (1, targets + 1, d), and the labels
    are (1, targets + 1): one more, since the loss of a decoder-only model shifts them by one. It is the mean (or sum)
    over the same tokens as that of the whole batch, label smoothing included. Batches of classification, and of
    an encoder–decoder that has to make its decoder's inputs from the labels, are given as they are.

    Args:
        model: the model, with or without an adapter.
        batch: ``input_ids``, ``labels`` (batch, sequence) …; of an encoder–decoder ``decoder_input_ids``.
    """
    labels: Tensor | None = batch.get("labels")
    head: Any = model.get_output_embeddings()
    shifted = model.config.is_encoder_decoder  # its labels stand where their token is predicted, not one place after
    own_inputs = shifted and "decoder_input_ids" not in batch  # the model makes them from the labels: it needs all
    if labels is None or labels.dim() != 2 or head is None or own_inputs:
        yield dict(batch)
        return
    predicted = (labels if shifted else pad(labels, (0, 1), value=IGNORED)[:, 1:]).flatten()
    targets = (predicted != IGNORED).nonzero().flatten()
    rows = pad(targets, (0, 1), value=len(predicted) - 1)
    one_more = (0, 1) if shifted else (1, 0)

    def keep(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (inputs[0].flatten(0, 1).index_select(0, rows)[None],)

    hook = head.register_forward_pre_hook(keep)
    try:
        yield {**batch, "labels": pad(predicted.index_select(0, targets), one_more, value=IGNORED)[None]}
    finally:
        hook.remove()
