"""The WebNLG task: triples and texts of the challenge's XML, seen and unseen categories, clear errors."""

import functools
import http.server
import threading
import zipfile
from collections.abc import Callable
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


def write(folder: Path, *categories: str) -> Path:
    """A data set with one training and one test file in the release's layout."""
    entries = "".join(ENTRY.format(category=category) for category in categories)
    for name in ("train/2triples/a.xml", "dev/2triples/a.xml", "test/testdata_with_lex.xml"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"<benchmark><entries>{entries}</entries></benchmark>")
    return folder


@pytest.fixture
def task(composed: Callable[..., DictConfig], tmp_path: Path) -> WebNLG:
    return WebNLG(composed("task=webnlg").task, tmp_path, tmp_path / "cache")


def test_an_entry_gives_its_modified_triples_with_every_good_text(task: WebNLG, tmp_path: Path) -> None:
    folder = write(tmp_path / "webnlg_challenge_2017", "Airport", "Artist")
    task.check_files()
    source = 'A_1 : cityServed : "B, C" | A_1 : b : 3.5'
    assert task.read_train(folder)[:2] == [(source, "A 1 serves B."), (source, "A 1 has 3.5.")]
    items = task.test_items()
    assert [item.extra["seen"] for item in items] == [True, False]
    assert items[0].references == ["A 1 serves B.", "A 1 has 3.5."]


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


def test_an_archive_is_checked_by_its_content_and_cannot_write_elsewhere(tmp_path: Path) -> None:
    source = write(tmp_path / "source" / "set", "Airport")
    digest = content_digest(source)
    archive = tmp_path / "served" / "a.zip"
    archive.parent.mkdir()
    with zipfile.ZipFile(archive, "w") as packed:
        for path in source.rglob("*.xml"):
            packed.write(path, f"repository-1/set/{path.relative_to(source)}")
        packed.writestr("repository-1/set/../../escaped.xml", "<x/>")
        packed.writestr("repository-1/README.md", "not ours")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(archive.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/a.zip"
        with pytest.raises(UserError, match=f"content digest {digest}, expected 000"):
            download_archive(url, "set", tmp_path / "cache" / "set", "0" * 64)
        assert not (tmp_path / "cache" / "set").exists()
        folder = download_archive(url, "set", tmp_path / "cache" / "set", digest)
        server.shutdown()
    assert content_digest(folder) == digest
    assert not list(tmp_path.rglob("escaped.xml"))
    assert download_archive(url, "set", folder, digest) == folder  # the server is gone: it is not asked again


@pytest.mark.real_data
def test_the_real_release_has_its_known_sizes(real_data: Path, composed: Callable[..., DictConfig]) -> None:
    task = WebNLG(composed("task=webnlg").task, real_data, Path("unused"))
    task.check_files()
    assert task.fingerprint() == "pinned"
    assert task.train_size() == 18_025
    items = task.test_items()
    assert (len(items), sum(item.extra["seen"] for item in items)) == (1_862, 971)
    assert sum(len(item.references) for item in items) == 4_928
