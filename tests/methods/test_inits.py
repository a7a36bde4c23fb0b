"""Methods whose adapter starts by rewriting the base (PiSSA, OLoRA), also as somebody's own subclasses."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.method_models import SPECS, factors_of, logits, model_for, stock_model, trainer_for
from peft import LoftQConfig, LoraConfig, PeftModel
from torch import nn
from transformers import PreTrainedModel

from delta_lora.errors import UserError
from delta_lora.methods.base import Method, ModelSpec, Schedule
from delta_lora.methods.delta_lora import DeltaLoraMethod
from delta_lora.methods.dylora import DyLora
from delta_lora.methods.lora import Lora
from delta_lora.methods.peft_method import PeftMethod
from delta_lora.suite.run.similarity import measure

STEPS = 9


@dataclass(kw_only=True, eq=False)
class Pissa(Lora):
    """As one would write it who never read our checks."""

    start: Any = "pissa"

    def adapter_config(self) -> LoraConfig:
        config = super().adapter_config()
        config.init_lora_weights = self.start
        return config


@dataclass(kw_only=True, eq=False)
class PissaDeltaLora(DeltaLoraMethod):
    """PiSSA's start, and from step K on Delta-LoRA's movement of W."""

    start: Any = "pissa"

    def adapter_config(self) -> LoraConfig:
        config = super().adapter_config()
        config.init_lora_weights = self.start
        return config


@dataclass(kw_only=True, eq=False)
class PissaDyLora(DyLora):
    def adapter_config(self) -> LoraConfig:
        config = super().adapter_config()
        config.init_lora_weights = "pissa"
        return config


RANKED: dict[str, Any] = {"learning_rate": 1e-2, "rank": 4, "alpha": 8.0, "dropout": 0.0}
METHODS: dict[str, Callable[[], PeftMethod]] = {
    "lora, pissa": lambda: Lora(name="lora", peft={"init_lora_weights": "pissa"}, **RANKED),
    "lora, pissa_niter_4": lambda: Pissa(name="niter", start="pissa_niter_4", **RANKED),
    "lora, olora": lambda: Lora(name="olora", peft={"init_lora_weights": "olora"}, **RANKED),
    "lora, orthogonal": lambda: Lora(name="orthogonal", peft={"init_lora_weights": "orthogonal"}, **RANKED),
    "subclass of lora": lambda: Pissa(name="pissa", **RANKED),
    "ranks and scales": lambda: Lora(
        name="pissa",
        peft={"init_lora_weights": "pissa", "rank_pattern": {"(v_proj|value)": 2}, "alpha_pattern": {"q_proj": 3}},
        **RANKED,
    ),
    "rslora, pissa": lambda: Pissa(name="pissa", peft={"use_rslora": True}, **RANKED),
    "dora, pissa": lambda: Pissa(name="pissa", peft={"use_dora": True}, **RANKED),
    "delta-lora, pissa": lambda: PissaDeltaLora(name="pissa-delta", update_ratio=2, start_steps=3, **RANKED),
    "delta-lora, olora": lambda: PissaDeltaLora(
        name="olora-delta", start="olora", update_ratio=2, start_steps=3, **RANKED
    ),
    "literal, pissa": lambda: PissaDeltaLora(name="pissa-delta", update_ratio=2, start_steps=3, literal=True, **RANKED),
    "dylora, pissa": lambda: PissaDyLora(name="pissa-dylora", **RANKED),
}


@pytest.mark.parametrize("name", METHODS)
def test_an_untrained_model_has_not_moved(name: str) -> None:
    method = METHODS[name]()
    method.validate(32, 100)
    model = method.prepare(model_for("gpt2"), SPECS["gpt2"], Schedule(100, 0))
    torch.testing.assert_close(logits(model), logits(stock_model("gpt2")), atol=1e-5, rtol=1e-4)
    for found in measure(method, model_for("gpt2")).values():
        assert found["cosine"] == pytest.approx(1, abs=1e-6)
        assert found["update_norm"] == pytest.approx(0, abs=1e-5)
        assert found["rank"] == 0 or name.startswith("dora")  # dense, so that rounding has a rank


@pytest.mark.parametrize("family", ["gpt2", "roberta", "bart"])
@pytest.mark.parametrize("name", METHODS)
def test_a_trained_one_exports_over_the_untouched_checkpoint(name: str, family: str, tmp_path: Path) -> None:
    method = METHODS[name]()
    method.validate(32, STEPS)
    trainer_for(method, family, tmp_path, STEPS).train()
    trained = logits(method.model, family)
    assert (trained - logits(stock_model(family), family)).abs().max() > 0.1
    measured = measure(method, model_for(family))
    limit = method.rank_limit() or 32
    assert all(0 < found["rank"] <= limit for found in measured.values())
    method.export(tmp_path / "adapter")
    stock = PeftModel.from_pretrained(stock_model(family), str(tmp_path / "adapter"))
    torch.testing.assert_close(logits(stock, family), trained, atol=5e-5, rtol=1e-4)
    merged = method.merge()
    torch.testing.assert_close(logits(merged, family), trained, atol=1e-4, rtol=1e-4)
    assert merged.state_dict().keys() == stock_model(family).state_dict().keys(), "the stock model"


@pytest.mark.parametrize("stop", [3, 6])
@pytest.mark.parametrize("name", ["subclass of lora", "lora, pissa_niter_4", "delta-lora, pissa", "literal, pissa"])
def test_a_resumed_run_ends_bitwise_as_an_undisturbed_one(name: str, stop: int, tmp_path: Path) -> None:
    method = METHODS[name]()
    trainer_for(method, "gpt2", tmp_path, STEPS, save_strategy="steps", save_steps=3).train()
    whole, output = factors_of(method.model), logits(method.model)
    resumed = METHODS[name]()
    trainer = trainer_for(resumed, "gpt2", tmp_path, STEPS)
    trainer.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{stop}"))
    assert all(torch.equal(whole[key], value) for key, value in factors_of(resumed.model).items())
    assert torch.equal(output, logits(resumed.model))
    for (_, theirs), (_, ours) in zip(
        method.updates(model_for("gpt2")), resumed.updates(model_for("gpt2")), strict=True
    ):
        assert all(torch.equal(one, other) for one, other in zip(theirs, ours, strict=True))


@pytest.mark.parametrize("name", METHODS)
def test_a_chain_of_tasks_starts_where_the_last_ended_and_exports(name: str, tmp_path: Path) -> None:
    """Two hops. The start of the second adapter is drawn anew, and must not matter."""
    chain = [METHODS[name]() for _ in range(3)]
    trainer_for(chain[0], "roberta", tmp_path / "0", STEPS).train()
    for hop in (1, 2):
        ended = hidden(chain[hop - 1].model)
        chain[hop - 1].save_start(tmp_path / f"{hop}" / "start.safetensors")
        torch.manual_seed(100 + hop)
        trainer = trainer_for(chain[hop], "roberta", tmp_path / f"{hop}", STEPS)
        chain[hop].load_start(tmp_path / f"{hop}" / "start.safetensors")
        torch.testing.assert_close(hidden(chain[hop].model), ended, atol=2e-5, rtol=1e-4)
        trainer.train()
    trained = logits(chain[2].model, "roberta")
    chain[2].export(tmp_path / "adapter")
    stock = PeftModel.from_pretrained(stock_model("roberta"), str(tmp_path / "adapter"))
    torch.testing.assert_close(logits(stock, "roberta"), trained, atol=1e-4, rtol=1e-3)


def hidden(model: Any) -> torch.Tensor:
    """The last hidden states of a (wrapped) RoBERTa: what a new head would see."""
    model.eval()
    with torch.no_grad():
        return model(input_ids=torch.arange(4, 16)[None], output_hidden_states=True).hidden_states[-1]


def test_the_same_start_moves_no_bit_of_the_base(tmp_path: Path) -> None:
    first, second = METHODS["subclass of lora"](), METHODS["subclass of lora"]()
    first.prepare(model_for("roberta"), SPECS["roberta"], Schedule(STEPS, 0))
    first.save_start(tmp_path / "start.safetensors")
    model = second.prepare(model_for("roberta"), SPECS["roberta"], Schedule(STEPS, 0))
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    second.load_start(tmp_path / "start.safetensors")
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())


@pytest.mark.parametrize("start", ["eva", "corda", "loftq", "lora_ga", "mica", "pissa_niter_", "PiSSA", None, 1.5])
@pytest.mark.parametrize("method", [Pissa, PissaDeltaLora])
def test_a_start_after_which_the_checkpoint_is_unknown_is_refused_before_anything_is_loaded(
    method: type[Any], start: Any
) -> None:
    extra = {"update_ratio": 2, "start_steps": 3} if method is PissaDeltaLora else {}
    with pytest.raises(UserError) as caught:
        method(name="own", start=start, **RANKED, **extra).validate(32, 100)
    message = str(caught.value)
    allowed = "true, false, gaussian, orthogonal, pissa, pissa_niter_N, olora"
    assert f"init_lora_weights must be one of {allowed}, got {start!r}" in message
    assert "\n" not in message


def test_an_odd_rank_is_refused_where_the_start_needs_even_ones() -> None:
    method = Lora(**{**RANKED, "rank": 3}, name="own", peft={"init_lora_weights": "orthogonal"})
    with pytest.raises(UserError, match="needs even ranks, got 3"):
        method.validate(32, 100)


OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"init_lora_weights": "loftq", "loftq_config": LoftQConfig()}, "init_lora_weights must be one of"),
    ({"lora_bias": True}, "lora_bias=True, which the exported LoRA adapter cannot hold"),
    ({"alora_invocation_tokens": [1]}, "ALoraLinearVariant, which the exported LoRA adapter cannot hold"),
]


@pytest.mark.parametrize(("options", "message"), OPTIONS)
def test_a_subclass_that_attaches_for_itself_is_refused_before_training(options: dict[str, Any], message: str) -> None:
    class Own(Lora):
        def prepare(self, model: PreTrainedModel, spec: ModelSpec, schedule: Schedule) -> nn.Module:
            return self.attach(model, spec, LoraConfig(r=4, task_type="CAUSAL_LM", **options))

    method: Method = Own(name="own", **RANKED)
    with pytest.raises(UserError, match=message):
        method.prepare(model_for("gpt2"), SPECS["gpt2"], Schedule(10, 0))
