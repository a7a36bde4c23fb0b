"""DeltaLoraCallback in a real transformers.Trainer: steps, checkpoints, resuming."""

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from helpers.models import gpt2_config
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from torch.utils.data import Dataset
from transformers import (
    GPT2LMHeadModel,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from delta_lora import DeltaLora, DeltaLoraCallback
from delta_lora.errors import UserError
from delta_lora.models.gpt2 import split_attention

K = 4


class Tokens(Dataset[dict[str, Tensor]]):
    def __init__(self) -> None:
        self.rows = torch.randint(61, (64, 10), generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"input_ids": self.rows[index], "labels": self.rows[index]}


def fresh_model() -> PeftModel:
    torch.manual_seed(0)
    model = split_attention(GPT2LMHeadModel(gpt2_config(vocab_size=61, n_positions=16)))
    return get_peft_model(model, LoraConfig(r=4, lora_alpha=32, target_modules=["q_proj", "v_proj"]))


def trainer(
    folder: Path, callback: TrainerCallback, steps: int, model: PeftModel | None = None, **options: Any
) -> Trainer:
    arguments = {
        "output_dir": str(folder),
        "max_steps": steps,
        "per_device_train_batch_size": 4,
        "per_device_eval_batch_size": 64,
        "gradient_accumulation_steps": 2,
        "max_grad_norm": 0.1,
        "learning_rate": 5e-3,
        "weight_decay": 0.1,
        "lr_scheduler_type": "constant",
        "save_steps": 100,
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        **options,
    }
    data = Tokens()
    model = model or fresh_model()
    return Trainer(model, TrainingArguments(**arguments), train_dataset=data, eval_dataset=data, callbacks=[callback])


def everything(model: PeftModel) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same_bits(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Tensor]]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    callback = DeltaLoraCallback(2.0, K)
    run = trainer(folder, callback, 12, save_steps=1)
    run.train()
    assert callback.delta is not None and callback.delta.steps == 12 and callback.delta.anchored
    return folder, everything(run.model)


