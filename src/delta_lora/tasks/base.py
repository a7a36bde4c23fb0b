"""What a task is: where its files are, how they become examples, how predictions become scores."""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from omegaconf import DictConfig

from delta_lora.errors import UserError
from delta_lora.files import digest_of, known_sha256
from delta_lora.metrics.base import Resampler, TokenLoss
from delta_lora.settings import checked
from delta_lora.tasks.released import as_shipped, files_digest
from delta_lora.tasks.settings import TaskSettings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from delta_lora.files import WebFile
    from delta_lora.hub import HubFiles

PINNED = "pinned"  # the fingerprint of the released data, from where the project has them
COMMIT = re.compile(r"\b[0-9a-f]{40}\b")


@dataclass(frozen=True)
class Item:
    """One test input: its place in the test set, its text and what it is scored against."""

    id: int
    input: str
    references: list[str]
    extra: dict[str, Any] = field(default_factory=dict)


class Task(ABC):
    """Base class of all tasks, built from the ``task`` configuration group.

    A subclass whose group has settings of its own names their class as ``Settings``. ``generates`` says how a trained
    model is scored: True, it writes a text for each test input after training; False, it is scored on the test inputs
    after every epoch, and the best one counts.

    Args:
        settings: the composed ``task`` group, or its settings.
        data_dir: local data sets, or None to download.
        cache_dir: where downloads and generated data go.
    """

    Settings: ClassVar[type[TaskSettings]] = TaskSettings
    generates: ClassVar[bool]
    settings: TaskSettings

    def __init__(self, settings: DictConfig | TaskSettings, data_dir: Path | None, cache_dir: Path) -> None:
        self.settings = checked(self.Settings, settings, "task")
        self.data_dir = data_dir
        self.cache_dir = cache_dir

    @property
    def generated(self) -> bool:
        """Whether the data are the tiny scale's."""
        return self.settings.source == "generated"

    @property
    def local(self) -> bool:
        """Whether the data are files of the user's, in ``data_dir``."""
        return self.data_dir is not None and not self.generated

    def check_files(self) -> None:
        """Look at local data without downloading.

        Raises:
            UserError: what is missing or wrong, and where.
        """
        if self.settings.split == "dev" and self.generated:
            raise UserError(
                f"task.split=dev: the generated data of {self.settings.name} have no development set; choose settings "
                "on the real data (task.source=official), or leave task.split at test"
            )
        if self.local:
            self.check_local(self.fetch())

    def check_local(self, folder: Path) -> None:
        """Look at the data in this folder, as :meth:`check_files`; a subclass says what it needs there."""
        if not self.files(folder):
            raise UserError(
                f"data_dir has no data of {self.settings.name}: looked in {folder}; point data_dir or DELTA_LORA_DATA "
                "at a folder that has them"
            )

    def fetch(self) -> Path:
        """The folder with the data: generated or downloaded and checked first where needed."""
        if self.generated:
            return self.generated_folder() / self.settings.files.folder
        if self.data_dir is not None:
            return self.data_dir / self.settings.files.folder
        return self.download()

    def download(self) -> Path:
        """The folder with the data, downloaded and checked.

        Raises:
            UserError: the task has nothing to download, or it cannot be had.
        """
        raise UserError(
            f"task={self.settings.name} has nothing to download; give the folder that holds its "
            f"{self.settings.files.folder} as data_dir or DELTA_LORA_DATA"
        )

    def remote(self) -> "Sequence[HubFiles | WebFile]":
        """What :meth:`download` gets; nothing where the data are always local."""
        return []

    @abstractmethod
    def files(self, folder: Path) -> list[Path]:
        """The files of the folder that the task reads: other local files are other data, and another run's key."""

    def released(self) -> str | None:
        """The released files' digest (:func:`delta_lora.files.digest_of`), where the configuration pins it."""
        return None

    @abstractmethod
    def train_size(self) -> int:
        """Number of training examples of the run, known before anything is downloaded."""

    def check_size(self, found: int) -> None:
        """The data have as many training examples as the schedule was made for.

        Raises:
            UserError: they differ in number.
        """
        if found != self.train_size():
            raise UserError(
                f"the data of {self.settings.name} have {found} training examples, and {self.train_size()} were "
                f"counted on; correct task.train_examples={self.settings.train_examples}"
            )

    @abstractmethod
    def train_examples(self, tokenizer: "PreTrainedTokenizerBase", kind: str) -> list[dict[str, list[int]]]:
        """Tokenized training examples for a model of this kind ("causal", "seq2seq", "classification")."""

    @abstractmethod
    def test_items(self) -> list[Item]:
        """The inputs of ``split`` in the official order, ``max_test_examples`` of them spread over the whole set."""

    @abstractmethod
    def resampler(self, lines: Sequence[Mapping[str, Any]]) -> Resampler:
        """The task's metric suite over predictions, as ``predictions.jsonl`` holds them (:meth:`lines`)."""

    def prepare_scoring(self) -> None:  # noqa: B027 (most tasks need nothing)
        """Make what :meth:`resampler` takes long to make and keeps in the cache, where there is such a thing."""

    def scorer(self, lines: Sequence[Mapping[str, Any]]) -> Resampler:
        """:meth:`resampler`, or of a run that measured losses their mean."""
        if lines and "tokens" in lines[0]:
            return TokenLoss([line["loss"] for line in lines], [line["tokens"] for line in lines])
        return self.resampler(lines)

    @staticmethod
    def lines(items: Sequence[Item], predictions: Sequence[str]) -> list[dict[str, Any]]:
        """One object per test item: ``id``, ``input``, ``prediction``, ``references`` and what else is known of it."""
        return [
            {"id": item.id, "input": item.input, "prediction": text, "references": item.references, **item.extra}
            for item, text in zip(items, predictions, strict=True)
        ]

    def score(self, items: Sequence[Item], predictions: Sequence[str]) -> dict[str, float]:
        """The table's metrics, by column name and in the table's units."""
        return self.columns_of(self.scorer(self.lines(items, predictions)).score())

    def columns_of(self, scores: Mapping[str, float]) -> dict[str, float]:
        """Of a metric suite's scores, those that the task's configuration lists.

        A part of the test set without items (WebNLG's unseen categories under ``max_test_examples``) has none.
        """
        return {name: float(scores[name]) for name in self.settings.metrics if name in scores}

    def selection_metric(self) -> str | None:
        """The score that chooses the best epoch (classification); None: the first of ``metrics``, then in the key."""
        return None

    def model_settings(self) -> dict[str, Any]:
        """Fields of the model's Transformers configuration that the task sets (its number of labels)."""
        return {}

    def encode_test(self, items: Sequence[Item], tokenizer: "PreTrainedTokenizerBase") -> list[dict[str, Any]]:
        """The test inputs tokenized, for a task that does not generate; the others' are decoded instead."""
        raise NotImplementedError(f"{type(self).__name__} generates texts: its inputs are decoded")

    def fingerprint(self) -> str:
        """What the data are, where that is not pinned by the configuration: part of a run's key."""
        if self.generated:
            from delta_lora.tiny import data

            return f"generated-{data.version(self.settings.name)}"
        if not self.local:
            return self.remote_fingerprint()
        folder = self.fetch()
        try:
            digest = digest_of({path.relative_to(folder).as_posix(): known_sha256(path) for path in self.files(folder)})
        except OSError as error:
            raise UserError(f"{folder} cannot be read ({error})") from error
        return PINNED if digest == self.released() and self.remote_fingerprint() == PINNED else digest

    def remote_fingerprint(self) -> str:
        """`PINNED` where ``files`` are those that the project ships, else also a digest of them: other data, maybe."""
        files = self.settings.files
        return PINNED if as_shipped(self.settings.name, files) else f"{PINNED}, {files_digest(files)}"

    def revision(self) -> str:
        """Which data a run was made on, for its record: the original's commit, or what tells other files apart."""
        if self.generated:
            return self.fingerprint()
        if self.data_dir is not None:
            return f"local, {self.fingerprint()}"
        found = COMMIT.search(f"{self.fetch()} {self.remote()}")  # a hub snapshot's folder, or the address
        return found[0] if found else self.fingerprint()

    def generated_folder(self) -> Path:
        """The root of the tiny scale's data (layout of ``data_dir``); this task's are written at first use."""
        from delta_lora.tiny import data

        name = self.settings.name
        root = self.cache_dir / "tiny-data" / f"{name.replace('/', '-')}-v{data.version(name)}"
        complete = root / ".complete"
        if not complete.exists():
            data.write(name, root)  # the same bytes whoever writes them, each file by rename
            complete.touch()
        return root


def limit(items: list[Any], most: int | None) -> list[Any]:
    """The first ``most`` of the items; all where it is None."""
    return items if most is None else items[:most]


def spread(items: list[Any], most: int | None) -> list[Any]:
    """``most`` of the items, evenly over all of them and in their order; all where it is None or there are no more.

    Test sets are sorted (E2E's begins with its shortest inputs, WebNLG's ends with the unseen categories), so that the
    first of them are no sample of it.
    """
    if most is None or most >= len(items):
        return items
    return [items[i * len(items) // most] for i in range(most)]
