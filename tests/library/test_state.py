"""The state of a run: exact resuming in one's own loop, restoring W_0, and every wrong input."""

import gc
import io
import math
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import GradientState
from helpers.models import gpt2_config, gpt2_medium_config
from peft import AdaLoraConfig, LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from peft.utils import set_peft_model_state_dict
from torch import Tensor, nn
from transformers import GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from delta_lora import DeltaLora, state
from delta_lora.errors import UserError
from delta_lora.models.gpt2 import split_attention

K = 3
TOKENS = torch.randint(53, (3, 9), generator=torch.Generator().manual_seed(0))
FUSED = {"target_modules": ["c_attn"], "fan_in_fan_out": True}


def gpt2(dtype: torch.dtype = torch.float32, seed: int = 0, layers: int = 2, **options: Any) -> PeftModel:
    torch.manual_seed(seed)
    config = gpt2_config(n_layer=layers, n_positions=16)
    model = GPT2LMHeadModel(config).to(dtype)
    options = options or {"target_modules": ["q_proj", "v_proj"]}
    if "c_attn" not in options["target_modules"]:
        split_attention(model)
    return get_peft_model(model, LoraConfig(r=4, lora_alpha=32, **options))


class Loop:
    """A hand-written training loop whose state can be carried over to another one."""

    def __init__(self, model: PeftModel, **options: Any) -> None:
        self.model = model.eval()  # no dropout
        self.delta = DeltaLora(model, **{"update_ratio": 2.0, "start_steps": K, **options})
        trainable = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trainable, lr=1e-2, weight_decay=0.1)

    def run(self, steps: int) -> "Loop":
        for _ in range(steps):
            self.model(input_ids=TOKENS, labels=TOKENS).loss.backward()
            self.optimizer.step()
            self.delta.step()
            self.optimizer.zero_grad()
        return self

    def weights(self) -> dict[str, Tensor]:
        return {name: tensor.clone() for name, tensor in self.model.state_dict().items()}


