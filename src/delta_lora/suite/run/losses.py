"""The loss on the references of the scored items: what settings are chosen by, without a text to generate."""

from collections.abc import Iterator
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import DataCollatorForSeq2Seq

from delta_lora.suite.config.cell import Cell
from delta_lora.suite.machine import ranks
from delta_lora.suite.run.inputs import Inputs
from delta_lora.suite.run.precision import check_numbers, uses_bf16
from delta_lora.suite.run.progress import Progress
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
            logits = model(**collated).logits
        labels = collated["labels"]
        if cell.spec.kind == "causal":  # the target of a place is the next one's token
            logits, labels = logits[:, :-1], labels[:, 1:]
        losses = cross_entropy(logits.transpose(1, 2).float(), labels, ignore_index=IGNORED, reduction="none").sum(1)
        check_numbers(losses)
        yield from zip(batch, losses.tolist(), labels.ne(IGNORED).sum(1).tolist(), strict=True)
        done += len(batch)
        progress.inputs("measuring", min(done * ranks.count(), len(examples)))
