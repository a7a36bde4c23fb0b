"""The generated GLUE tasks, the miniature RoBERTa, and classification cells end to end."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.runs import elsewhere, interrupted
from omegaconf import DictConfig
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    RobertaForMaskedLM,
)

from delta_lora.errors import RunError
from delta_lora.suite.config.cell import build_cell
from delta_lora.suite.run.recipe import run_cell
from delta_lora.suite.run.selection import BestEpoch
from delta_lora.tiny import architectures, data, glue, models
from delta_lora.tiny.world import words

SHORT = replace(models.MODELS["roberta-tiny"], bpe_documents=5000)
PAIRS = sorted(set(glue.TASKS) - {"cola", "sst2"})


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for task in glue.TASKS:
        data.write(f"glue/{task}", folder)
    return folder


def splits(root: Path, task: str) -> dict[str, pd.DataFrame]:
    return {path.name.split("-")[0]: pd.read_parquet(path) for path in sorted((root / "glue" / task).glob("*.parquet"))}


@pytest.mark.parametrize("task", glue.TASKS)
def test_the_tasks_own_reader_reads_what_is_generated(
    task: str, root: Path, composed: Callable[..., DictConfig]
) -> None:
    config = composed(
        f"task=glue/{task}", "scale=tiny", "model=roberta-tiny", "task.source=official", f"data_dir={root}"
    )
    reader: Any = build_cell(config).task
    assert reader.train_size() == config.task.train_examples, "configs/preset/tiny/glue: task.train_examples"
    assert len(reader.test_items()) == sum(len(t) for name, t in splits(root, task).items() if name != "train")


@pytest.mark.parametrize("task", glue.TASKS)
def test_columns_are_the_real_ones_and_no_validation_row_is_in_training(task: str, root: Path) -> None:
    tables = splits(root, task)
    assert set(tables) == (
        {"train", "validation_matched", "validation_mismatched"} if task == "mnli" else {"train", "validation"}
    )
    sentences = [name for name in tables["train"].columns if name not in ("label", "idx")]
    rows = {name: set(table[sentences].itertuples(index=False, name=None)) for name, table in tables.items()}
    for name, table in tables.items():
        assert table["idx"].dtype == np.int32 and list(table["idx"]) == list(range(len(table)))
        assert table["label"].dtype == (np.float64 if task == "stsb" else np.int64)
        assert name == "train" or not rows[name] & rows["train"]


@pytest.mark.parametrize(
    ("task", "most"), [("cola", 0.6), ("sst2", 0.53), ("mrpc", 0.67), ("qnli", 0.5), ("qqp", 0.63), ("rte", 0.5)]
)
def test_class_proportions_are_about_the_real_ones(task: str, most: float, root: Path) -> None:
    labels = pd.concat(splits(root, task).values())["label"]
    assert abs(labels.value_counts(normalize=True).max() - most) < 0.05


@pytest.mark.parametrize("task", PAIRS)
def test_counting_common_words_does_not_solve_a_pair_task(task: str, root: Path) -> None:
    tables = splits(root, task)
    validation = tables["validation_matched" if task == "mnli" else "validation"]
    overlap, label = _overlap(validation), validation["label"].to_numpy()
    if task == "stsb":
        assert np.corrcoef(overlap, label)[0, 1] < 0.8
        return
    train_overlap, train_label = _overlap(tables["train"]), tables["train"]["label"].to_numpy()
    bins = np.quantile(train_overlap, np.linspace(0, 1, 9)[1:-1])
    guess = {
        b: Counter(train_label[np.digitize(train_overlap, bins) == b]).most_common(1)[0][0]
        for b in set(np.digitize(train_overlap, bins))
    }
    right = np.mean([guess.get(b, 0) == y for b, y in zip(np.digitize(overlap, bins), label, strict=True)])
    assert right < 0.8


def _overlap(table: pd.DataFrame) -> np.ndarray:
    """The share of the second sentence's words that stand in the first."""
    first, second = ([set(text.strip(".?").lower().split()) for text in table.iloc[:, i]] for i in (0, 1))
    return np.array([len(a & b) / len(b) for a, b in zip(first, second, strict=True)])


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.checkpoint("roberta-tiny", tmp_path_factory.mktemp("models"), SHORT)


