"""Pretraining of the miniature models: a byte-level BPE, then a short run with the architecture's own objective."""

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from tokenizers import ByteLevelBPETokenizer
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from delta_lora.tiny.beside import weight_gradients_beside
from delta_lora.tiny.recipes import Recipe

Batch = dict[str, Tensor]
# What an architecture's module gives to train: an untrained model, its trained tokenizer, an endless stream of batches.
Start = tuple[PreTrainedModel, PreTrainedTokenizerBase, Iterator[Batch]]


def train_bpe(texts: Iterable[str], recipe: Recipe, special: list[str]) -> dict[str, Any]:
    """Train a byte-level BPE; returns what a tokenizer takes. ``special`` are its first tokens, in their order."""
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(
        texts, vocab_size=recipe.vocabulary, min_frequency=2, special_tokens=special, show_progress=False
    )
    model = json.loads(tokenizer.to_str())["model"]
    merges = [tuple(merge) for merge in model["merges"]]
    return {"vocab": model["vocab"], "merges": merges, "model_max_length": recipe.positions}


def batches(pairs: Iterator[tuple[str, str]], tokenizer: PreTrainedTokenizerBase, recipe: Recipe) -> Iterator[Batch]:
    """Pairs of what a model reads and what it is to write; the same text twice is next-token prediction.

    ``input_ids`` and ``attention_mask`` are (batch size, source tokens), ``labels`` (batch size, target tokens), each
    of at most ``recipe.length`` tokens, padded to the longest of its batch, which are cut from many pairs by length.
    """
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    size, cut = recipe.batch_size, {"truncation": True, "max_length": recipe.length}
    while True:
        read, write = map(list, zip(*itertools.islice(pairs, 32 * size), strict=True))
        sources = tokenizer(read, **cut)["input_ids"]
        targets = sources if read == write else tokenizer(write, **cut)["input_ids"]
        rows = sorted(zip(sources, targets, strict=True), key=lambda pair: len(pair[1]))
        for start in (size * torch.randperm(32)).tolist():
            sources, targets = zip(*rows[start : start + size], strict=True)
            attention = _padded([[1] * len(source) for source in sources], 0)
            yield {"input_ids": _padded(sources, pad), "attention_mask": attention, "labels": _padded(targets, -100)}


def _padded(rows: Sequence[list[int]], value: int) -> Tensor:
    longest = max(map(len, rows))
    return torch.tensor([row + [value] * (longest - len(row)) for row in rows])


def train(model: PreTrainedModel, batches: Iterator[Batch], recipe: Recipe, done: Callable[[], None]) -> float | None:
    """Train in place: AdamW (0.9, 0.98), a tenth of the steps warm-up, linear decay, gradients clipped at 1.

    ``done`` is called after every step. Returns the mean loss of the last tenth of the steps (nats a token), None
    without steps.
    """
    steps = recipe.steps
    optimizer = torch.optim.AdamW(model.parameters(), recipe.learning_rate, (0.9, 0.98), weight_decay=0.01, fused=True)
    warmup = max(1, steps // 10)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, (steps - step) / max(1, steps - warmup))
    )
    losses = []
    model.train()
    with weight_gradients_beside(model) as collect:
        for batch in itertools.islice(batches, steps):
            loss = model(**batch).loss
            loss.backward()
            collect()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            losses.append(loss.item())
            done()
    model.eval()
    return sum(losses[-warmup:]) / warmup if losses else None
