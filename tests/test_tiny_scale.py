"""The tiny scale: generated data in the releases' layouts, and miniature models made once and never half."""

import csv
import dataclasses
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from delta_lora.errors import UserError
from delta_lora.tasks.e2e import linearize, read_rows
from delta_lora.tasks.webnlg import data_files, read_entries
from delta_lora.tiny import data, models

ROOT = Path(__file__).resolve().parents[1]
SHORT = dataclasses.replace(models.MODELS["gpt2-tiny"], steps=2, bpe_documents=300)


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


def test_the_same_seed_writes_the_same_bytes(written: Path, tmp_path: Path) -> None:
    data.write("e2e", tmp_path)
    data.write("e2e", tmp_path / "other", seed=1)
    name = "e2e/trainset.csv"
    assert (tmp_path / name).read_bytes() == (written / name).read_bytes()
    assert (tmp_path / "other" / name).read_bytes() != (written / name).read_bytes()


def test_an_unknown_task_or_model_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no generated data set for task 'squad'"):
        data.write("squad", tmp_path)
    with pytest.raises(UserError, match="no miniature model 'gpt3'"):
        models.checkpoint("gpt3", tmp_path)


def test_a_model_is_made_once_and_a_damaged_one_again(tmp_path: Path) -> None:
    folder = models.checkpoint("gpt2-tiny", tmp_path, SHORT)
    weights = folder / "model.safetensors"
    made, first = weights.stat().st_mtime_ns, weights.read_bytes()
    assert models.checkpoint("gpt2-tiny", tmp_path, SHORT) == folder
    assert weights.stat().st_mtime_ns == made, "it was made again"
    weights.write_bytes(first[:-1])
    assert models.checkpoint("gpt2-tiny", tmp_path, SHORT) == folder
    assert weights.read_bytes() == first, "the same recipe gives the same weights"
    assert list(tmp_path.glob("*.damaged-*")), "the damaged one is set aside"
    other = dataclasses.replace(SHORT, steps=3)
    assert other.key != SHORT.key, "another recipe is another folder"


def test_the_model_is_a_stock_gpt2_whose_tokenizer_keeps_every_character(tmp_path: Path) -> None:
    folder = models.checkpoint("gpt2-tiny", tmp_path, SHORT)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert type(model).__name__ == "GPT2LMHeadModel"
    assert 1e6 < model.num_parameters() < 3e6
    text = "The Vaults near Café Adriatic charges £30, says “é”."
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert tokenizer.eos_token == "<|endoftext|>"


def test_the_committed_table_shows_models_that_learned_and_can_still_learn() -> None:
    with (ROOT / "results/tiny/table1.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["BLEU"]]
    assert len(rows) == 7
    for row in rows:
        assert 20 < float(row["BLEU"]) < 90, row  # the pretrained model alone is below 15 (README)