def test_stock_classes_load_the_checkpoint_and_pairs_have_robertas_form(pretrained: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(pretrained)
    assert isinstance(AutoModelForMaskedLM.from_pretrained(pretrained), RobertaForMaskedLM)
    model = AutoModelForSequenceClassification.from_pretrained(pretrained, num_labels=3)
    assert 500_000 < model.num_parameters() < 2_500_000
    encoded = tokenizer("Clara lives in Paris.", "Is Clara at home?", return_tensors="pt")
    assert model(**encoded).logits.shape == (1, 3)
    tokens = tokenizer.convert_ids_to_tokens(encoded["input_ids"][0].tolist())
    assert tokens[0] == "<s>" and tokens[-1] == "</s>"
    middle = tokens.index("</s>")
    assert tokens[middle : middle + 2] == ["</s>", "</s>"] and tokens.count("</s>") == 3
    assert tokenizer.convert_tokens_to_ids(architectures.SPECIAL) == list(range(5))


def test_words_of_one_kind_have_like_embeddings(pretrained: Path) -> None:
    tokenizer, model = AutoTokenizer.from_pretrained(pretrained), AutoModelForMaskedLM.from_pretrained(pretrained)
    vectors = torch.nn.functional.normalize(model.get_input_embeddings().weight.detach(), dim=1)

    def of(name: str) -> torch.Tensor:
        ids = [tokenizer(word, add_special_tokens=False)["input_ids"] for word in words(name)]
        return vectors[[tokens[0] for tokens in ids if len(tokens) == 1]]

    cities, colours, jobs = of("city"), of("colour"), of("job")
    assert min(map(len, (cities, colours, jobs))) >= 10, "most words are one token"
    for kind, other in ((cities, colours), (colours, jobs), (jobs, cities)):
        assert (kind @ kind.T).mean() > (kind @ other.T).mean() + 0.15


def test_a_model_that_gives_no_numbers_has_no_class(
    short_glue: Callable[..., DictConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    predict = BestEpoch.predict

    def broken(best: BestEpoch) -> list[str]:
        for parameter in best.trainer.model.parameters():
            parameter.data.fill_(torch.nan)
        return predict(best)

    monkeypatch.setattr(BestEpoch, "predict", broken)
    with pytest.raises(RunError, match=r"gives no numbers \(NaN\)"):
        run_cell(short_glue("cola", "lora"))


def test_the_tasks_own_metric_chooses_the_epoch_whatever_a_table_shows_first(
    short_glue: Callable[..., DictConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All rows of MNLI count. Epoch 1 has the mismatched ones right, epoch 2 the others and half of these."""

    def predict(best: BestEpoch) -> list[str]:
        second = best.trainer.state.epoch > 1
        right = [
            item.extra["split"].endswith("mismatched") != second or (second and item.id % 2) for item in best.items
        ]
        labels = [int(item.references[0]) for item in best.items]
        return [str(label if good else (label + 1) % 3) for label, good in zip(labels, right, strict=True)]

    monkeypatch.setattr(BestEpoch, "predict", predict)
    config = short_glue("mnli", "lora", "task.metrics=[accuracy-mismatched,accuracy-last]")
    run = run_cell(config)
    assert run.key == build_cell(short_glue("mnli", "lora")).key
    assert run.train["best_epoch"] == 2 and set(run.metrics) == set(config.task.metrics)
    assert 0 < run.metrics["accuracy-mismatched"] < run.metrics["accuracy-last"]


@pytest.mark.parametrize(("task", "method"), [("cola", "lora"), ("stsb", "delta-lora"), ("cola", "full")])
def test_a_cell_interrupted_in_its_second_epoch_ends_as_the_undisturbed_one(
    task: str, method: str, short_glue: Callable[..., DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = short_glue(task, method)
    whole = run_cell(config)
    resumed = elsewhere(config, tmp_path / "resumed")
    interrupted(resumed, 14, monkeypatch)
    run = run_cell(resumed)
    metric = "pearson" if task == "stsb" else "matthews"
    assert run.metrics == whole.metrics
    assert set(run.metrics) == {metric, f"{metric}-last", f"{metric}-cross-fitted"}
    assert run.predictions() == whole.predictions()
    assert {len(line["by_epoch"]) for line in run.predictions()} == {config.task.train.epochs}
    assert all(line["by_epoch"][run.train["best_epoch"] - 1] == line["prediction"] for line in run.predictions())
    assert run.train["best_epoch"] == whole.train["best_epoch"]


def test_the_exported_adapter_and_head_give_the_recorded_predictions(
    short_glue: Callable[..., DictConfig], roberta_checkpoint: Path
) -> None:
    from peft import PeftModel

    run = run_cell(short_glue("stsb", "lora"))
    tokenizer = AutoTokenizer.from_pretrained(roberta_checkpoint)
    plain = AutoModelForSequenceClassification.from_pretrained(
        roberta_checkpoint, num_labels=1, problem_type="regression"
    )
    model = PeftModel.from_pretrained(plain, str(run.path / "adapter")).eval()
    for line in run.predictions()[:5]:
        with torch.no_grad():
            value = model(**tokenizer(*line["sentences"], return_tensors="pt")).logits.item()
        assert value == pytest.approx(float(line["prediction"]), abs=1e-4)
    names = json.loads((run.path / "adapter" / "adapter_config.json").read_text())
    assert names["modules_to_save"] == ["classifier"]


def test_mnli_records_both_halves_and_their_whole(short_glue: Callable[..., DictConfig]) -> None:
    metrics = run_cell(short_glue("mnli", "lora", "task.train.epochs=1")).metrics
    halves = {"accuracy-matched", "accuracy-mismatched"}
    assert set(metrics) == {"accuracy", "accuracy-last", "accuracy-cross-fitted"} | halves
    assert metrics["accuracy"] == pytest.approx((metrics["accuracy-matched"] + metrics["accuracy-mismatched"]) / 2)
