"""The tiny scale as the suite sees it: its data through the tasks' own readers, and the table that it gave."""

import csv
from pathlib import Path

import pytest
from helpers import ROOT

from delta_lora.tasks.e2e import linearize, read_rows
from delta_lora.tasks.webnlg import data_files, read_entries
from delta_lora.tiny import data


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for task in data.TASKS:
        data.write(task, folder)
    return folder


def test_e2e_rows_are_read_as_the_release_is(written: Path) -> None:
    train, test = (read_rows(written / "e2e" / name) for name in ("trainset.csv", "testset_w_refs.csv"))
    assert len(train) == 3200  # configs/preset/tiny/e2e.yaml: task.train_examples
    assert all(linearize(mr).startswith("name : ") and ref for mr, ref in train)
    assert not {mr for mr, _ in train} & {mr for mr, _ in test}, "test MRs are new"
    references: dict[str, set[str]] = {}
    for mr, ref in test:
        references.setdefault(mr, set()).add(ref)
    assert len(references) == 80
    assert min(map(len, references.values())) >= 3


def test_webnlg_entries_are_read_as_the_release_is(written: Path) -> None:
    files = data_files(written / "webnlg_challenge_2017")
    train = {category for path in files["train"] for category, *_ in read_entries(path)}
    test = {category for path in files["test"] for category, *_ in read_entries(path)}
    assert train < test, "the test set has the training categories and unseen ones"


# What no training gives: the pretrained model, a constant answer, or copying the input (README, docs/real-data.md tell
# how they were measured), and somewhat more. Columns without an entry need only be numbers.
FLOORS = {
    1: {"BLEU": 36, "ROUGE-L": 50},
    2: {"BLEU-S": 60, "BLEU-U": 22, "BLEU-A": 45},  # untuned: 56, 19, 41
    3: {"Rouge-1": 25, "Rouge-2": 10, "Rouge-L": 20},
    4: {"MNLI": 40, "SST-2": 58, "MRPC": 68, "CoLA": 15, "QNLI": 55, "QQP": 68, "RTE": 58, "STS-B": 30},
}


@pytest.mark.parametrize("number", FLOORS)
def test_the_committed_tables_show_models_that_learned_and_can_still_learn(number: int) -> None:
    with (ROOT / f"results/tiny/table{number}.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["status"] == "run"]
    assert len(rows) == 7
    for row in rows:
        for column, floor in FLOORS[number].items():
            assert floor < float(row[column]) < 98, (row["label"], column)
