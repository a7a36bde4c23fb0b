"""Configuration containers in a PEFT configuration, and an export that is whole or not there."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.models import llama_config
from omegaconf import OmegaConf
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from delta_lora import DeltaLora, export
from delta_lora.errors import RunError, UserError

FILES = {"adapter_model.safetensors", "adapter_config.json"}


def model_with(**options: Any) -> PeftModel:
    torch.manual_seed(0)
    options = {"target_modules": ["q_proj", "v_proj"], "r": 2, "lora_alpha": 8, **options}
    return get_peft_model(LlamaForCausalLM(llama_config()), LoraConfig(**options))


def trained(model: PeftModel, steps: int = 4) -> DeltaLora:
    delta = DeltaLora(model, 2.0, 1)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    tokens = torch.arange(10)[None]
    for _ in range(steps):
        model(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()
        delta.step()
        optimizer.zero_grad()
    return delta


def test_a_configuration_librarys_containers_reach_checkpoint_and_export(tmp_path: Path) -> None:
    given = OmegaConf.create({"rank_pattern": {"q_proj": 1}, "layers_to_transform": [0]})
    model = model_with(rank_pattern=given.rank_pattern, layers_to_transform=given.layers_to_transform)
    delta = trained(model)
    model.save_pretrained(tmp_path / "checkpoint")
    delta.export(tmp_path / "adapter")
    tokens = torch.arange(10)[None]
    torch.manual_seed(0)
    loaded = PeftModel.from_pretrained(LlamaForCausalLM(llama_config()), tmp_path / "adapter")
    with torch.no_grad():
        torch.testing.assert_close(loaded(tokens).logits, model(tokens).logits, rtol=0, atol=1e-5)


def test_what_no_checkpoint_could_hold_is_refused_before_training() -> None:
    with pytest.raises(UserError, match=r"the adapter's rank_pattern=.*cannot be written as JSON"):
        DeltaLora(model_with(rank_pattern={"q_proj": torch.tensor(1)}), 2.0, 1)


def test_an_adapter_that_peft_does_not_load_is_not_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ranks of an earlier version's patterns, which fitted other layers too; the older export stays whole."""
    delta = trained(model_with(rank_pattern={"q_proj": 1}))
    with monkeypatch.context() as patch:
        patch.setattr(export.re, "escape", lambda name: "none")
        with pytest.raises(RunError, match=r"stock PEFT loads .* otherwise \(.*q_proj.lora_A"):
            delta.export(tmp_path / "new")
        assert not (tmp_path / "new").exists()
    delta.export(tmp_path / "old")
    before = load_file(tmp_path / "old" / "adapter_model.safetensors")
    trained_on = delta.model.get_submodule("base_model.model.model.layers.0.self_attn.q_proj.lora_B.default")
    torch.nn.init.ones_(trained_on.get_parameter("weight"))
    with monkeypatch.context() as patch:
        patch.setattr(export.re, "escape", lambda name: "none")
        with pytest.raises(RunError):
            delta.export(tmp_path / "old")
    after = load_file(tmp_path / "old" / "adapter_model.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert {path.name for path in (tmp_path / "old").iterdir()} == FILES


def test_files_that_changed_on_their_way_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(tensors: dict[str, torch.Tensor], path: Path, **options: Any) -> None:
        first = next(name for name in tensors if "lora_B" in name)
        save_file({**tensors, first: tensors[first] + 1}, path, **options)

    delta = trained(model_with())
    monkeypatch.setattr(export, "save_file", damaged)
    with pytest.raises(RunError, match=r"file has another .*lora_B"):
        delta.export(tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()


def test_a_model_that_cannot_be_copied_is_exported_all_the_same(tmp_path: Path) -> None:
    model = model_with()
    delta = trained(model)
    model.get_base_model().stream = (n for n in range(3))  # a generator cannot be copied
    with pytest.warns(UserWarning, match="was not read back, since the model cannot be copied"):
        delta.export(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == FILES


def test_transformers_own_integration_is_named() -> None:
    model = AutoModelForCausalLM.from_config(llama_config())
    model.add_adapter(LoraConfig(r=2, target_modules=["q_proj"]))
    with pytest.raises(UserError, match=r"Transformers' own integration.*PeftModel.from_pretrained"):
        DeltaLora(model, 2.0, 1)
