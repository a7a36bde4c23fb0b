"""XSum and GLUE: parquet from a folder or from the hub's cache, labels and columns checked."""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pandas as pd
import pytest
from omegaconf import DictConfig
from transformers import AutoTokenizer

from delta_lora.errors import UserError
from delta_lora.tasks.glue import Glue
from delta_lora.tasks.xsum import XSum

XSUM = pd.DataFrame({"document": ["One. Two.", "Three."], "summary": ["1.", "3."], "id": ["a", "b"]})
RTE = pd.DataFrame({"sentence1": ["A b c.", "D."], "sentence2": ["A.", "E."], "label": [0, 1], "idx": [0, 1]})
NAMES = ["mnli", "sst2", "mrpc", "cola", "qnli", "qqp", "rte", "stsb"]


def write(folder: Path, table: pd.DataFrame, *splits: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for split in splits:
        table.to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return folder


def glue(composed: Callable[..., DictConfig], name: str, data: Path | None, *more: str) -> Glue:
    return Glue(composed(f"task=glue/{name}", "model=roberta-base", *more).task, data, Path("unused"))


def test_xsum_from_a_folder(composed: Callable[..., DictConfig], tmp_path: Path) -> None:
    write(tmp_path / "xsum", XSUM, "train", "test")
    task = XSum(composed("task=xsum", "model=bart-large").task, tmp_path, Path("unused"))
    task.check_files()
    assert task.train_size() == 2
    assert [item.input for item in task.test_items()] == ["One. Two.", "Three."]
    assert task.score(task.test_items(), ["1.", "3."])["Rouge-1"] == 100
    key = task.fingerprint()
    write(tmp_path / "xsum", XSUM.iloc[:1], "train")
    assert task.fingerprint() != key, "other local data, another run"


def test_xsums_development_set_is_its_validation_split(composed: Callable[..., DictConfig], tmp_path: Path) -> None:
    write(tmp_path / "xsum", XSUM, "train")
    write(tmp_path / "xsum", XSUM.iloc[1:], "validation")
    task = XSum(composed("task=xsum", "model=bart-large", "task.split=dev").task, tmp_path, Path("unused"))
    task.check_files()
    assert [item.input for item in task.test_items()] == ["Three."]


def cached(home: Path, repository: str, reference: str, files: dict[str, pd.DataFrame]) -> None:
    """A hub cache as the hub's client writes it: blobs, refs, snapshots with links."""
    root = home / "hub" / f"datasets--{repository.replace('/', '--')}"
    commit = "0123456789abcdef0123456789abcdef01234567"
    (root / "refs" / reference).parent.mkdir(parents=True)
    (root / "refs" / reference).write_text(commit)
    (root / "blobs").mkdir()
    for name, table in files.items():
        content = table.to_parquet()
        blob, link = root / "blobs" / sha256(content).hexdigest(), root / "snapshots" / commit / name
        link.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)
        link.symlink_to(blob)


