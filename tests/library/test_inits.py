"""DeltaLora on an adapter that starts by rewriting the base (PiSSA, OLoRA): what is exported, resumed and refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.models import llama_config
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from peft.utils import set_peft_model_state_dict
from torch import Tensor
from transformers import LlamaForCausalLM, Trainer, TrainingArguments

from delta_lora import DeltaLora, DeltaLoraCallback
from delta_lora.errors import UserError

K, STEPS = 3, 8
TOKENS = torch.randint(53, (3, 9), generator=torch.Generator().manual_seed(0))
INITS = ["pissa", "pissa_niter_4", "olora"]


def stock() -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(llama_config())


def adapted(init: Any, **options: Any) -> PeftModel:
    model = stock()
    torch.manual_seed(1)
    arguments = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "init_lora_weights": init, **options}
    return get_peft_model(model, LoraConfig(**arguments)).eval()


class Loop:
    """A hand-written training loop."""

    def __init__(self, model: PeftModel, **options: Any) -> None:
        self.model, self.delta = model, DeltaLora(model, 2.0, K, **options)
        self.optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)

    def run(self, steps: int) -> "Loop":
        for _ in range(steps):
            self.model(input_ids=TOKENS, labels=TOKENS).loss.backward()
            self.optimizer.step()
            self.delta.step()
            self.optimizer.zero_grad()
        return self


@torch.no_grad()
def logits(model: Any) -> Tensor:
    return model.eval()(input_ids=TOKENS).logits


@pytest.mark.parametrize("init", INITS)
def test_before_training_the_update_is_zero_to_the_last_bit(init: str) -> None:
    for _, b, a in DeltaLora(adapted(init), 2.0, K).effective_delta():
        assert not (b @ a).any()


@pytest.mark.parametrize("options", [{"anchor": "fold"}, {"anchor": "branch"}, {"literal": True}])
@pytest.mark.parametrize("init", INITS)
def test_the_export_fits_the_untouched_checkpoint(init: str, options: dict[str, Any], tmp_path: Path) -> None:
    loop = Loop(adapted(init), **options).run(STEPS)
    expected = logits(loop.model)
    loop.delta.export(tmp_path)
    loaded = PeftModel.from_pretrained(stock(), tmp_path)
    assert (expected - logits(stock())).abs().max() > 1e-2
    torch.testing.assert_close(logits(loaded), expected, rtol=0, atol=2e-5)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["r"] == 12 and config["init_lora_weights"] is True
    torch.testing.assert_close(logits(loop.delta.merge()), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("anchor", ["fold", "branch"])
@pytest.mark.parametrize("at", [2, K + 2])
def test_resuming_is_exact_also_where_the_adapter_was_loaded_first(at: int, anchor: Any) -> None:
    """A Trainer loads A and B before its callbacks begin, so that their start is only in the state."""
    whole = Loop(adapted("pissa"), anchor=anchor).run(STEPS)
    first = Loop(adapted("pissa"), anchor=anchor).run(at)
    model = adapted("pissa")
    set_peft_model_state_dict(model, get_peft_model_state_dict(first.model))
    second = Loop(model, anchor=anchor)
    with pytest.raises(UserError, match="left, so that W_0 is not known"):
        list(second.delta.effective_delta())
    second.delta.load_state_dict(first.delta.state_dict())
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    second.run(STEPS - at)
    ours, theirs = second.model.state_dict(), whole.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    for (_, b, a), (_, other_b, other_a) in zip(
        second.delta.effective_delta(), whole.delta.effective_delta(), strict=True
    ):
        assert torch.equal(b, other_b) and torch.equal(a, other_a)


def test_a_trainer_resumes_exactly(tmp_path: Path) -> None:
    def trained(resume: bool) -> Tensor:
        callback = DeltaLoraCallback(2.0, K)
        arguments = TrainingArguments(
            str(tmp_path), max_steps=STEPS, learning_rate=1e-2, save_steps=2, report_to=[], use_cpu=True,
            disable_tqdm=True, per_device_train_batch_size=1, seed=3,
        )  # fmt: skip
        data = [{"input_ids": row, "labels": row} for row in TOKENS]
        trainer = Trainer(adapted("pissa"), arguments, train_dataset=data, callbacks=[callback])
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2") if resume else None)
        callback.attach(trainer.model).export(tmp_path / "adapter")
        found = logits(trainer.model)
        loaded = PeftModel.from_pretrained(stock(), tmp_path / "adapter")
        torch.testing.assert_close(logits(loaded), found, rtol=0, atol=2e-5)
        return found

    assert torch.equal(trained(resume=False), trained(resume=True))


def test_a_state_of_another_start_is_refused() -> None:
    first = Loop(adapted("pissa_niter_1")).run(2)
    torch.manual_seed(5)
    other = get_peft_model(
        stock(), LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights="pissa_niter_1")
    )
    with pytest.raises(UserError, match=r"base weight of .* is not the one this state was made on"):
        DeltaLora(other, 2.0, K).load_state_dict(first.delta.state_dict())


def test_an_adapter_that_has_left_its_start_is_refused_before_the_first_step() -> None:
    model = adapted("pissa")
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    model(input_ids=TOKENS, labels=TOKENS).loss.backward()
    optimizer.step()
    with pytest.raises(UserError, match=r"rewrote the base at its start, which it has left.*make DeltaLora before"):
        Loop(model).run(1)


def test_starts_that_cannot_be_undone_are_refused_when_it_is_made() -> None:
    with pytest.raises(UserError, match="init_lora_weights='loftq' rewrites the base weights in a way"):
        quantizing = adapted(True)
        quantizing.peft_config["default"].init_lora_weights = "loftq"  # which itself needs a GPU
        DeltaLora(quantizing, 2.0, K)
    model = adapted(True)
    model.add_adapter("other", LoraConfig(target_modules=["q_proj"], init_lora_weights="pissa"))
    with pytest.raises(UserError, match="adapter 'other' has rewritten the base too"):
        DeltaLora(model, 2.0, K, adapter_name="default")