def same_bits(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("anchor", ["fold", "branch"])
@pytest.mark.parametrize("at", [1, K, K + 1, K + 2, K + 5])
def test_resuming_on_a_fresh_base_is_exact(at: int, anchor: Any) -> None:
    expected = Loop(gpt2(), anchor=anchor).run(12).weights()
    first = Loop(gpt2(), anchor=anchor).run(at)
    file = io.BytesIO()
    torch.save((first.delta.state_dict(), get_peft_model_state_dict(first.model)), file)
    file.seek(0)
    saved, factors = torch.load(file, weights_only=True)

    second = Loop(gpt2(), anchor=anchor)
    second.delta.load_state_dict(saved)
    set_peft_model_state_dict(second.model, factors)
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    assert second.delta.steps == at and second.delta.anchored == (at > K)
    assert same_bits(second.run(12 - at).weights(), expected)


@pytest.mark.parametrize("literal", [False, True])
@pytest.mark.parametrize("at", [2, K + 3])
def test_resuming_from_a_dense_checkpoint_does_not_move_the_base_twice(at: int, literal: bool) -> None:
    expected = Loop(gpt2(), literal=literal).run(12).weights()
    first = Loop(gpt2(), literal=literal).run(at)
    second = Loop(gpt2(), literal=literal)
    second.model.load_state_dict(first.model.state_dict())  # moved W and all
    second.delta.load_state_dict(first.delta.state_dict())
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    assert same_bits(second.run(12 - at).weights(), expected)
    # The second run's own state fits the untouched base again.
    third = Loop(gpt2(), literal=literal)
    set_peft_model_state_dict(third.model, get_peft_model_state_dict(second.model))
    third.delta.load_state_dict(second.delta.state_dict())
    assert same_bits(third.weights(), expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("options", [{}, FUSED])
def test_restore_gives_back_every_bit_of_the_base(dtype: torch.dtype, options: dict[str, Any]) -> None:
    model = gpt2(dtype, **options)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("base_layer.weight"):  # what rounding treats worst
                weight[0], weight[1], weight[2] = 0.0, -0.0, weight[2] * 1e-6
    before = {name: p.clone() for name, p in model.named_parameters() if "lora_" not in name}
    loop = Loop(model, anchor="fold").run(12)
    after = dict(model.named_parameters())
    assert not any(torch.equal(before[name], after[name]) for name in before if "base_layer.weight" in name)
    loop.delta.restore()
    assert not loop.delta.anchored and loop.delta.steps == 0
    bits = {name: p.detach().view(torch.uint8) for name, p in model.named_parameters() if "lora_" not in name}
    assert all(torch.equal(bits[name], before[name].view(torch.uint8)) for name in before)
    assert not any(p._backward_hooks for p in model.parameters())
    scales = {module.scaling["default"] for module in model.modules() if hasattr(module, "lora_alpha")}
    assert scales == {8.0}
    # And training can begin again, as if for the first time.
    assert Loop(model).run(2 * K).delta.anchored


def test_a_literal_run_restores_to_rounding() -> None:
    loop = Loop(gpt2(), literal=True)
    before = loop.weights()
    loop.run(12).delta.restore()
    for name, tensor in loop.weights().items():
        if "base_layer" in name:
            torch.testing.assert_close(tensor, before[name], rtol=0, atol=1e-6)


def test_the_state_is_small_at_gpt2_medium_size(tmp_path: Path) -> None:
    """Anchors of 48 layers with r = 4: 393,216 numbers, 1.5 MB in float32 (the weights are 201 MB)."""
    torch.manual_seed(0)
    config = gpt2_medium_config(vocab_size=8, n_positions=8)
    model = get_peft_model(
        split_attention(GPT2LMHeadModel(config)), LoraConfig(r=4, lora_alpha=32, target_modules=["q_proj", "v_proj"])
    )
    delta = DeltaLora(model, 2.0, 0)
    tokens = torch.tensor([[1, 2]])
    model(input_ids=tokens, labels=tokens).loss.backward()
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1).step()
    delta.step()
    state.write(delta.state_dict(), tmp_path / "state.safetensors")
    assert 393_216 * 4 < (tmp_path / "state.safetensors").stat().st_size < 393_216 * 4 + 20_000
    # What a bit-exact restore() remembers stays far below a dense copy.
    lost = sum(index.numel() for form in delta._forms for index, _ in form.lost)
    assert lost < 0.1 * 50_331_648


def test_the_state_file_holds_exactly_the_state(tmp_path: Path) -> None:
    for literal in (False, True):
        for steps in (1, 6):
            saved = Loop(gpt2(), literal=literal).run(steps).delta.state_dict()
            state.write(saved, tmp_path / "file")
            loaded = state.read(tmp_path / "file")
            assert state.digest(loaded) == state.digest(saved)
            Loop(gpt2(), literal=literal).delta.load_state_dict(loaded)
    with pytest.raises(UserError, match="is no folder"):
        state.write(saved, tmp_path / "nowhere" / "file")


def test_states_that_do_not_fit_are_refused() -> None:
    saved = Loop(gpt2()).run(6).delta.state_dict()
    cases: list[tuple[PeftModel, dict[str, Any], str]] = [
        (gpt2(layers=3), {}, r"another model: transformer\.h\.2.*no adapter in the state"),
        (gpt2(target_modules=["q_proj"]), {}, r"another model: .*v_proj.*no adapter here"),
        (gpt2(target_modules=["q_proj", "v_proj"], rank_pattern={"q_proj": 2}), {}, "another model"),
        (gpt2(target_modules=["q_proj", "v_proj"], use_rslora=True), {}, "another model"),
        (gpt2(seed=9), {}, "base weight of .* is not the one this state was made on"),
        (gpt2(torch.bfloat16), {}, "base weight of .* is not the one this state was made on"),
        (gpt2(), {"update_ratio": 3.0}, r"made with update_ratio=2.0, this DeltaLora has 3.0"),
        (gpt2(), {"start_steps": 9}, "made with start_steps=3, this DeltaLora has 9"),
        (gpt2(), {"literal": True}, "made with literal=False"),
    ]
    for model, options, message in cases:
        loop = Loop(model, **options)
        before = loop.weights()
        with pytest.raises(UserError, match=message):
            loop.delta.load_state_dict(saved)
        assert same_bits(loop.weights(), before)  # nothing is half loaded
    with pytest.raises(UserError, match=r"no state of DeltaLora"):
        Loop(gpt2()).delta.load_state_dict({"epoch": 3})


def llama() -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            vocab_size=53,
            tie_word_embeddings=False,
            bos_token_id=0,
            eos_token_id=1,
        )
    )


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"lora_dropout": 0.1}, r"LoRA dropout is 0\.1 .*set lora_dropout=0 \(as the paper does\) or literal=True"),
    ({"use_dora": True}, "DoraLinearVariant"),
    ({"lora_bias": True, "target_modules": ["c_fc"]}, "lora_bias=True adds a bias"),
    ({"target_modules": ["embed_tokens"]}, "it is an embedding"),
    ({"target_modules": ["q_proj", "embed_tokens"]}, "it is an embedding"),
    ({"target_parameters": ["self_attn.q_proj.weight"], "target_modules": []}, "ParamWrapper"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_layers_and_options_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    options = {"target_modules": ["q_proj"], "r": 2, **options}
    model = gpt2(**{k: v for k, v in options.items() if k != "r"}) if "lora_bias" in options else None
    with pytest.raises(UserError, match=message):
        DeltaLora(model or get_peft_model(llama(), LoraConfig(**options)), 2.0, K)


def test_convolutions_are_refused() -> None:
    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x)

    with pytest.raises(UserError, match="a Conv2d layer's update is no plain matrix product"):
        DeltaLora(get_peft_model(Small(), LoraConfig(target_modules=["conv"])), 2.0, K)


