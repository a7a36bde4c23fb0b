"""XSum: news articles to one-sentence summaries (Narayan et al. 2018; the paper's Table 3)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from delta_lora.hub import HubFiles, from_hub
from delta_lora.metrics.base import Resampler
from delta_lora.settings import setting
from delta_lora.tasks import parquet
from delta_lora.tasks.base import Item
from delta_lora.tasks.generation import GenerationTask
from delta_lora.tasks.settings import GenerationSettings, HubFileSettings

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("document", "summary", "id")


class XSumSettings(GenerationSettings):
    """What is set of XSum."""

    files: HubFileSettings = setting("the data set", in_key=False)


class XSum(GenerationTask):
    """Documents and summaries of the train split; the test split's documents are summarised."""

    Settings = XSumSettings
    settings: XSumSettings

    @property
    def scored(self) -> str:
        """The split that is scored."""
        return "validation" if self.settings.split == "dev" else "test"

    def check_local(self, folder: Path) -> None:
        parquet.check_local(folder, ("train", self.scored))
        for split in ("train", self.scored):
            self.table(folder, split)

    def download(self) -> Path:
        return from_hub(*self.remote())

    def files(self, folder: Path) -> list[Path]:
        return [path for split in ("train", self.scored) for path in self.split_files(folder, split)]

    def remote(self) -> list[HubFiles]:
        files = self.settings.files
        patterns = tuple(f"{files.hub_folder}/{split}/*.parquet" for split in ("train", self.scored))
        return [HubFiles(files.repository, "dataset", files.revision, patterns)]

    def split_files(self, folder: Path, split: str) -> list[Path]:
        """The parquet files of a split, in either layout."""
        hub = folder / self.settings.files.hub_folder / split
        return sorted(hub.glob("*.parquet")) if hub.is_dir() else parquet.local_files(folder, split)

    def table(self, folder: Path, split: str) -> "pd.DataFrame":
        """Documents, summaries and their ids of one split."""
        return parquet.read_split(self.split_files(folder, split), COLUMNS, parquet.empty_texts(self.settings, split))

    def read_train(self, folder: Path) -> list[tuple[str, str]]:
        table = self.table(folder, "train")
        return list(zip(table["document"], table["summary"], strict=True))

    def read_test(self, folder: Path) -> list[Item]:
        return self.items(folder)

    def read_dev(self, folder: Path) -> list[Item]:
        return self.items(folder)

    def items(self, folder: Path) -> list[Item]:
        """The documents of the scored split."""
        table = self.table(folder, self.scored)
        return [
            Item(i, row.document, [row.summary], {"document_id": row.id})
            for i, row in enumerate(table.itertuples(index=False))
        ]

    def resampler(self, lines: Sequence[Mapping[str, Any]]) -> Resampler:
        from delta_lora.metrics.xsum import XSumResampler  # takes long to load

        return XSumResampler(
            [line["prediction"] for line in lines], [text for line in lines for text in line["references"]]
        )
