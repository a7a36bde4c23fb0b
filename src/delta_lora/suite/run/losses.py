"""The loss on the references of the scored items: what settings are chosen by, without a text to generate."""

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import DataCollatorForSeq2Seq

from delta_lora.suite.config.cell import Cell
from delta_lora.suite.machine import ranks
from delta_lora.suite.run.inputs import Inputs
from delta_lora.suite.run.precision import check_numbers, frozen_matrices_in, uses_bf16
from delta_lora.suite.run.progress import Progress
from delta_lora.suite.run.targets import at_targets
from delta_lora.tasks.generation import IGNORED, GenerationTask

BATCH = 8  # examples at once: their logits are the largest thing in memory


@torch.inference_mode()
def measure_losses(cell: Cell, inputs: Inputs) -> list[dict[str, Any]]:
    """Merge the adapter and measure every reference; several processes share the batches.

    Returns:
        An object per item, as :meth:`Task.lines`, without a text, and with ``loss``, the negative log-likelihood of
        its references summed over their target tokens in nats, and ``tokens``, how many those are.
    """
    assert isinstance(cell.task, GenerationTask)
    model = cell.method.merge()
    model.eval()
    owners = [i for i, item in enumerate(inputs.items) for _ in item.references]
    pairs = [(item.input, text) for item in inputs.items for text in item.references]
    examples = cell.task.encoded(pairs, inputs.tokenizer, cell.spec.kind)
    lines = cell.task.lines(inputs.items, [""] * len(inputs.items))
    for line in lines:
        line |= {"loss": 0.0, "tokens": 0}
    model.requires_grad_(False)
    held = frozen_matrices_in(model, torch.bfloat16) if uses_bf16(cell.train.precision) else nullcontext()
    with held:
        own = {i: (loss, tokens) for i, loss, tokens in token_losses(cell, model, inputs, examples)}
    for i, (loss, tokens) in sorted(pair for part in ranks.gather(own) for pair in part.items()):
        lines[owners[i]]["loss"] += loss
        lines[owners[i]]["tokens"] += tokens
    return lines


def token_losses(
    cell: Cell, model: Any, inputs: Inputs, examples: list[dict[str, list[int]]]
) -> Iterator[tuple[int, float, int]]:
    """Place, summed loss and number of target tokens of this process's share of the examples."""
    collator = DataCollatorForSeq2Seq(inputs.tokenizer, model=model, label_pad_token_id=IGNORED)
    order = sorted(range(len(examples)), key=lambda i: (len(examples[i]["input_ids"]), i))
    batches = [order[i : i + BATCH] for i in range(0, len(order), BATCH)][ranks.rank() :: ranks.count()]
    progress, done = Progress(cell.name, len(examples)), 0
    bf16 = uses_bf16(cell.train.precision)
    for batch in batches:
        collated: Any = collator([dict(examples[i]) for i in batch]).to(model.device)
        with torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
            sums, counts = summed_losses(model, collated, shift=cell.spec.kind == "causal")
        check_numbers(sums)
        yield from zip(batch, sums.tolist(), counts, strict=True)
        done += len(batch)
        progress.inputs("measuring", min(done * ranks.count(), len(examples)))


def summed_losses(model: Any, batch: Mapping[str, Any], *, shift: bool) -> tuple[Tensor, list[int]]:
    """The losses of a batch's examples, (examples,), each summed over its target tokens, and how many those are.

    Args:
        model: a generating model.
        batch: ``input_ids``, ``labels`` (batch, sequence) …
        shift: the target of a place is the next one's token, as for a decoder-only model.
    """
    with at_targets(model, batch) as given:
        found, labels = given["labels"], batch["labels"]
        if shift or "decoder_input_ids" in given:
            del given["labels"]  # the model would make its own loss of them
        logits = model(**given).logits
    if shift:
        logits, found, labels = logits[:, :-1], found[:, 1:], labels[:, 1:]
    targets = found.ne(IGNORED)
    counts = labels.ne(IGNORED).sum(1).tolist()
    losses = cross_entropy(logits[targets].float(), found[targets], reduction="none").split(counts)
    return torch.stack([part.sum() for part in losses]), counts