def test_data_sets_are_found_in_the_hub_cache_offline(
    composed: Callable[..., DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    paths = {f"default/{split}/0000.parquet": XSUM for split in ("train", "validation", "test")}
    cached(tmp_path, "EdinburghNLP/xsum", "refs/convert/parquet", paths)
    xsum = XSum(composed("task=xsum", "model=bart-large", "task.train_examples=2").task, None, tmp_path)
    assert len(xsum.test_items()) == 2
    files = {}
    for name in NAMES:
        task = glue(composed, name, None)
        table = RTE.rename(columns=dict(zip(["sentence1", "sentence2"], [*task.settings.sentences], strict=False)))
        for split in ("train", *task.settings.evaluation_splits):
            files[f"{name}/{split}-00000-of-00001.parquet"] = table
    cached(tmp_path, "nyu-mll/glue", "main", files)
    for name in NAMES:
        task = glue(composed, name, None)
        assert len(task.test_items()) == 2 * len(task.settings.evaluation_splits), name
        assert task.table("train")["label"].tolist() == [0, 1]


def test_a_hub_that_cannot_be_reached_is_a_clear_error(
    composed: Callable[..., DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="could not load nyu-mll/glue at main from the hub"):
        glue(composed, "rte", None).test_items()


def test_wrong_files_are_named(composed: Callable[..., DictConfig], tmp_path: Path) -> None:
    task = glue(composed, "rte", tmp_path)
    with pytest.raises(UserError, match="no train split"):
        task.check_files()
    folder = write(tmp_path / "glue" / "rte", RTE, "train", "validation")
    task.check_files()
    write(folder, RTE.drop(columns="sentence2"), "validation")
    with pytest.raises(UserError, match="has no column sentence2; its columns are sentence1, label"):
        task.check_files()
    write(folder, RTE.assign(label=[0, 2]), "validation")
    with pytest.raises(UserError, match=r"validation split, row 1: label 2, expected 0 to 1 \(entailment"):
        task.check_files()
    (folder / "train-00000-of-00001.parquet").write_bytes(b"PAR1 truncated")
    with pytest.raises(UserError, match="cannot be read as parquet"):
        task.check_files()


@pytest.mark.parametrize("empty", ["", " \n", None])
@pytest.mark.parametrize(("split", "column"), [("train", "summary"), ("train", "document"), ("test", "document")])
def test_an_empty_document_or_summary_is_named_with_its_row(
    composed: Callable[..., DictConfig], tmp_path: Path, split: str, column: str, empty: str | None
) -> None:
    write(tmp_path / "xsum", XSUM, "train", "test")
    write(tmp_path / "xsum", XSUM.assign(**{column: ["One.", empty]}), split)
    task = XSum(composed("task=xsum", "model=bart-large").task, tmp_path, Path("unused"))
    with pytest.raises(UserError, match=rf"{split}-00000-of-00001\.parquet\b.*{column}") as refused:
        task.check_files()
    assert "row 1" in str(refused.value)
    with pytest.raises(UserError, match="row 1"):
        task.read_train(tmp_path / "xsum") if split == "train" else task.test_items()


def test_an_empty_sentence_is_named_with_its_row_in_its_part(
    composed: Callable[..., DictConfig], tmp_path: Path
) -> None:
    folder = write(tmp_path / "glue" / "rte", RTE, "train", "validation")
    RTE.assign(sentence2=["A.", "\t"]).to_parquet(folder / "validation-00001-of-00002.parquet")
    with pytest.raises(UserError, match=r"validation-00001-of-00002\.parquet, row 1: the sentence2 is empty"):
        glue(composed, "rte", tmp_path).check_files()


def test_what_a_release_leaves_empty_is_read_and_no_more(composed: Callable[..., DictConfig], tmp_path: Path) -> None:
    """QQP's training set has two second questions without text; a file of another size is not that release."""
    table = pd.DataFrame({"question1": ["a"] * 4, "question2": ["b", "", "", "c"], "label": [0] * 4})
    folder = write(tmp_path / "glue" / "qqp", table, "train")
    write(folder, table.iloc[:1], "validation")
    assert len(glue(composed, "qqp", tmp_path, "task.train_examples=4").table("train")) == 4
    with pytest.raises(UserError, match="row 1: the question2 is empty"):
        glue(composed, "qqp", tmp_path).table("train")
    write(folder, table.assign(question2=["", "", "", "c"]), "train")
    with pytest.raises(UserError, match="row 0: the question2 is empty"):
        glue(composed, "qqp", tmp_path, "task.train_examples=4").table("train")


def test_pairs_are_cut_at_the_longer_sentence(
    composed: Callable[..., DictConfig], tmp_path: Path, gpt2_checkpoint: Path
) -> None:
    write(tmp_path / "glue" / "rte", RTE, "train", "validation")
    task = glue(composed, "rte", tmp_path, "task.train.max_length=8")
    tokenizer = AutoTokenizer.from_pretrained(gpt2_checkpoint)
    short, long = "a pub", "The Vaults pub near Café Adriatic has a 5 star rating. " * 3
    (example,) = task.encode(tokenizer, [(long, short)])
    assert len(example["input_ids"]) == 8
    assert tokenizer.decode(example["input_ids"]).endswith(short)


def test_mnli_is_scored_on_both_halves_together_and_each_alone(
    composed: Callable[..., DictConfig], tmp_path: Path
) -> None:
    table = pd.DataFrame({"premise": ["a", "b"], "hypothesis": ["c", "d"], "label": [0, 2]})
    write(tmp_path / "glue" / "mnli", table, "train", "validation_matched", "validation_mismatched")
    task = glue(composed, "mnli", tmp_path)
    scores = task.score(task.test_items(), ["0", "2", "0", "1"])
    assert scores == {"accuracy": 75, "accuracy-matched": 100, "accuracy-mismatched": 50}


def test_a_part_is_spread_over_each_scored_split(composed: Callable[..., DictConfig], tmp_path: Path) -> None:
    words = [str(i) for i in range(9)]
    table = pd.DataFrame({"premise": words, "hypothesis": words, "label": [0] * 9})
    write(tmp_path / "glue" / "mnli", table, "train", "validation_matched", "validation_mismatched")
    task = glue(composed, "mnli", tmp_path, "task.max_test_examples=3")
    items = task.test_items()
    assert [item.extra["sentences"][0] for item in items] == ["0", "3", "6"] * 2
    assert [item.id for item in items] == [0, 3, 6, 9, 12, 15], "their places in all that is scored"


@pytest.mark.real_data
@pytest.mark.parametrize(("name", "train", "scored"), [("cola", 8551, 1043), ("rte", 2490, 277), ("stsb", 5749, 1500)])
def test_the_real_files_have_their_known_sizes(
    real_data: Path, composed: Callable[..., DictConfig], name: str, train: int, scored: int
) -> None:
    task = glue(composed, name, real_data)
    task.check_files()
    assert (task.train_size(), len(task.test_items())) == (train, scored)
