"""Batches as a run will have them, for timing: of its data, or, where those are not here, of its task's lengths."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor
from transformers import (
    DataCollatorForSeq2Seq,
    DataCollatorWithPadding,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from delta_lora.errors import UserError
from delta_lora.models.load import load_tokenizer
from delta_lora.suite.config.cell import Cell
from delta_lora.suite.plan.prefetch import data_here, model_here
from delta_lora.suite.run.batches import EpochSampler
from delta_lora.tasks.generation import IGNORED, encode_causal, encode_seq2seq

WORD = "w"


@dataclass(frozen=True)
class Sample:
    """Encoded training examples, and test inputs: texts for generation, encoded for classification."""

    tokenizer: PreTrainedTokenizerBase
    examples: list[dict[str, Any]]
    inputs: Sequence[Any]

    def steps(self, cell: Cell, model: Any, count: int) -> Iterator[list[dict[str, Tensor]]]:
        """The micro-batches of ``count`` optimizer steps, drawn from those of an epoch."""
        train = cell.config.task.train
        lengths = [len(example["input_ids"]) for example in self.examples]
        order = list(EpochSampler(lengths, train.batch_size, cell.config.seed, lambda: 0, train.group_by_length))
        batches = [order[i : i + train.batch_size] for i in range(0, len(order), train.batch_size)]
        whole = [batch for batch in batches if len(batch) == train.batch_size] or batches
        collate: Any = (
            DataCollatorForSeq2Seq(self.tokenizer, model=model, label_pad_token_id=IGNORED)
            if cell.task.generates
            else DataCollatorWithPadding(self.tokenizer)
        )
        micro = train.micro_batch_size or train.batch_size
        for number in np.random.default_rng(0).integers(len(whole), size=count):
            batch = [self.examples[i] for i in whole[number]]
            yield [dict(collate(batch[i : i + micro])) for i in range(0, len(batch), micro)]

    def test_batches(self, size: int, count: int) -> tuple[list[list[Any]], int]:
        """Some of the test set's batches, which go by length, evenly chosen; and how many there are in all."""
        distinct = list(dict.fromkeys(self.inputs)) if isinstance(self.inputs[0], str) else list(self.inputs)
        ordered = sorted(distinct, key=lambda item: len(item if isinstance(item, str) else item["input_ids"]))
        batches = [ordered[i : i + size] for i in range(0, len(ordered), size)]
        chosen = sorted({(2 * i + 1) * len(batches) // (2 * count) for i in range(count)})
        return [batches[i] for i in chosen], len(batches)


def draw_sample(cell: Cell) -> Sample:
    """The cell's own data where they and the tokenizer are here; else texts of the lengths that its task states.

    Raises:
        UserError: neither is there.
    """
    config, task = cell.config, cell.task
    if data_here(task) and model_here(config.model, cell.cache_dir):
        tokenizer = load_tokenizer(config.model, cell.cache_dir)
        items = task.test_items()
        inputs: Sequence[Any] = [i.input for i in items] if task.generates else task.encode_test(items, tokenizer)
        return Sample(tokenizer, task.train_examples(tokenizer, cell.spec.kind), inputs)
    lengths, train = config.task.get("lengths"), config.task.train
    if lengths is None:
        raise UserError(f"the lengths of {config.task.name}'s texts are not known here; `make prefetch` gets them")
    random, tokenizer = np.random.default_rng(0), word_tokenizer()

    def words(deciles: Sequence[int], count: int) -> list[str]:
        drawn = np.interp(random.random(count), np.linspace(0, 1, len(deciles)), list(deciles))
        return [" ".join([WORD] * max(1, round(length))) for length in drawn]

    count = min(task.train_size(), 64 * train.batch_size)
    tests = words(lengths.input, min(config.task.test_examples, config.task.max_test_examples or 10**9))
    sources = words(lengths.input, count)
    if not task.generates:
        labels = [0] * count if config.task.labels is not None else [0.0] * count
        encoded = [
            {**encode(tokenizer, text, train.max_length), "labels": y} for text, y in zip(sources, labels, strict=True)
        ]
        return Sample(tokenizer, encoded, [encode(tokenizer, text, train.max_length) for text in tests])
    pairs = list(zip(sources, words(lengths.target, count), strict=True))
    if cell.spec.kind == "causal":
        return Sample(tokenizer, encode_causal(tokenizer, pairs, train.max_length), tests)
    return Sample(tokenizer, encode_seq2seq(tokenizer, pairs, train.max_length, train.max_target_length), tests)


def encode(tokenizer: PreTrainedTokenizerBase, text: str, most: int) -> dict[str, list[int]]:
    """One text for a classifier."""
    ids = tokenizer(text, truncation=True, max_length=most)["input_ids"]
    return {"input_ids": ids, "attention_mask": [1] * len(ids)}


def word_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word, with the special tokens where RoBERTa and BART have theirs."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    model = Tokenizer(models.WordLevel({"<s>": 0, "<pad>": 1, "</s>": 2, WORD: 3}, unk_token=WORD))
    model.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=model, bos_token="<s>", pad_token="<pad>", eos_token="</s>", unk_token=WORD
    )
