"""WebNLG Challenge 2017: RDF triples to text, seen and unseen categories (Gardent et al. 2017; the paper's Table 2)."""

import shutil
import tempfile
import xml.etree.ElementTree as ElementTree
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from delta_lora.errors import UserError
from delta_lora.files import WebFile, digest_of, sha256_of
from delta_lora.metrics.base import Resampler
from delta_lora.settings import setting
from delta_lora.tasks.base import Item
from delta_lora.tasks.generation import GenerationTask
from delta_lora.tasks.settings import GenerationSettings, WebFileSettings

TEST = "test/testdata_with_lex.xml"
Found = TypeVar("Found")
Entry = tuple[str, str, list[str]]  # category, linearized triples, texts
LARGEST = 500_000_000  # bytes that are unpacked at most; the release has 18 million


class WebNLGFiles(WebFileSettings):
    """The release."""

    content_sha256: str = setting("over the names and SHA-256s of the files that are used, whatever archive holds them")


class WebNLGSettings(GenerationSettings):
    """What is set of WebNLG."""

    files: WebNLGFiles = setting("the release", in_key=False)


class WebNLG(GenerationTask):
    """Training pairs are all good lexicalisations of the training entries; test inputs are the test entries.

    A test entry is seen where the training entries have its category, whatever ``max_train_examples`` leaves of them.
    """

    Settings = WebNLGSettings
    settings: WebNLGSettings

    def check_local(self, folder: Path) -> None:
        files = data_files(folder)
        if not files["train"] or not files["test"]:
            raise UserError(
                f"data_dir has no WebNLG: looked in {folder} for train/*/*.xml and {TEST}; point data_dir or "
                "DELTA_LORA_DATA at a folder in the layout of docs/data.md, or unset it to download"
            )
        self.read_train(folder)
        self.read_test(folder)

    def download(self) -> Path:
        files, (archive,) = self.settings.files, self.remote()
        return download_archive(archive.url, files.folder, archive.place, files.content_sha256)

    def files(self, folder: Path) -> list[Path]:
        return [path for split in data_files(folder).values() for path in split]

    def released(self) -> str:
        return self.settings.files.content_sha256

    def remote(self) -> list[WebFile]:
        files = self.settings.files
        return [WebFile(files.url, self.cache_dir / "data" / files.folder)]

    def read_train(self, folder: Path) -> list[tuple[str, str]]:
        pairs = [(triples, text) for _, triples, texts in train_entries(folder) for text in texts]
        return with_texts(pairs, folder / "train")

    def read_test(self, folder: Path) -> list[Item]:
        return with_texts(items_of(folder, [folder / TEST]), folder / TEST)

    def read_dev(self, folder: Path) -> list[Item]:
        return with_texts(items_of(folder, data_files(folder)["dev"]), folder / "dev")

    def prepare_scoring(self) -> None:
        from delta_lora.metrics.paraphrases import index

        index()

    def resampler(self, lines: Sequence[Mapping[str, Any]]) -> Resampler:
        from delta_lora.metrics.webnlg import WebNLGResampler  # takes long to load

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


def items_of(folder: Path, files: Sequence[Path]) -> list[Item]:
    """The entries of these files, each with whether its category is one of the training entries'."""
    seen = {category for category, _, _ in train_entries(folder)}
    entries = (entry for path in files for entry in read_entries(path))
    return [
        Item(i, triples, texts, {"category": category, "seen": category in seen})
        for i, (category, triples, texts) in enumerate(entries)
    ]


def with_texts(found: list[Found], place: Path) -> list[Found]:
    """What was found there.

    Raises:
        UserError: nothing, since no entry has a good lexicalisation.
    """
    if not found:
        raise UserError(f'{place} has no entry with a text: expected lex elements with comment="good"')
    return found


def train_entries(folder: Path) -> Iterator[Entry]:
    """The entries of all training files."""
    return (entry for path in data_files(folder)["train"] for entry in read_entries(path))


