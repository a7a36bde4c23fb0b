"""WebNLG Challenge 2017: RDF triples to text, seen and unseen categories (Gardent et al. 2017; the paper's Table 2)."""

import shutil
import tempfile
import xml.etree.ElementTree as ElementTree
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from delta_lora.errors import UserError
from delta_lora.metrics import Resampler, WebNLGResampler
from delta_lora.tasks.base import Item, sha256_of
from delta_lora.tasks.files import WebFile
from delta_lora.tasks.generation import GenerationTask

TEST = "test/testdata_with_lex.xml"


class WebNLG(GenerationTask):
    """Training pairs are all good lexicalisations of the training entries; test inputs are the test entries."""

    def check_files(self) -> None:
        super().check_files()
        if self.data_dir is not None and not self.generated:
            folder = self.data_dir / self.config.files.folder
            files = data_files(folder)
            if not files["train"] or not files["test"]:
                raise UserError(
                    f"data_dir has no WebNLG: looked in {folder} for train/*/*.xml and {TEST}; point data_dir or "
                    "DELTA_LORA_DATA at a folder in the layout of docs/data.md, or unset it to download"
                )
            self.read_train(folder)
            self.read_test(folder)

    def fetch(self) -> Path:
        files = self.config.files
        if self.generated:
            return self.generated_folder() / files.folder
        if self.data_dir is not None:
            return self.data_dir / files.folder
        (archive,) = self.remote()
        return download_archive(archive.url, files.folder, archive.place, files.content_sha256)

    def remote(self) -> list[WebFile]:
        files = self.config.files
        return [WebFile(files.url, self.cache_dir / "data" / files.folder)]

    def fingerprint(self) -> str:
        if self.generated or self.data_dir is None:
            return super().fingerprint()
        digest = content_digest(self.fetch())
        return "pinned" if digest == self.config.files.content_sha256 else digest

    def read_train(self, folder: Path) -> list[tuple[str, str]]:
        return [
            (triples, text)
            for path in data_files(folder)["train"]
            for _, triples, texts in read_entries(path)
            for text in texts
        ]

    def read_test(self, folder: Path) -> list[Item]:
        seen = set(self.config.seen_categories)
        return [
            Item(i, triples, texts, {"category": category, "seen": category in seen})
            for i, (category, triples, texts) in enumerate(read_entries(folder / TEST))
        ]

    def resampler(self, lines: Sequence[Mapping[str, Any]]) -> Resampler:
        predictions = [line["prediction"] for line in lines]
        references = [line["references"] for line in lines]
        return WebNLGResampler(predictions, references, [line["seen"] for line in lines])


def data_files(folder: Path) -> dict[str, list[Path]]:
    """The XML files of the three splits, in an order that is the same everywhere."""
    return {
        "train": sorted(folder.glob("train/*/*.xml"), key=lambda path: path.relative_to(folder).as_posix()),
        "dev": sorted(folder.glob("dev/*/*.xml"), key=lambda path: path.relative_to(folder).as_posix()),
        "test": [folder / TEST] if (folder / TEST).is_file() else [],
    }


def read_entries(path: Path) -> Iterator[tuple[str, str, list[str]]]:
    """Category, linearized modified triple set and good lexicalisations of each entry of one file.

    ``subj : prop : obj | subj : prop : obj``; an entry without a good lexicalisation is left out.

    Raises:
        UserError: the file is no XML of the challenge's form (truncated, a triple without three parts).
    """
    try:
        root = ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise UserError(f"{path} is not well-formed XML ({error}); replace it with the original") from error
    for entry in root.iter("entry"):
        triples = [(triple.text or "").split(" | ") for triple in entry.findall("modifiedtripleset/mtriple")]
        texts = [(lex.text or "").strip() for lex in entry.findall("lex") if lex.get("comment") == "good"]
        if not triples or any(len(triple) != 3 for triple in triples):
            raise UserError(
                f"{path}, entry {entry.get('eid')}: expected modifiedtripleset/mtriple with subj | prop | obj"
            )
        if texts:
            parts = [" : ".join(part.strip() for part in triple) for triple in triples]
            yield entry.get("category", ""), " | ".join(parts), texts


def content_digest(folder: Path) -> str:
    """SHA-256 over the names and SHA-256s of all files that are used, whatever archive they came in."""
    files = data_files(folder)
    lines = [
        f"{path.relative_to(folder).as_posix()} {sha256_of(path)}\n"
        for path in sorted([*files["train"], *files["dev"], *files["test"]])
    ]
    return sha256("".join(lines).encode()).hexdigest()


def download_archive(url: str, name: str, folder: Path, expected: str) -> Path:
    """Download a zip archive once, take the XML files of its folder ``name``, and check their content.

    Only the content's digest is pinned: the hosts of such archives may pack the same files anew.

    Raises:
        UserError: no connection, a damaged archive, or other content (nothing is kept then).
    """
    if folder.is_dir():
        return folder
    import pooch

    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        try:
            archive = pooch.retrieve(url, None, fname="archive.zip", path=temporary)
            unpacked = Path(temporary) / name
            with zipfile.ZipFile(archive) as content:
                for member in content.namelist():
                    _, _, inside = member.partition(f"/{name}/")
                    target = unpacked / inside
                    if not inside.endswith(".xml") or not target.resolve().is_relative_to(unpacked.resolve()):
                        continue
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(content.read(member))
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"could not download {url}: {reason}; on a machine without internet, set data_dir or DELTA_LORA_DATA "
                "to a folder in the layout of docs/data.md"
            ) from error
        found = content_digest(unpacked)
        if found != expected:
            raise UserError(f"{url} holds other files: content digest {found}, expected {expected}")
        shutil.move(unpacked, folder)
    return folder
