"""What the text-generation tasks share: pairs of input and target, encoded for each kind of model."""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from delta_lora.errors import UserError
from delta_lora.tasks.base import Item, Task, limit, spread
from delta_lora.tasks.settings import GenerationSettings, TaskSettings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100  # the label that the loss leaves out


class GenerationTask(Task):
    """A task of (input, target) texts. A subclass reads its files; everything else is here."""

    generates = True
    Settings: ClassVar[type[TaskSettings]] = GenerationSettings
    settings: GenerationSettings

    @abstractmethod
    def read_train(self, folder: Path) -> list[tuple[str, str]]:
        """Training pairs (input, target) in the files' order."""

    @abstractmethod
    def read_test(self, folder: Path) -> list[Item]:
        """Distinct test inputs with their references, in the files' order."""

    def read_dev(self, folder: Path) -> list[Item]:
        """Distinct inputs of the development set with their references, in the files' order.

        Raises:
            UserError: the task has none.
        """
        raise UserError(f"task.split=dev: task={self.settings.name} has no development set; leave task.split at test")

    def written(self, text: str) -> str:
        """An input's text as the task writes it, for inputs that come from elsewhere."""
        return text

    def train_size(self) -> int:
        size = len(self.read_train(self.fetch())) if self.local else self.settings.train_examples
        return min(size, self.settings.max_train_examples or size)

    def train_examples(self, tokenizer: "PreTrainedTokenizerBase", kind: str) -> list[dict[str, list[int]]]:
        pairs = limit(self.read_train(self.fetch()), self.settings.max_train_examples)
        self.check_size(len(pairs))
        return self.encoded(pairs, tokenizer, kind)

    def encoded(
        self, pairs: Sequence[tuple[str, str]], tokenizer: "PreTrainedTokenizerBase", kind: str
    ) -> list[dict[str, list[int]]]:
        """(Input, target) pairs tokenized for a model of this kind, as it is trained on them."""
        train = self.settings.train
        if kind == "causal":
            return encode_causal(tokenizer, pairs, train.max_length)
        return encode_seq2seq(tokenizer, pairs, train.max_length, train.max_target_length or train.max_length)

    def test_items(self) -> list[Item]:
        read = self.read_dev if self.settings.split == "dev" else self.read_test
        return spread(read(self.fetch()), self.settings.max_test_examples)


def causal_prompts(tokenizer: "PreTrainedTokenizerBase", sources: Sequence[str]) -> list[list[int]]:
    """What a decoder-only model reads before it writes, in training and in decoding: the input, then the end token."""
    encoded = tokenizer(list(sources), add_special_tokens=False)["input_ids"]
    return [[*ids, tokenizer.eos_token_id] for ids in encoded]


def encode_causal(
    tokenizer: "PreTrainedTokenizerBase", pairs: Sequence[tuple[str, str]], max_length: int
) -> list[dict[str, list[int]]]:
    """Sequences for a decoder-only model, as microsoft/LoRA writes them.

    The prompt (:func:`causal_prompts`), " " + target, ``<|endoftext|>``; the loss is on what follows the prompt only.
    A sequence over ``max_length`` loses the end of its target.

    Raises:
        UserError: a context alone fills ``max_length``.
    """
    prompts = causal_prompts(tokenizer, [source for source, _ in pairs])
    targets = tokenizer([f" {target}" for _, target in pairs], add_special_tokens=False)["input_ids"]
    examples = []
    for prompt, target in zip(prompts, targets, strict=True):
        if len(prompt) >= max_length:
            raise UserError(
                f"a training input has {len(prompt)} tokens, task.train.max_length is {max_length}: nothing of its "
                "target would be left; raise task.train.max_length"
            )
        tokens = [*prompt, *target, tokenizer.eos_token_id][:max_length]
        labels = [IGNORED] * len(prompt) + tokens[len(prompt) :]
        examples.append({"input_ids": tokens, "attention_mask": [1] * len(tokens), "labels": labels})
    return examples


def encode_seq2seq(
    tokenizer: "PreTrainedTokenizerBase",
    pairs: Sequence[tuple[str, str]],
    max_length: int,
    max_target_length: int,
) -> list[dict[str, list[int]]]:
    """Inputs cut at ``max_length`` tokens and labels cut at ``max_target_length``, for encoder-decoders."""
    inputs = tokenizer([source for source, _ in pairs], truncation=True, max_length=max_length)["input_ids"]
    labels = tokenizer(text_target=[target for _, target in pairs], truncation=True, max_length=max_target_length)[
        "input_ids"
    ]
    return [
        {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": target}
        for ids, target in zip(inputs, labels, strict=True)
    ]