def test_the_trainer_equals_a_hand_written_loop(uninterrupted: tuple[Path, dict[str, Tensor]], tmp_path: Path) -> None:
    order: list[dict[str, Tensor]] = []

    class Spy(Trainer):
        def training_step(self, model: Any, inputs: Any, *rest: Any, **options: Any) -> Tensor:
            order.append({name: tensor.clone() for name, tensor in inputs.items()})
            return super().training_step(model, inputs, *rest, **options)

    spied = trainer(tmp_path, DeltaLoraCallback(0.0, K), 12)
    spied.__class__ = Spy
    spied.train()

    model = fresh_model()
    delta = DeltaLora(model, 2.0, K)
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=5e-3, weight_decay=0.1)
    model.train()
    for first, second in zip(order[::2], order[1::2], strict=True):
        for batch in (first, second):
            (model(**batch).loss / 2).backward()
        torch.nn.utils.clip_grad_norm_(trainable, 0.1)
        optimizer.step()
        delta.step()
        optimizer.zero_grad()
    trained = model.state_dict()
    # AdamW divides tiny gradients by their own size, so the order in which a CPU sums shows; a step at which W moves or
    # does not is a hundred times more.
    for name, expected in uninterrupted[1].items():
        torch.testing.assert_close(trained[name], expected, rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("at", [K - 1, K, K + 1, K + 2, K + 5])
def test_a_resumed_run_ends_with_the_same_bits(
    at: int, uninterrupted: tuple[Path, dict[str, Tensor]], tmp_path: Path
) -> None:
    """Interrupted before K, at K, at the anchoring step and after it."""
    shutil.copytree(uninterrupted[0] / f"checkpoint-{at}", tmp_path / f"checkpoint-{at}")
    callback = DeltaLoraCallback(2.0, K)
    run = trainer(tmp_path, callback, 12)
    run.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{at}"))
    assert callback.delta is not None and callback.delta.steps == 12
    assert same_bits(everything(run.model), uninterrupted[1])


def test_a_resumed_literal_run_is_the_same(tmp_path: Path) -> None:
    """Its state holds W itself: from the anchor it would be rebuilt in one rounding, where the loop has many."""
    whole = trainer(tmp_path, DeltaLoraCallback(2.0, K, literal=True), 12, save_steps=K + 4)
    whole.train()
    run = trainer(tmp_path, DeltaLoraCallback(2.0, K, literal=True), 12)
    run.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{K + 4}"))
    assert same_bits(everything(run.model), everything(whole.model))


def test_resuming_in_the_same_process_on_the_moved_model(
    uninterrupted: tuple[Path, dict[str, Tensor]], tmp_path: Path
) -> None:
    for step in (2, K + 3):
        shutil.copytree(uninterrupted[0] / f"checkpoint-{step}", tmp_path / f"checkpoint-{step}")
    callback = DeltaLoraCallback(2.0, K)
    run = trainer(tmp_path, callback, 12)
    run.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{K + 3}"))
    # W has moved now; going back to before K needs W_0 again, and the second fold must equal the first.
    run.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert same_bits(everything(run.model), uninterrupted[1])


def test_resuming_from_a_folder_elsewhere(uninterrupted: tuple[Path, dict[str, Tensor]], tmp_path: Path) -> None:
    elsewhere = uninterrupted[0] / f"checkpoint-{K + 3}"
    with pytest.raises(UserError, match=r"delta_lora.safetensors is missing.*resume_from="):
        trainer(tmp_path, DeltaLoraCallback(2.0, K), 12).train(resume_from_checkpoint=str(elsewhere))
    run = trainer(tmp_path, DeltaLoraCallback(2.0, K, resume_from=elsewhere), 12)
    run.train(resume_from_checkpoint=str(elsewhere))
    assert same_bits(everything(run.model), uninterrupted[1])


def test_a_checkpoint_of_another_run_under_the_same_name_is_noticed(
    uninterrupted: tuple[Path, dict[str, Tensor]], tmp_path: Path
) -> None:
    trainer(tmp_path, DeltaLoraCallback(2.0, K), K + 3, learning_rate=1e-3, save_steps=K + 3).train()
    elsewhere = uninterrupted[0] / f"checkpoint-{K + 3}"
    with pytest.raises(UserError, match="belongs to another run"):
        trainer(tmp_path, DeltaLoraCallback(2.0, K), 12).train(resume_from_checkpoint=str(elsewhere))
    with pytest.raises(UserError, match=r"made with update_ratio=2.0, this DeltaLora has 3.0"):
        trainer(tmp_path, DeltaLoraCallback(3.0, K, resume_from=elsewhere), 12).train(
            resume_from_checkpoint=str(elsewhere)
        )


def test_the_state_is_written_whole_and_small(uninterrupted: tuple[Path, dict[str, Tensor]]) -> None:
    folder = uninterrupted[0]
    for step in range(1, 13):
        names = {path.name for path in (folder / f"checkpoint-{step}").iterdir()}
        assert "delta_lora.safetensors" in names and not any("unfinished" in name for name in names)
    before, after = (folder / f"checkpoint-{step}" / "delta_lora.safetensors" for step in (K, K + 1))
    # Four layers' anchors of (32·4 + 4·32) float32 numbers; before the anchor only the counters.
    assert before.stat().st_size < 2000 < 4 * 256 * 4 < after.stat().st_size < 4 * 256 * 4 + 3000


@pytest.mark.parametrize("best", [2, K + 3])
def test_loading_the_best_model_takes_its_anchor_too(best: int, tmp_path: Path) -> None:
    """At the end the Trainer loads the best checkpoint's A and B alone; W must be as it was then."""
    evaluated: dict[int, float] = {}

    class Choose(Trainer):
        def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
            metrics = super().evaluate(*args, **kwargs)
            evaluated[self.state.global_step] = metrics["eval_loss"]
            return {**metrics, "eval_wanted": float(self.state.global_step == best)}

    options = {
        "eval_strategy": "steps",
        "eval_steps": 1,
        "save_steps": 1,
        "load_best_model_at_end": True,
        "greater_is_better": True,
    }
    run = trainer(tmp_path, DeltaLoraCallback(2.0, K), 10, metric_for_best_model="wanted", **options)
    run.__class__ = Choose
    run.train()
    assert run.state.best_model_checkpoint.endswith(f"checkpoint-{best}")
    during = evaluated[best]
    assert Trainer.evaluate(run)["eval_loss"] == pytest.approx(during, abs=1e-6)
    assert abs(evaluated[10] - during) > 1e-4


def test_a_step_that_the_gradscaler_skipped_is_no_step() -> None:
    model = fresh_model()
    arguments = TrainingArguments(report_to="none", use_cpu=True)
    Accelerator(cpu=True)  # the optimizer below reads its state
    optimizer = AcceleratedOptimizer(
        torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3),
        device_placement=False,
        scaler=torch.amp.GradScaler("cpu"),
    )
    callback = DeltaLoraCallback(2.0, 1)
    state, control = TrainerState(), TrainerControl()
    callback.on_train_begin(arguments, state, control, model=model)
    assert callback.delta is not None
    tokens = torch.randint(61, (2, 8))
    for overflow, steps in ((False, 1), (True, 1), (False, 2)):
        loss = optimizer.scaler.scale(model(input_ids=tokens, labels=tokens).loss)
        (loss * (float("inf") if overflow else 1.0)).backward()
        optimizer.step()
        callback.on_optimizer_step(arguments, state, control, model=model, optimizer=optimizer)
        optimizer.zero_grad()
        assert callback.delta.steps == steps
    assert callback.delta.anchored