def read_entries(path: Path) -> Iterator[Entry]:
    """Category, linearized modified triple set and good lexicalisations of each entry of one file.

    ``subj : prop : obj | subj : prop : obj``; an entry without a good lexicalisation is left out.

    The text stands in ``<lex>``, or in its ``<text>`` (the enriched releases, 1.4 and later).

    Raises:
        UserError: the file is no XML of the challenge's form (truncated, no entry, a triple without three parts, a
            good lexicalisation without text).
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        if "<!DOCTYPE" in text:  # the release declares none, and what it can declare expands without end
            raise UserError(f"{path} declares a document type, which is not read; replace it with the original")
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path} is not well-formed XML ({error}); replace it with the original") from error
    if root.find(".//entry") is None:
        raise UserError(f"{path} has no entry; replace it with the original")
    for entry in root.iter("entry"):
        triples = [(triple.text or "").split(" | ") for triple in entry.findall("modifiedtripleset/mtriple")]
        texts = [text_of(lex) for lex in entry.findall("lex") if lex.get("comment") == "good"]
        whole = all(len(triple) == 3 and all(part.strip() for part in triple) for triple in triples)
        if not triples or not whole or not entry.get("category"):
            raise UserError(
                f"{path}, entry {entry.get('eid')}: expected a category and modifiedtripleset/mtriple with "
                "subj | prop | obj"
            )
        if not all(texts):
            raise UserError(
                f"{path}, entry {entry.get('eid')}: a good lex has no text, neither in it nor in its text element; "
                "replace the file with the original"
            )
        if texts:
            parts = [" : ".join(part.strip() for part in triple) for triple in triples]
            yield entry.get("category", ""), " | ".join(parts), texts


def text_of(lex: ElementTree.Element) -> str:
    """A lexicalisation's sentence, in either layout; empty where it has none."""
    inner = lex.find("text")
    return ((lex if inner is None else inner).text or "").strip()


def content_digest(folder: Path) -> str:
    """SHA-256 over the names and SHA-256s of all files that are used, whatever archive they came in."""
    files = [path for split in data_files(folder).values() for path in split]
    return digest_of({path.relative_to(folder).as_posix(): sha256_of(path) for path in files})


def download_archive(url: str, name: str, folder: Path, expected: str) -> Path:
    """Download a zip archive once, take the XML files of its folder ``name``, and check their content.

    Only the content's digest is pinned: the hosts of such archives may pack the same files anew. What lies in the
    cache is held against it each time.

    Raises:
        UserError: no connection, a damaged archive, or other content (nothing is kept then); a damaged cache.
    """
    if folder.is_dir():
        if content_digest(folder) != expected:
            raise UserError(f"{folder} is damaged: its files are not the release's; delete it to download them again")
        return folder
    import pooch

    pooch.get_logger().setLevel("WARNING")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        try:
            archive = pooch.retrieve(url, None, fname="archive.zip", path=temporary)
            unpacked = Path(temporary) / name
            with zipfile.ZipFile(archive) as content:
                unpack(content, name, unpacked)
        except (OSError, ValueError, zipfile.BadZipFile, zlib.error, RuntimeError, EOFError) as error:
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


def unpack(archive: zipfile.ZipFile, name: str, folder: Path) -> None:
    """Write the XML files of the archive's folder ``name`` below ``folder``, each as a plain file, and no other.

    Raises:
        ValueError: one of them would lie elsewhere, or they are too large together.
    """
    size = 0
    for member in archive.infolist():
        _, _, inside = member.filename.partition(f"/{name}/")
        if not inside.endswith(".xml"):
            continue
        target = folder / inside
        if not target.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"its member {member.filename!r} would be written outside of the folder {name}")
        size += member.file_size
        if size > LARGEST:
            raise ValueError(f"its files are larger than {LARGEST} bytes together")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(archive.read(member))
