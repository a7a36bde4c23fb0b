"""The generated data sets: the layouts of the releases, the same bytes every time, nothing of the test in training."""

import csv
import random
import re
import tomllib
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

import pytest
from helpers import ROOT

from delta_lora.errors import UserError
from delta_lora.tiny.data import TASKS, write
from delta_lora.tiny.world import Values, world

SLOTS = {"name", "eatType", "food", "priceRange", "customer rating", "area", "familyFriendly", "near"}
SEEN = set(
    "Airport Astronaut Building City ComicsCharacter Food Monument SportsTeam University WrittenWork".split()  # noqa: SIM905
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("data")
    for task in TASKS:
        write(task, directory)
    return directory


def _contents(directory: Path) -> dict[str, bytes]:
    return {p.relative_to(directory).as_posix(): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def _e2e(root: Path, name: str) -> list[dict[str, str]]:
    with (root / "e2e" / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _slots(mr: str) -> dict[str, str]:
    return {slot.strip(): value for slot, value in re.findall(r"([^,\[\]]+)\[([^\]]*)\]", mr)}


def _triple_sets(path: Path) -> list[tuple[str, frozenset[str]]]:
    entries = ElementTree.parse(path).getroot().iter("entry")
    return [
        (entry.get("category", ""), frozenset(t.text or "" for t in entry.findall("modifiedtripleset/mtriple")))
        for entry in entries
    ]


@pytest.mark.parametrize("task", TASKS)
def test_same_seed_gives_the_same_bytes_and_another_seed_others(task: str, tmp_path: Path) -> None:
    for name, seed in (("first", 0), ("second", 0), ("other", 1)):
        write(task, tmp_path / name, seed)
    first = _contents(tmp_path / "first")
    assert first == _contents(tmp_path / "second")
    assert first != _contents(tmp_path / "other")


@pytest.mark.parametrize("task", TASKS)
def test_writing_leaves_no_temporary_file(task: str, tmp_path: Path) -> None:
    write(task, tmp_path)
    assert not [name for name in _contents(tmp_path) if "/." in f"/{name}"]


def test_an_installed_package_has_the_world() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "*.yaml" in settings["tool"]["setuptools"]["package-data"]["delta_lora.tiny"]
    assert set(world()) >= {"words", "slots", "pair_kinds", "seen_kinds", "unseen_kinds", "restaurant", "events"}


def test_no_two_slots_have_the_same_word_and_a_value_stays() -> None:
    for seed in range(50):
        values = Values(random.Random(seed))
        assert values["city"] != values["town"] and values["person"] != values["other"]
        assert values["Creature"] == values["creature"].title()
        assert values["club"].startswith(values["city"]) and int(values["fewer"]) < int(values["number"])


def test_unknown_task_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="e2e"):
        write("squad", tmp_path)
    assert not list(tmp_path.iterdir())


def test_e2e_has_the_releases_columns_and_slots(root: Path) -> None:
    for name in ("trainset.csv", "devset.csv", "testset_w_refs.csv"):
        rows = _e2e(root, name)
        assert set(rows[0]) == {"mr", "ref"}
        for row in rows:
            slots = _slots(row["mr"])
            assert "name" in slots and set(slots) <= SLOTS
            assert ", ".join(f"{slot}[{value}]" for slot, value in slots.items()) == row["mr"]
            assert row["ref"][0].isupper() and row["ref"].endswith(".")
            assert not set(row["ref"]) & set("(){}|[]"), "an unexpanded template"


def test_e2e_test_mrs_are_not_in_training_and_some_names_are_new(root: Path) -> None:
    splits = {
        name: {frozenset(_slots(row["mr"]).items()) for row in _e2e(root, name)}
        for name in ("trainset.csv", "devset.csv", "testset_w_refs.csv")
    }
    train, dev, test = splits.values()
    assert not test & (train | dev) and not dev & train
    names = {dict(mr)["name"] for mr in train}
    new = sum(dict(mr)["name"] not in names for mr in test) / len(test)
    assert 0.2 < new < 0.5


def test_e2e_references_vary_and_keep_to_their_mr(root: Path) -> None:
    rows = _e2e(root, "testset_w_refs.csv")
    per_mr = Counter(row["mr"] for row in rows)
    assert 60 <= len(per_mr) <= 100
    assert len({(row["mr"], row["ref"]) for row in rows}) == len(rows)
    assert max(per_mr.values()) >= 5
    assert all(_slots(row["mr"])["name"] in row["ref"] for row in rows)
    told = [_slots(row["mr"])["food"] in row["ref"] for row in rows if "food" in _slots(row["mr"])]
    assert 0.9 < sum(told) / len(told) < 1.0, "a few references leave a slot out, as real ones do"


def test_webnlg_has_the_challenges_elements(root: Path) -> None:
    folder = root / "webnlg_challenge_2017"
    for path in folder.rglob("*.xml"):
        for entry in ElementTree.parse(path).getroot().iter("entry"):
            triples = entry.findall("modifiedtripleset/mtriple")
            assert {"category", "eid", "size"} <= set(entry.keys())
            assert int(entry.get("size", "0")) == len(triples) == len(entry.findall("originaltripleset/otriple"))
            assert all((triple.text or "").count(" | ") == 2 for triple in triples)
            assert entry.findall("lex[@comment='good']")


def test_webnlg_unseen_categories_and_triple_sets_are_in_the_test_only(root: Path) -> None:
    folder = root / "webnlg_challenge_2017"
    train = [entry for path in folder.glob("train/*/*.xml") for entry in _triple_sets(path)]
    test = _triple_sets(folder / "test" / "testdata_with_lex.xml")
    assert {category for category, _ in train} == SEEN
    assert len({category for category, _ in test} - SEEN) == 5
    assert not {triples for _, triples in train} & {triples for _, triples in test}
