"""The WebNLG task: triples and texts of the challenge's XML, seen and unseen categories, clear errors."""

import functools
import http.server
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from omegaconf import DictConfig

from delta_lora.errors import UserError
from delta_lora.tasks.webnlg import WebNLG, content_digest, download_archive, read_entries

ENTRY = """<entry category="{category}" eid="Id1" size="2">
  <originaltripleset><otriple>A | b | C</otriple></originaltripleset>
  <modifiedtripleset><mtriple>A_1 | cityServed | "B, C"</mtriple><mtriple>A_1 | b | 3.5</mtriple></modifiedtripleset>
  <lex comment="good" lid="Id1">A 1 serves B.</lex>
  <lex comment="bad" lid="Id2">Nonsense.</lex>
  <lex comment="good" lid="Id3"> A 1 has 3.5. </lex>
</entry>"""


def write(folder: Path, *categories: str, unseen: Sequence[str] = ()) -> Path:
    """A data set with one training and one test file in the release's layout."""
    for name in ("train/2triples/a.xml", "dev/2triples/a.xml", "test/testdata_with_lex.xml"):
        entries = "".join(
            ENTRY.format(category=category) for category in [*categories, *(unseen if name.startswith("test") else ())]
        )
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"<benchmark><entries>{entries}</entries></benchmark>")
    return folder


@pytest.fixture
def task(composed: Callable[..., DictConfig], tmp_path: Path) -> WebNLG:
    return WebNLG(composed("task=webnlg").task, tmp_path, tmp_path / "cache")


def test_an_entry_gives_its_modified_triples_with_every_good_text(task: WebNLG, tmp_path: Path) -> None:
    folder = write(tmp_path / "webnlg_challenge_2017", "Airport", unseen=["Artist"])
    task.check_files()
    source = 'A_1 : cityServed : "B, C" | A_1 : b : 3.5'
    assert task.read_train(folder)[:2] == [(source, "A 1 serves B."), (source, "A 1 has 3.5.")]
    items = task.test_items()
    assert [item.extra["seen"] for item in items] == [True, False]
    assert items[0].references == ["A 1 serves B.", "A 1 has 3.5."]


def test_the_development_set_is_the_dev_folder(composed: Callable[..., DictConfig], tmp_path: Path) -> None:
    folder = write(tmp_path / "webnlg_challenge_2017", "Airport", unseen=["Artist"])
    file = folder / "dev/2triples/a.xml"
    file.write_text(file.read_text().replace("A 1 serves B.", "Of dev."))
    (item,) = WebNLG(composed("task=webnlg", "task.split=dev").task, tmp_path, tmp_path / "cache").test_items()
    assert item.references == ["Of dev.", "A 1 has 3.5."] and item.extra["seen"]


def test_seen_is_what_the_training_files_have(task: WebNLG, tmp_path: Path) -> None:
    """Other releases train on other categories: v3 on Company and MeanOfTransportation, among others."""
    write(tmp_path / "webnlg_challenge_2017", "Company", "MeanOfTransportation", unseen=["Airport", "Film"])
    seen = {item.extra["category"]: item.extra["seen"] for item in task.test_items()}
    assert seen == {"Company": True, "MeanOfTransportation": True, "Airport": False, "Film": False}


ENRICHED = """<lex comment="good" lid="Id1">
    <sortedtripleset><sentence ID="1"><striple>A_1 | b | 3.5</striple></sentence></sortedtripleset>
    <references><reference entity="A_1" number="1" tag="AGENT-1" type="name">A 1</reference></references>
    <text>{text}</text>
    <template>AGENT-1 serves PATIENT-1.</template>
  </lex>"""


def test_the_enriched_releases_have_the_text_one_level_deeper(task: WebNLG, tmp_path: Path) -> None:
    folder = write(tmp_path / "webnlg_challenge_2017", "Airport")
    plain = task.read_train(folder), task.test_items()
    for path in folder.rglob("*.xml"):
        old = '<lex comment="good" lid="Id1">A 1 serves B.</lex>'
        path.write_text(path.read_text().replace(old, ENRICHED.format(text="A 1 serves B.")))
    assert (task.read_train(folder), task.test_items()) == plain


@pytest.mark.parametrize(
    "lex",
    [
        *('<lex comment="good"/>', '<lex comment="good"> </lex>', '<lex comment="good"><template>A</template></lex>'),
        ENRICHED.format(text=" "),
    ],
)
@pytest.mark.parametrize("file", ["train/2triples/a.xml", "test/testdata_with_lex.xml"])
def test_an_empty_text_is_named(task: WebNLG, tmp_path: Path, lex: str, file: str) -> None:
    path = write(tmp_path / "webnlg_challenge_2017", "Airport") / file
    path.write_text(path.read_text().replace("</entry>", f"{lex}</entry>"))
    with pytest.raises(UserError, match=rf"{path.name}, entry Id1: a good lex has no text") as refused:
        task.check_files()
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("triple", ["A_1 |  | 3.5", "A_1 | b | ", " | b | 3.5"])
def test_an_empty_part_of_a_triple_is_named(tmp_path: Path, triple: str) -> None:
    path = write(tmp_path, "Airport") / "train/2triples/a.xml"
    path.write_text(path.read_text().replace("A_1 | b | 3.5", triple))
    with pytest.raises(UserError, match="entry Id1: expected"):
        list(read_entries(path))


