"""E2E's text spaced as in microsoft/LoRA's files: row by row where they are at hand, on known sentences anywhere."""

import re
from collections.abc import Callable
from itertools import zip_longest
from pathlib import Path

import pytest
import sacrebleu
from helpers import ROOT
from omegaconf import DictConfig

from delta_lora.suite.config.settings import make_task
from delta_lora.tasks.e2e import E2E, linearize, read_rows
from delta_lora.tasks.spacing import spaced


@pytest.mark.parametrize(
    ("released", "test", "valid"),
    [
        ("A coffee shop in the city centre.", "A coffee shop in the city centre .", None),
        ("It's family-friendly, £20-25.", "It 's family - friendly , £ 20 - 25 .", None),
        ("name : A | price : more than £30", "name : A | price : more than £ 30", None),
        ("It isn't a 5-star pub.", "It is n't a 5-star pub .", "It isn 't a 5 - star pub ."),
    ],
)
def test_known_sentences(released: str, test: str, valid: str | None) -> None:
    assert spaced(released) == test
    assert spaced(released, valid=True) == (valid or test)
    assert "".join(spaced(released).split()) == "".join(released.split()), "more than white space has changed"


@pytest.mark.parametrize(
    ("theirs", "released", "valid"), [("test", "testset_w_refs", False), ("valid", "devset", True)]
)
def test_every_row_of_microsoft_loras_files(real_data: Path, theirs: str, released: str, valid: bool) -> None:
    path = real_data / "microsoft_lora_e2e" / f"{theirs}.txt"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    rows = [
        f"{spaced(linearize(mr), valid=valid)}||{spaced(ref, valid=valid)}"
        for mr, ref in read_rows(real_data / "e2e" / f"{released}.csv")
    ]
    assert rows == [line.rstrip() for line in path.read_text(encoding="utf-8").splitlines()]


def test_sources_targets_and_references_are_spaced(real_data: Path, composed: Callable[..., DictConfig]) -> None:
    read = {}
    for text in ("microsoft", "official"):
        task = make_task(composed("task=e2e", f"task.text={text}", f"data_dir={real_data}"))
        assert isinstance(task, E2E)
        folder = task.fetch()
        read[text] = (task.read_train(folder)[0], task.read_test(folder)[0])
    (source, target), item = read["microsoft"]
    assert (source, target) == tuple(map(spaced, read["official"][0]))
    assert item.references == [spaced(ref) for ref in read["official"][1].references]
    assert target.endswith(" .")
    assert not read["official"][0][1].endswith(" .")


def filled(mr: str) -> str:
    """A text from a template over the slots."""
    slots = {name.strip(): value for name, value in re.findall(r"([\w ]+)\[([^]]*)\]", mr)}
    text = f"{slots['name']} is a {slots.get('food', '')} {slots.get('eatType', 'restaurant')}"
    text += f" in the {slots['area']}" if "area" in slots else ""
    text += f" near {slots['near']}." if "near" in slots else "."
    text += f" It has a {slots['priceRange']} price range." if "priceRange" in slots else ""
    text += f" It has a customer rating of {slots['customer rating']}." if "customer rating" in slots else ""
    if "familyFriendly" in slots:
        text += f" It is {'' if slots['familyFriendly'] == 'yes' else 'not '}family-friendly."
    return " ".join(text.split())


def test_what_spacing_adds_to_bleu(real_data: Path) -> None:
    """Of people, the first reference of inputs with at least four against the others, and of a template."""
    references: dict[str, list[str]] = {}
    for mr, ref in read_rows(real_data / "e2e" / "testset_w_refs.csv"):
        references.setdefault(mr, []).append(ref)
    several = [refs for refs in references.values() if len(refs) > 3]

    def bleu(texts: list[str], others: list[list[str]]) -> list[float]:
        found = []
        for written in (str, spaced):
            streams = [[ref and written(ref) for ref in refs] for refs in zip_longest(*others)]
            hypotheses = list(map(written, texts))
            found.append(round(sacrebleu.corpus_bleu(hypotheses, streams, lowercase=True, force=True).score, 2))
        return found

    assert len(several) == 577
    assert bleu([refs[0] for refs in several], [refs[1:] for refs in several]) == [61.46, 62.20]
    assert bleu([filled(mr) for mr in references], list(references.values())) == [56.82, 57.34]
    page = (ROOT / "docs" / "fidelity.md").read_text(encoding="utf-8")
    assert "has BLEU 61.46 as released and 62.20 spaced; a template over the slots has 56.82 and 57.34" in page