def test_a_checkpoint_without_the_state_is_a_clear_error(
    uninterrupted: tuple[Path, dict[str, Tensor]], tmp_path: Path
) -> None:
    shutil.copytree(uninterrupted[0] / "checkpoint-6", tmp_path / "checkpoint-6")
    (tmp_path / "checkpoint-6" / "delta_lora.safetensors").unlink()
    with pytest.raises(UserError, match=r"checkpoint-6/delta_lora.safetensors is missing"):
        trainer(tmp_path, DeltaLoraCallback(2.0, K), 8).train(resume_from_checkpoint=str(tmp_path / "checkpoint-6"))


def test_settings_restored_from_the_trainer_state(
    uninterrupted: tuple[Path, dict[str, Tensor]], tmp_path: Path
) -> None:
    """The Trainer can make a new callback from the arguments that a checkpoint records."""
    shutil.copytree(uninterrupted[0] / "checkpoint-6", tmp_path / "checkpoint-6")
    run = trainer(tmp_path, DeltaLoraCallback(9.0, 9), 12, restore_callback_states_from_checkpoint=True)
    run.train(resume_from_checkpoint=str(tmp_path / "checkpoint-6"))
    assert same_bits(everything(run.model), uninterrupted[1])


def reloaded_difference(folder: Path, model: PeftModel) -> float:
    """How far the logits of stock PEFT with the adapter in ``folder`` are from the trained model's."""
    torch.manual_seed(0)
    stock = GPT2LMHeadModel(gpt2_config(vocab_size=61, n_positions=16))
    config = json.loads((folder / "adapter_config.json").read_text())
    if "c_attn" not in config["target_modules"]:  # a checkpoint is of the split model
        stock = split_attention(stock)
    loaded = PeftModel.from_pretrained(stock, folder).eval()
    tokens = Tokens()[0]["input_ids"][None]
    with torch.no_grad():
        return float((loaded(tokens).logits - model.eval()(tokens).logits).abs().max())


def test_half_a_model_is_saved_with_a_word_and_the_whole_one_by_export(tmp_path: Path) -> None:
    callback = DeltaLoraCallback(2.0, 1)
    run = trainer(tmp_path, callback, 12, save_steps=12, learning_rate=2e-2)
    with pytest.warns(UserWarning, match=r"A and B alone.*callback\.delta\.export\(folder\)"):
        run.train()
    run.save_model()
    note = "delta_lora_not_exported.txt"
    for folder in (tmp_path, tmp_path / "checkpoint-12"):
        assert "callback.delta.export(folder)" in (folder / note).read_text(encoding="utf-8")
        assert reloaded_difference(folder, run.model) > 1e-2
    assert callback.delta is not None
    callback.delta.export(tmp_path)
    assert not (tmp_path / note).exists()
    assert reloaded_difference(tmp_path, run.model) < 1e-5


@pytest.mark.parametrize("options", [{"remind": False}, {"update_ratio": 0.0}])
def test_nothing_is_said_where_nothing_is_missing(options: dict[str, Any], tmp_path: Path) -> None:
    callback = DeltaLoraCallback(**{"update_ratio": 2.0, "start_steps": 1, **options})
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*(export|plain LoRA)")
        trainer(tmp_path, callback, 4, save_steps=4).train()
    assert not list(tmp_path.rglob("*.txt"))


def test_an_export_during_training_ends_the_reminder(tmp_path: Path) -> None:
    class Export(TrainerCallback):
        def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
            assert callback.delta is not None
            callback.delta.export(tmp_path / "adapter")

    callback = DeltaLoraCallback(2.0, 1)
    run = trainer(tmp_path / "run", callback, 4, save_steps=4)
    run.add_callback(Export())
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*export")
        run.train()


@pytest.mark.parametrize(("steps", "warned"), [(K + 1, True), (K + 2, False)])
def test_a_training_too_short_for_w_to_move_is_called_plain_lora(steps: int, warned: bool, tmp_path: Path) -> None:
    callback = DeltaLoraCallback(2.0, K, remind=False)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        trainer(tmp_path, callback, steps).train()
        assert callback.delta is not None
        callback.delta.export(tmp_path / "adapter")
    lines = [str(one.message) for one in told if "plain LoRA" in str(one.message)]
    expected = [f"{what} is plain LoRA: W first moves with step 6" for what in ("this training", "what is exported")]
    assert len(lines) == (2 if warned else 0)
    assert all(line.startswith(start) for line, start in zip(lines, expected, strict=False))
