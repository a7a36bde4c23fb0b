"""E2E NLG Challenge: restaurant meaning representations to text (Novikova et al. 2017; the paper's Table 1)."""

import csv
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

from delta_lora.errors import UserError
from delta_lora.files import WebFile, check_local, digest_of, download
from delta_lora.hub import HubFiles
from delta_lora.metrics.base import Resampler
from delta_lora.settings import setting
from delta_lora.tasks.base import Item
from delta_lora.tasks.generation import GenerationTask
from delta_lora.tasks.settings import GenerationSettings, WebFileSettings
from delta_lora.tasks.spacing import spaced

# Slot names as microsoft/LoRA writes them.
SLOTS = {"eatType": "Type", "priceRange": "price", "familyFriendly": "family friendly"}
TRAIN, DEV, TEST = "trainset.csv", "devset.csv", "testset_w_refs.csv"
SLOT = re.compile(r"\s*([^,\[\]]+)\[([^\]]*)\]\s*(?:,|$)")


@cache
def linearize(mr: str) -> str:
    """``name[The Vaults], eatType[pub]`` → ``name : The Vaults | Type : pub``.

    Raises:
        UserError: the text is not a list of ``slot[value]``, or one of them is empty.
    """
    slots: list[tuple[str, str]] = []
    position = 0
    while position < len(mr) or not slots:
        match = SLOT.match(mr, position)
        if match is None:
            raise UserError(f"not an E2E meaning representation: {mr!r}; expected slot[value], slot[value], …")
        slots.append((match[1].strip(), match[2].strip()))
        if not all(slots[-1]):
            raise UserError(f"an empty slot in the E2E meaning representation {mr!r}; expected slot[value], …")
        position = match.end()
    return " | ".join(f"{SLOTS.get(slot, slot)} : {value}" for slot, value in slots)


class E2EFiles(WebFileSettings):
    """The release."""

    sha256: dict[str, str] = setting("of each file that is used")


class E2ESettings(GenerationSettings):
    """What is set of E2E."""

    text: Literal["microsoft", "official"] = setting(
        "microsoft: spaced as microsoft/LoRA's files are; official: as released", default="official"
    )
    files: E2EFiles = setting("the release", in_key=False)


class E2E(GenerationTask):
    """Training pairs are all rows of trainset.csv; test inputs are the distinct MRs of testset_w_refs.csv.

    With ``text=microsoft`` inputs, targets and references are spaced (:func:`delta_lora.tasks.spacing.spaced`).
    """

    Settings = E2ESettings
    settings: E2ESettings

    def check_local(self, folder: Path) -> None:
        check_local(folder, self.settings.files.sha256)

    def download(self) -> Path:
        return download(self.settings.files.url, self.cache, self.settings.files.sha256)

    def files(self, folder: Path) -> list[Path]:
        return [folder / name for name in self.settings.files.sha256 if (folder / name).is_file()]

    def released(self) -> str:
        return digest_of(self.settings.files.sha256)

    @property
    def cache(self) -> Path:
        """Where downloads are kept."""
        return self.cache_dir / "data" / self.settings.files.folder

    def remote(self) -> Sequence[HubFiles | WebFile]:
        return [WebFile(f"{self.settings.files.url}{name}", self.cache / name) for name in self.settings.files.sha256]

    def read_train(self, folder: Path) -> list[tuple[str, str]]:
        return [(self.written(linearize(mr)), self.written(ref.strip())) for mr, ref in read_rows(folder / TRAIN)]

    def read_test(self, folder: Path) -> list[Item]:
        return self.items(folder / TEST)

    def read_dev(self, folder: Path) -> list[Item]:
        return self.items(folder / DEV, valid=True)

    def items(self, path: Path, *, valid: bool = False) -> list[Item]:
        """The distinct inputs of a file with their references; ``valid`` as for :func:`spaced`."""
        references: dict[str, list[str]] = {}
        for mr, ref in read_rows(path):
            references.setdefault(mr, []).append(self.written(ref, valid=valid))
        written = {mr: self.written(linearize(mr), valid=valid) for mr in references}
        return [Item(i, written[mr], refs) for i, (mr, refs) in enumerate(references.items())]

    def written(self, text: str, *, valid: bool = False) -> str:
        """A text as the task has it."""
        return spaced(text, valid=valid) if self.settings.text == "microsoft" else text

    def prepare_scoring(self) -> None:
        from delta_lora.metrics.paraphrases import index

        index()

    def resampler(self, lines: Sequence[Mapping[str, Any]]) -> Resampler:
        from delta_lora.metrics.e2e import E2EResampler  # takes long to load

        return E2EResampler([line["prediction"] for line in lines], [line["references"] for line in lines])


def read_rows(path: Path) -> list[tuple[str, str]]:
    """The (mr, ref) rows of one file of the release.

    Raises:
        UserError: another header, a row with another number of fields, an empty one or another meaning representation
            (with its line), no row, or no text in UTF-8.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            if header != ["mr", "ref"]:
                raise UserError(f"{path} starts with {header!r:.80}, expected the columns mr, ref")
            rows = []
            for row in reader:
                if len(row) != 2:
                    raise UserError(f"{path}, line {reader.line_num}: {len(row)} fields, expected mr and ref")
                if not all(field.strip() for field in row):
                    raise UserError(f"{path}, line {reader.line_num}: an empty field, expected text in mr and ref")
                try:
                    linearize(row[0])
                except UserError as error:
                    raise UserError(f"{path}, line {reader.line_num}: {error}") from None
                rows.append((row[0], row[1]))
    except (csv.Error, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path} cannot be read as CSV ({error}); replace it with the original") from error
    if not rows:
        raise UserError(f"{path} has no row; replace it with the original")
    return rows
