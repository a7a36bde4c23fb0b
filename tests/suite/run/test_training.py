"""What of a task's training settings reaches the optimizer, and what the loss of its steps is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.models import bart_config, gpt2_config
from omegaconf import DictConfig
from torch.nn.functional import cross_entropy
from transformers import (
    AutoTokenizer,
    BartForConditionalGeneration,
    DataCollatorForSeq2Seq,
    GPT2LMHeadModel,
    TrainingArguments,
)

from delta_lora.suite.config.cell import build_cell
from delta_lora.suite.run.inputs import load_inputs
from delta_lora.suite.run.recipe import prepare
from delta_lora.suite.run.trainer import SuiteTrainer
from delta_lora.suite.run.training import make_trainer, train
from delta_lora.tasks.generation import IGNORED


@pytest.mark.parametrize(("decay", "decaying"), [("weights", {"matrix"}), ("all", {"matrix", "vector"})])
def test_epsilon_and_what_decays_reach_the_optimizer(
    short: Callable[..., DictConfig], tmp_path: Path, decay: str, decaying: set[str]
) -> None:
    cell = build_cell(
        short("method=full", f"task.train.decay={decay}", "task.train.adam_epsilon=1e-6", "task.train.weight_decay=0.5")
    )
    trainer: Any = make_trainer(cell, prepare(cell), load_inputs(cell), tmp_path, 8)
    optimizer = trainer.create_optimizer()
    assert {group["eps"] for group in optimizer.param_groups} == {1e-6}
    decayed = [p for group in optimizer.param_groups if group["weight_decay"] == 0.5 for p in group["params"]]
    assert {"matrix" if p.dim() > 1 else "vector" for p in decayed} == decaying
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(trainer.model.parameters()))


@pytest.mark.parametrize(("rate", "warns"), [(1e-3, False), (30.0, True)])
def test_a_training_that_diverges_says_so(
    short: Callable[..., DictConfig], tmp_path: Path, caplog: pytest.LogCaptureFixture, rate: float, warns: bool
) -> None:
    rates = [f"method.learning_rate={rate}", "task.train.max_steps=8", "task.train.logging_steps=2"]
    cell = build_cell(short("method=full", "task.train.max_grad_norm=0", *rates))
    trainer = make_trainer(cell, prepare(cell), load_inputs(cell), tmp_path, 8)
    result = train(cell, trainer, [])
    first = trainer.state.log_history[0]
    assert first["step"] == 1 and (result.final_loss > first["loss"]) is warns
    said = [record.getMessage() for record in caplog.records if "diverged" in record.getMessage()]
    assert len(said) == warns
    assert not said or f"lower learning rate than {rate:g}" in said[0]


def causal(number: int) -> dict[str, list[int]]:
    """A context of 3 tokens and 1 to 9 targets."""
    ids = [5, 6, 7 + number, *[8 + number] * (1 + number)]
    return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": [IGNORED] * 3 + ids[3:]}


def seq2seq(number: int) -> dict[str, list[int]]:
    """An input of 2 tokens and 1 to 9 targets."""
    return {"input_ids": [5, 6 + number], "attention_mask": [1, 1], "labels": [7 + number] * (1 + number)}


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("family", ["gpt2", "bart"])
def test_the_loss_of_a_step_is_the_mean_over_its_targets_however_its_batch_is_cut(
    family: str, smoothing: float, gpt2_checkpoint: Path, tmp_path: Path
) -> None:
    """Micro-batches of 8 and of 2, logits at targets alone, against the plain formula over all positions."""
    tokenizer = AutoTokenizer.from_pretrained(gpt2_checkpoint, pad_token="<|endoftext|>")
    examples = [causal(i) if family == "gpt2" else seq2seq(i) for i in range(9)]
    found = []
    for micro in (8, 2):
        torch.manual_seed(0)
        model: Any = GPT2LMHeadModel(gpt2_config())
        if family == "bart":
            model = BartForConditionalGeneration(bart_config(dropout=0.0))
        collator = DataCollatorForSeq2Seq(tokenizer, model=model, label_pad_token_id=IGNORED)
        arguments = TrainingArguments(
            output_dir=str(tmp_path), per_device_train_batch_size=micro, gradient_accumulation_steps=8 // micro,
            max_steps=4, learning_rate=1e-2, logging_steps=1, label_smoothing_factor=smoothing, save_strategy="no",
            report_to=[], disable_tqdm=True, use_cpu=True, remove_unused_columns=False,
        )  # fmt: skip
        trainer = SuiteTrainer(
            model, arguments, collator, examples, processing_class=tokenizer, seed=1, grouped=False, decay_all=False
        )  # the second and the fourth step have one example
        trainer.model_accepts_loss_kwargs = family == "gpt2"
        if not found:
            order = list(trainer.get_train_dataloader().batch_sampler)  # type: ignore[arg-type]
            batch: Any = collator([dict(examples[i]) for i in order[0]])
            with torch.no_grad():
                logits, labels = model(**batch).logits, batch["labels"]
            if family == "gpt2":
                logits, labels = logits[:, :-1], labels[:, 1:]
            plain = cross_entropy(logits.flatten(0, 1), labels.flatten(), label_smoothing=smoothing)
        trainer.train()
        found.append([row["loss"] for row in trainer.state.log_history if "loss" in row])
    assert found[0][0] == pytest.approx(float(plain), rel=0, abs=1e-6)
    assert len(found[0]) == 4 and found[0] == pytest.approx(found[1], rel=0, abs=1e-6)
