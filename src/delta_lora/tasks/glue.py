"""GLUE: eight tasks of understanding, scored on their validation sets (Wang et al. 2019; the paper's Table 4)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from delta_lora.errors import UserError
from delta_lora.hub import HubFiles, from_hub
from delta_lora.metrics.base import Resampler
from delta_lora.metrics.glue import TASKS, metric_name
from delta_lora.settings import Texts, setting
from delta_lora.tasks import parquet
from delta_lora.tasks.base import Item, Task, limit, spread
from delta_lora.tasks.settings import ClassificationSettings, HubFileSettings

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedTokenizerBase

HELD_OUT = slice(9, None, 10)  # of the training rows, for task.split=dev


class GlueSettings(ClassificationSettings):
    """What is set of a GLUE task."""

    sentences: Texts = setting("the columns of its one or two sentences", min_length=1, max_length=2)
    labels: Texts | None = setting("its classes in their order; null: a number from 0 to 5")
    evaluation_splits: Texts = setting("what is scored", min_length=1)
    files: HubFileSettings = setting("the data set", in_key=False)


class Glue(Task):
    """One GLUE task: which columns hold the sentences, what the labels are, which splits are scored."""

    generates = False
    Settings = GlueSettings
    settings: GlueSettings

    @property
    def columns(self) -> list[str]:
        """The columns that are read: the sentences', then the label's."""
        return [*self.settings.sentences, "label"]

    @property
    def regression(self) -> bool:
        """STS-B: a similarity from 0 to 5 instead of classes."""
        return self.settings.labels is None

    @property
    def splits(self) -> list[str]:
        """The splits that are read."""
        return ["train"] if self.held_out else ["train", *self.settings.evaluation_splits]

    @property
    def held_out(self) -> bool:
        """Whether every tenth training row is scored and not trained on: GLUE's own development sets are its test."""
        return self.settings.split == "dev"

    def check_local(self, folder: Path) -> None:
        parquet.check_local(folder, self.splits)
        for split in self.splits:
            self.table(split)

    def download(self) -> Path:
        return from_hub(*self.remote()) / self.settings.files.hub_folder

    def files(self, folder: Path) -> list[Path]:
        return [path for split in self.splits for path in parquet.local_files(folder, split)]

    def remote(self) -> list[HubFiles]:
        files = self.settings.files
        patterns = tuple(f"{files.hub_folder}/{split}-*.parquet" for split in self.splits)
        return [HubFiles(files.repository, "dataset", files.revision, patterns)]

    def table(self, split: str) -> "pd.DataFrame":
        """Sentences and labels of one split.

        Raises:
            UserError: a label that the task does not have (with its row), or as :func:`parquet.read_split`.
        """
        files = parquet.local_files(self.fetch(), split)
        table = parquet.read_split(files, self.columns, parquet.empty_texts(self.settings, split))
        labels, names = table["label"], self.settings.labels
        wrong = ~labels.between(0, 5) if names is None else ~labels.isin(range(len(names)))
        if wrong.any():
            row = int(wrong.to_numpy().argmax())
            allowed = "a number from 0 to 5" if names is None else f"0 to {len(names) - 1} ({', '.join(names)})"
            raise UserError(f"{self.settings.name}, {split} split, row {row}: label {labels[row]}, expected {allowed}")
        return table

    def train_size(self) -> int:
        size = len(self.table("train")) if self.local else self.settings.train_examples
        size -= len(range(size)[HELD_OUT]) if self.held_out else 0
        return min(size, self.settings.max_train_examples or size)

    def train_examples(self, tokenizer: "PreTrainedTokenizerBase", kind: str) -> list[dict[str, Any]]:
        table = list(self.table("train").itertuples(index=False, name=None))
        if self.held_out:
            del table[HELD_OUT]
        rows = limit(table, self.settings.max_train_examples)
        self.check_size(len(rows))
        encoded = self.encode(tokenizer, [row[:-1] for row in rows])
        cast = float if self.regression else int
        return [{**example, "labels": cast(row[-1])} for example, row in zip(encoded, rows, strict=True)]

    def encode(
        self, tokenizer: "PreTrainedTokenizerBase", sentences: Sequence[Sequence[str]]
    ) -> list[dict[str, list[int]]]:
        """Single sentences or pairs, the longer one of a pair cut first, to ``train.max_length`` tokens.

        All that the tokenizer returns goes to the model: a BERT tells the sentences apart by ``token_type_ids``.
        """
        columns = [list(column) for column in zip(*sentences, strict=True)]
        encoded = tokenizer(*columns, truncation=True, max_length=self.settings.train.max_length)
        return [{name: values[i] for name, values in encoded.items()} for i in range(len(sentences))]

    def test_items(self) -> list[Item]:
        most = self.settings.max_test_examples
        items: list[Item] = []
        start = 0
        splits, part = (["train"], HELD_OUT) if self.held_out else (self.settings.evaluation_splits, slice(None))
        for split in splits:
            rows = list(self.table(split).itertuples(index=False, name=None))[part]
            items += [
                Item(start + i, "\t".join(row[:-1]), [str(row[-1])], {"split": split, "sentences": list(row[:-1])})
                for i, row in spread(list(enumerate(rows)), most)
            ]
            start += len(rows)
        return items

    def encode_test(self, items: Sequence[Item], tokenizer: "PreTrainedTokenizerBase") -> list[dict[str, Any]]:
        return self.encode(tokenizer, [item.extra["sentences"] for item in items])

    def model_settings(self) -> dict[str, Any]:
        """The classification head: one output for regression, else one a class."""
        if self.settings.labels is None:
            return {"num_labels": 1, "problem_type": "regression"}
        return {"num_labels": len(self.settings.labels), "problem_type": "single_label_classification"}

    def selection_metric(self) -> str | None:
        name = self.settings.name.removeprefix("glue/")
        return metric_name(name) if name in TASKS else None

    def resampler(self, lines: Sequence[Mapping[str, Any]]) -> Resampler:
        from delta_lora.metrics.epochs import EpochResampler  # takes long to load
        from delta_lora.metrics.glue import GlueResampler

        name = self.settings.name.removeprefix("glue/")
        labels = [float(label) for line in lines for label in line["references"]]
        halves = name == "mnli" and not self.held_out
        matched = [line["split"] == "validation_matched" for line in lines] if halves else None
        predictions = [float(line["prediction"]) for line in lines]
        if not all("by_epoch" in line for line in lines):
            return GlueResampler(name, predictions, labels, matched)
        epochs = list(zip(*([float(text) for text in line["by_epoch"]] for line in lines), strict=True))
        return EpochResampler(name, predictions, labels, matched, epochs)
