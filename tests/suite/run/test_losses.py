"""The loss on the references, which needs no generated text, and development sets, on which settings are chosen."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from omegaconf import DictConfig

from delta_lora.errors import RunError, UserError
from delta_lora.metrics.base import TokenLoss
from delta_lora.suite.config.cell import build_cell
from delta_lora.suite.config.compose import resolved
from delta_lora.suite.run import losses, recipe
from delta_lora.suite.run.inputs import load_inputs
from delta_lora.suite.run.losses import summed_losses
from delta_lora.suite.run.recipe import run_cell
from delta_lora.tasks.e2e import E2E
from delta_lora.tasks.glue import Glue


def test_a_run_without_texts_measures_the_merged_models_loss(
    short: Callable[..., DictConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = short("method=lora", "task.metrics=[loss]")
    monkeypatch.setattr(recipe, "decode", None)
    cell = build_cell(config)
    merged, merge = [], type(cell.method).merge

    def kept(method: Any) -> Any:
        merged.append(merge(method))
        return merged[0]

    monkeypatch.setattr(type(cell.method), "merge", kept)
    run = run_cell(config)
    inputs, summed, tokens = load_inputs(cell), 0.0, 0
    for item in inputs.items:
        for text in item.references:
            (example,) = cell.task.encoded([(item.input, text)], inputs.tokenizer, "causal")
            labels = torch.tensor([example["labels"]])
            with torch.inference_mode():
                loss = merged[0](input_ids=torch.tensor([example["input_ids"]]), labels=labels).loss
            count = int(labels[:, 1:].ne(-100).sum())
            summed, tokens = summed + float(loss) * count, tokens + count
    assert run.metrics == {"loss": pytest.approx(summed / tokens, rel=1e-5)}
    assert sum(line["tokens"] for line in run.predictions()) == tokens
    assert build_cell(short("method=lora")).key != run.key


def test_in_bf16_the_weights_are_held_in_it_and_the_loss_is_autocasts(
    short: Callable[..., DictConfig], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen, found = set(), []
    for held in (True, False):
        if not held:
            monkeypatch.setattr(losses, "frozen_matrices_in", lambda model, dtype: nullcontext())

        def summed(model: Any, batch: Any, *, shift: bool) -> Any:
            seen.add(model.transformer.h[0].mlp.c_fc.weight.dtype)
            return summed_losses(model, batch, shift=shift)

        monkeypatch.setattr(losses, "summed_losses", summed)
        given = (
            "method=lora",
            "task.metrics=[loss]",
            "task.train.precision=bf16",
            f"results_dir={tmp_path / str(held)}",
        )
        found.append(run_cell(short(*given)).metrics)
    assert found[0] == found[1] and seen == {torch.bfloat16, torch.float32}


def test_a_loss_that_is_no_number_is_no_score(
    short: Callable[..., DictConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = short("method=lora", "task.metrics=[loss]")
    method = type(build_cell(config).method)
    merge = method.merge

    def broken(method: Any) -> Any:
        model = merge(method)
        model.get_output_embeddings().weight.data[0, 0] = torch.nan
        return model

    monkeypatch.setattr(method, "merge", broken)
    with pytest.raises(RunError, match=r"gives no numbers \(NaN\)"):
        run_cell(config)


def test_the_loss_is_a_mean_over_tokens_of_any_selection() -> None:
    losses = TokenLoss([10.0, 3.0], [10, 1])
    assert losses.score() == {"loss": 13 / 11}
    assert losses.score([1, 1]) == {"loss": 3.0}
    assert np.allclose(losses.scores(np.array([[1.0, 1.0], [0.0, 2.0]]))["loss"], [13 / 11, 3.0])


def test_the_loss_stands_alone(short: Callable[..., DictConfig]) -> None:
    with pytest.raises(UserError, match=r"give \[loss\] alone"):
        build_cell(short("task.metrics=[BLEU,loss]"))


@pytest.mark.parametrize(("task", "model"), [("e2e", "gpt2-tiny"), ("glue/rte", "roberta-tiny")])
def test_generated_data_have_no_development_set(composed: Callable[..., DictConfig], task: str, model: str) -> None:
    with pytest.raises(UserError, match="no development set"):
        build_cell(composed("scale=tiny", f"task={task}", f"model={model}", "method=lora", "task.split=dev"))


def test_e2es_development_set_is_its_devset(
    composed: Callable[..., DictConfig], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, text in (("devset.csv", "It isn't a 5-star pub."), ("testset_w_refs.csv", "It isn't a 5-star pub.")):
        (tmp_path / name).write_text(f'mr,ref\n"name[The Vaults], eatType[pub]",{text}\n')
    group = resolved(composed("task=e2e", "method=lora", "task.split=dev")).task
    task = E2E(group, tmp_path, tmp_path)
    monkeypatch.setattr(task, "fetch", lambda: tmp_path)
    (item,) = task.test_items()
    assert item.references == ["It isn 't a 5 - star pub ."], "as microsoft/LoRA's valid.txt"
    group.split = "test"
    task = E2E(group, tmp_path, tmp_path)
    monkeypatch.setattr(task, "fetch", lambda: tmp_path)
    assert task.test_items()[0].references == ["It is n't a 5-star pub ."]


def test_glues_development_set_is_held_out_of_its_training_rows(
    composed: Callable[..., DictConfig], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rows = pd.DataFrame({"sentence": [f"text {i}" for i in range(25)], "label": [i % 2 for i in range(25)]})
    seen = {}
    for split in ("dev", "test"):
        group = resolved(
            composed("task=glue/sst2", "method=lora", f"task.split={split}", "task.train_examples=25")
        ).task
        task = Glue(group, None, tmp_path)
        monkeypatch.setattr(task, "table", lambda name: rows)
        monkeypatch.setattr(task, "encode", lambda tokenizer, sentences: [{"text": pair[0]} for pair in sentences])
        seen[split] = (
            {example["text"] for example in task.train_examples(None, "classification")},
            {item.input for item in task.test_items()},
        )
    trained, scored = seen["dev"]
    assert scored == {"text 9", "text 19"} and trained | scored == seen["test"][0] and not trained & scored