def test_dropout_is_allowed_where_it_does_no_harm() -> None:
    options = LoraConfig(target_modules=["q_proj"], lora_dropout=0.1)
    DeltaLora(get_peft_model(llama(), options), 2.0, K, literal=True)
    DeltaLora(get_peft_model(llama(), options), 0.0, K)


def test_models_without_a_lora_adapter_are_refused() -> None:
    with pytest.raises(UserError, match="needs a PEFT model with LoRA layers, got LlamaForCausalLM"):
        DeltaLora(llama(), 2.0, K)
    model = get_peft_model(llama(), LoraConfig(target_modules=["q_proj"]))
    with pytest.raises(UserError, match="unknown adapter 'mine'; the model has 'default'"):
        DeltaLora(model, 2.0, K, adapter_name="mine")
    adaptive = get_peft_model(llama(), AdaLoraConfig(target_modules=["q_proj"], total_step=10))
    with pytest.raises(UserError, match="is a ADALORA adapter"):
        DeltaLora(adaptive, 2.0, K)
    with pytest.raises(UserError, match="requires_grad=True"):
        thawed = get_peft_model(llama(), LoraConfig(target_modules=["q_proj"]))
        DeltaLora(thawed.requires_grad_(True), 2.0, K)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"update_ratio": -1}, "update_ratio must be a finite number ≥ 0, got -1"),
        ({"update_ratio": math.nan}, "got nan"),
        ({"update_ratio": math.inf}, "got inf"),
        ({"update_ratio": True}, "got True"),
        ({"update_ratio": "2"}, "got '2'"),
        ({"start_steps": -1}, "start_steps must be an integer ≥ 0, got -1"),
        ({"start_steps": 1.5}, "got 1.5"),
        ({"anchor": "both"}, "anchor must be 'fold', 'branch' or 'auto', got 'both'"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        DeltaLora(gpt2(), **{"update_ratio": 2.0, "start_steps": K, **arguments})


def test_step_needs_a_backward_pass_first() -> None:
    loop = Loop(gpt2())
    with pytest.raises(UserError, match="before any backward pass reached adapter 'default'"):
        loop.delta.step()
    loop.run(1)
    loop.model(input_ids=TOKENS, labels=TOKENS).loss.backward()
    loop.optimizer.step()
    loop.optimizer.zero_grad()
    loop.delta.step()  # the order of zero_grad and step does not matter
    assert loop.delta.steps == 2


@pytest.mark.parametrize("fused", [False, True])
def test_a_step_that_a_gradscaler_skipped_is_no_step(fused: bool) -> None:
    """In one's own loop, with nothing said to DeltaLora: a skipped step must not bring the anchor nearer."""
    model = gpt2()
    delta = DeltaLora(model, 2.0, K)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2, fused=fused)
    scaler = torch.amp.GradScaler("cpu")
    for call in range(1, 10):
        overflow = call in (1, 4)
        loss = scaler.scale(model(input_ids=TOKENS, labels=TOKENS).loss)
        (loss * (math.inf if overflow else 1.0)).backward()
        scaler.step(optimizer)
        scaler.update()
        delta.step()
        optimizer.zero_grad()
        assert delta.steps == call - sum(call >= skipped for skipped in (1, 4))
        assert delta.anchored == (delta.steps > K)


