"""Exported ranks of single layers: PEFT matches their names from the end, where one name may end as another."""

from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from delta_lora import DeltaLora


class Nested(PreTrainedModel):
    """``proj``, ``block.proj`` and ``block_proj`` (an unescaped dot would fit both)."""

    config_class = PretrainedConfig

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config)
        self.proj = nn.Linear(8, 8)
        self.block_proj = nn.Linear(8, 8)
        self.block = nn.ModuleDict({"proj": nn.Linear(8, 8), "last": nn.Linear(8, 8)})
        self.post_init()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block["last"](self.block["proj"](self.block_proj(self.proj(x))))


def nested() -> Nested:
    torch.manual_seed(0)
    return Nested(PretrainedConfig())


def test_a_layers_rank_is_its_own(tmp_path: Path) -> None:
    ranks = {"^proj$": 3, r"^block\.proj$": 2, "^block_proj$": 1}
    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", rank_pattern=ranks)
    model = get_peft_model(nested(), config)
    delta = DeltaLora(model, 2.0, 0)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-1)
    x = torch.randn(5, 8)
    for _ in range(4):
        model(x).square().sum().backward()
        optimizer.step()
        delta.step()
        optimizer.zero_grad()
    delta.export(tmp_path)
    loaded = PeftModel.from_pretrained(nested(), tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), model(x), rtol=1e-5, atol=1e-5)
    found = {
        name: module.r["default"] for name, module in loaded.get_base_model().named_modules() if hasattr(module, "r")
    }
    assert found == {"proj": 6, "block_proj": 2, "block.proj": 4, "block.last": 8}