def test_files_in_which_no_text_is_marked_good_are_no_empty_data_set(task: WebNLG, tmp_path: Path) -> None:
    folder = write(tmp_path / "webnlg_challenge_2017", "Airport")
    for file, read in (("train/2triples/a.xml", task.read_train), ("test/testdata_with_lex.xml", task.read_test)):
        (folder / file).write_text((folder / file).read_text().replace('"good"', '""'))
        with pytest.raises(UserError, match=r'has no entry with a text: expected lex elements with comment="good"'):
            read(folder)


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text("<benchmark><entries><entry>")
    with pytest.raises(UserError, match=r"a\.xml is not well-formed XML"):
        list(read_entries(path))


def test_a_triple_without_three_parts_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, "Airport") / "train/2triples/a.xml"
    path.write_text(path.read_text().replace(" | b | 3.5", " | b"))
    with pytest.raises(UserError, match="entry Id1: expected"):
        list(read_entries(path))


def test_a_folder_without_the_files_says_what_it_looked_for(task: WebNLG) -> None:
    with pytest.raises(UserError, match=r"testdata_with_lex\.xml"):
        task.check_files()


@contextmanager
def served(folder: Path, pack: Callable[[zipfile.ZipFile], None]) -> Iterator[str]:
    """The address of a zip archive on a web server."""
    folder.mkdir()
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        pack(archive)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/a.zip"
        server.shutdown()


def test_an_archive_is_checked_by_its_content_and_so_is_what_lies_in_the_cache(tmp_path: Path) -> None:
    source = write(tmp_path / "source" / "set", "Airport")
    digest = content_digest(source)

    def pack(archive: zipfile.ZipFile) -> None:
        for path in source.rglob("*.xml"):
            archive.write(path, f"repository-1/set/{path.relative_to(source)}")
        archive.writestr("repository-1/README.md", "not ours")

    with served(tmp_path / "served", pack) as url:
        with pytest.raises(UserError, match=f"content digest {digest}, expected 000"):
            download_archive(url, "set", tmp_path / "cache" / "set", "0" * 64)
        assert not (tmp_path / "cache" / "set").exists()
        folder = download_archive(url, "set", tmp_path / "cache" / "set", digest)
    assert content_digest(folder) == digest
    assert download_archive(url, "set", folder, digest) == folder  # the server is gone: it is not asked again
    damaged = folder / "train/2triples/a.xml"
    damaged.write_bytes(damaged.read_bytes().replace(b"serves", b"serveS"))
    with pytest.raises(UserError, match=r"cache/set is damaged: .* delete it to download"):
        download_archive(url, "set", folder, digest)


def symbolic_link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = 0o120777 << 16
    return info


@pytest.mark.parametrize(
    ("member", "message"),
    [
        ("r/set/../../../escaped.xml", "would be written outside"),
        ("/r/set//etc/escaped.xml", "would be written outside"),
        (symbolic_link("r/set/train/1/escaped.xml"), "holds other files"),
        ("r/other/escaped.xml", "holds other files"),
        ("r/set/large.xml", "are larger than 500000000 bytes together"),
    ],
)
def test_a_hostile_archive_is_refused_in_one_line_and_writes_nothing_elsewhere(
    tmp_path: Path, member: str | zipfile.ZipInfo, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pack(archive: zipfile.ZipFile) -> None:
        if member == "r/set/large.xml":  # 600 MB of zeros in 600 kB
            with archive.open(member, "w") as large:
                for _ in range(600):
                    large.write(bytes(1_000_000))
        else:
            archive.writestr(member, f"{tmp_path}/outside.xml")

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with served(tmp_path / "served", pack) as url, pytest.raises(UserError, match=message) as refused:
        download_archive(url, "set", tmp_path / "cache" / "set", "0" * 64)
    assert "\n" not in str(refused.value)
    assert not Path("/etc/escaped.xml").exists()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / "served" / "a.zip"]


def test_a_declared_document_type_is_refused_before_it_can_expand(tmp_path: Path) -> None:
    laughs = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 12))
    (tmp_path / "a.xml").write_text(f'<!DOCTYPE b [<!ENTITY l0 "ha">{laughs}]><b><entry>&l11;</entry></b>')
    with pytest.raises(UserError, match="declares a document type"):
        list(read_entries(tmp_path / "a.xml"))


@pytest.mark.real_data
def test_the_real_release_has_its_known_sizes(real_data: Path, composed: Callable[..., DictConfig]) -> None:
    task = WebNLG(composed("task=webnlg").task, real_data, Path("unused"))
    task.check_files()
    assert task.fingerprint() == "pinned"
    assert task.train_size() == 18_025
    items = task.test_items()
    assert (len(items), sum(item.extra["seen"] for item in items)) == (1_862, 971)
    assert sum(len(item.references) for item in items) == 4_928
    seen, unseen = ({item.extra["category"] for item in items if item.extra["seen"] == one} for one in (True, False))
    assert seen == {
        *("Airport", "Astronaut", "Building", "City", "ComicsCharacter"),
        *("Food", "Monument", "SportsTeam", "University", "WrittenWork"),
    }
    assert unseen == {"Artist", "Athlete", "CelestialBody", "MeanOfTransportation", "Politician"}