@pytest.mark.parametrize("start_steps", [0, K])
def test_accumulating_with_accelerate_counts_the_optimizers_steps(start_steps: int) -> None:
    """Its usual loop calls everything on every micro-batch, and does nothing while it accumulates."""
    GradientState._reset_state()  # one for the whole process, and a Trainer may have set it
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=4)
    model = gpt2()
    delta = DeltaLora(model, 2.0, start_steps)
    trainable = [p for p in model.parameters() if p.requires_grad]
    wrapped, optimizer = accelerator.prepare(model, torch.optim.AdamW(trainable, lr=1e-2))
    for call in range(1, 25):
        with accelerator.accumulate(wrapped):
            accelerator.backward(wrapped(input_ids=TOKENS, labels=TOKENS).loss)
            optimizer.step()
            delta.step()
            optimizer.zero_grad()
        assert delta.steps == call // 4 and delta.anchored == (delta.steps > start_steps)


def test_a_step_at_learning_rate_zero_is_a_step() -> None:
    loop = Loop(gpt2())
    loop.optimizer.param_groups[0]["lr"] = 0.0  # the first step of a warm-up
    assert loop.run(2).delta.steps == 2


def test_an_optimizer_outside_torch_counts_too() -> None:
    model = gpt2()
    delta = DeltaLora(model, 2.0, K)
    for _ in range(5):
        model(input_ids=TOKENS, labels=TOKENS).loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter -= 0.1 * parameter.grad
                    parameter.grad = None
        delta.step()
    assert delta.steps == 5


def test_calls_without_an_optimizer_step_are_warned_of() -> None:
    loop = Loop(gpt2()).run(1)
    with pytest.warns(UserWarning, match="ignored 100 calls in a row"):
        for _ in range(100):
            loop.delta.step()
    assert loop.delta.steps == 1


def test_watching_the_optimizer_does_not_keep_the_model_alive() -> None:
    loop = Loop(gpt2()).run(K + 2)
    watched = weakref.ref(loop.model)
    del loop
    gc.collect()
    assert watched() is None


@pytest.mark.parametrize("options", [{"anchor": "fold"}, {"anchor": "branch"}, {"literal": True}])
def test_a_second_delta_lora_on_a_moved_model_is_refused(options: dict[str, Any]) -> None:
    loop = Loop(gpt2(), **options).run(K + 2)
    with pytest.raises(UserError, match=r"already carries the anchor of another DeltaLora.*restore\(\)"):
        DeltaLora(loop.model, 2.0, K)


def test_sharded_factors_are_refused() -> None:
    model = get_peft_model(llama(), LoraConfig(target_modules=["q_proj"]))
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = torch.empty(0)  # what ZeRO-3 leaves of a parameter between its uses
    with pytest.raises(UserError, match=r"are sharded \(FSDP, ZeRO-3\)"):
        DeltaLora(model, 2.0, K)


def test_detach_removes_every_hook_and_keeps_what_was_learned() -> None:
    loop = Loop(gpt2()).run(K + 2)
    before = loop.model(input_ids=TOKENS).logits
    loop.delta.detach()
    assert torch.equal(loop.model(input_ids=TOKENS).logits, before)
    assert not any(p._backward_hooks for p in loop.model.parameters())
    with pytest.raises(UserError, match=r"after detach\(\) or merge\(\)"):
        loop.delta.step()


def test_repr_says_where_the_run_stands() -> None:
    loop = Loop(gpt2())
    assert repr(loop.delta) == (
        "DeltaLora(update_ratio=2, start_steps=3, steps=0, adapter='default', layers=4, not anchored)"
    )
    assert "steps=5" in repr(loop.run(5).delta) and "anchored (fold)" in repr(loop.delta)


def test_importing_the_package_does_not_import_torch() -> None:
    import subprocess
    import sys

    code = (
        "import sys, delta_lora; assert 'torch' not in sys.modules; delta_lora.DeltaLora; assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    code = (
        "import sys, delta_lora; delta_lora.DeltaLora, delta_lora.DeltaLoraCallback; assert not [m for m in sys.modules"
    )
    parts = "('suite', 'methods', 'tasks', 'metrics', 'tiny')"
    subprocess.run(
        [sys.executable, "-c", f"{code} if m.startswith('delta_lora.') and m.split('.')[1] in {parts}]"], check=True
    )
