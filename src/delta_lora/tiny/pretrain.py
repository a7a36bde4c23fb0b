"""Pretraining of the miniature models: a byte-level BPE, then a short run with the architecture's own objective."""

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from tokenizers import ByteLevelBPETokenizer
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

Batch = dict[str, Tensor]
# What an architecture's module gives to train: an untrained model, its trained tokenizer, an endless stream of batches.
Start = tuple[PreTrainedModel, PreTrainedTokenizerBase, Iterator[Batch]]


@dataclass(frozen=True)
class Recipe:
    """How a miniature model is pretrained. Its content names the checkpoint's folder."""

    name: str
    architecture: str  # "gpt2" …: which module builds it
    version: int  # raise it when the model's code or its pretraining text changes what comes out
    layers: int = 4
    width: int = 128
    heads: int = 4
    vocabulary: int = 2048
    positions: int = 512
    steps: int = 700
    batch_size: int = 8
    length: int = 96
    learning_rate: float = 3e-3
    bpe_documents: int = 20_000
    seed: int = 0
    seconds: int = 75  # on an idle core, for the message

    @property
    def key(self) -> str:
        """Twelve hexadecimal digits of everything that decides the weights."""
        content = asdict(self)
        del content["seconds"]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def train_bpe(texts: Iterator[str], size: int, special: list[str]) -> dict[str, Any]:
    """A byte-level BPE of ``size`` tokens trained on ``texts``: the ``vocab`` and ``merges`` that a tokenizer takes.

    ``special`` are its first tokens, in their order.
    """
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(texts, vocab_size=size, min_frequency=2, special_tokens=special, show_progress=False)
    model = json.loads(tokenizer.to_str())["model"]
    return {"vocab": model["vocab"], "merges": [tuple(merge) for merge in model["merges"]]}


def causal_batches(
    texts: Iterator[str], tokenizer: PreTrainedTokenizerBase, batch_size: int, length: int
) -> Iterator[Batch]:
    """Next-token prediction: documents, each ended by the end-of-text token, packed without padding.

    ``input_ids`` and ``labels`` are (batch_size, length).
    """
    buffer: list[int] = []
    need = batch_size * length
    while True:
        while len(buffer) < need:
            encoded = tokenizer([next(texts) for _ in range(64)])["input_ids"]
            buffer += itertools.chain.from_iterable([*ids, tokenizer.eos_token_id] for ids in encoded)
        ids = torch.tensor(buffer[:need]).view(batch_size, length)
        del buffer[:need]
        yield {"input_ids": ids, "labels": ids}


def masked_batches(
    texts: Iterator[tuple[str, ...]], tokenizer: PreTrainedTokenizerBase, batch_size: int, length: int
) -> Iterator[Batch]:
    """Masked language modelling: texts and pairs of texts in the tokenizer's own form, padded to the batch's longest.

    ``input_ids``, ``attention_mask`` and ``labels`` are (batch_size, tokens ≤ length). Of 15 % of the tokens that
    are no special ones, 80 % become the mask, 10 % a random token and 10 % stay; ``labels`` is -100 at all others.
    Draws from torch's global generator.
    """
    special = torch.zeros(len(tokenizer), dtype=torch.bool)
    special[tokenizer.all_special_ids] = True
    ordinary = (~special).nonzero().squeeze(1)
    while True:
        encoded = [tokenizer(*next(texts), truncation=True, max_length=length) for _ in range(16 * batch_size)]
        # Texts of similar length share a batch, which halves the padding.
        encoded.sort(key=lambda example: len(example["input_ids"]))
        for index in torch.randperm(16).tolist():
            examples = encoded[index * batch_size : (index + 1) * batch_size]
            padded = tokenizer.pad({"input_ids": [example["input_ids"] for example in examples]}, return_tensors="pt")
            ids = padded["input_ids"]
            chosen = (torch.rand(ids.shape) < 0.15) & ~special[ids]
            labels = ids.where(chosen, torch.tensor(-100))
            fate = torch.rand(ids.shape)
            ids = ids.masked_fill(chosen & (fate < 0.8), tokenizer.mask_token_id)
            random_tokens = ordinary[torch.randint(len(ordinary), ids.shape)]
            ids = random_tokens.where(chosen & (fate >= 0.9), ids)
            yield {"input_ids": ids, "attention_mask": padded["attention_mask"], "labels": labels}


def train(
    model: PreTrainedModel,
    batches: Iterator[Batch],
    steps: int,
    learning_rate: float,
    progress: Callable[[], None],
) -> float:
    """Train in place: AdamW (0.9, 0.98), a tenth of ``steps`` warm-up, linear decay, gradients clipped at 1.

    ``progress`` is called after every step. Returns the mean loss of the last tenth of the steps (nats a token).
    """
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True
    )
    warmup = max(1, steps // 10)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, (steps - step) / max(1, steps - warmup))
    )
    losses = []
    model.train()
    for batch in itertools.islice(batches, steps):
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        progress()
    model.eval()
    last = losses[-max(1, steps // 10) :]
    return sum(last) / len(last)
