"""Learned low-rank updates as a stock PEFT LoRA adapter over the original checkpoint."""

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from delta_lora.methods.base import TASK_TYPES, ModelSpec, Update
from delta_lora.models.gpt2 import PARTS, SplitProjection


@dataclass(frozen=True)
class Factors:
    """ΔW = scale · b a with a (r, in) and b (out, r); ``magnitude`` (out,) is DoRA's, where there is one."""

    a: Tensor
    b: Tensor
    scale: float
    magnitude: Tensor | None = None

    def update(self, weight: Tensor) -> Update:
        """W − W_0 over the weight W_0 (out, in): the two factors, or dense where there is a magnitude."""
        if self.magnitude is None:
            return self.b * self.scale, self.a
        directed = weight.detach().to(self.b) + self.scale * self.b @ self.a
        return (self.magnitude / directed.norm(dim=1))[:, None] * directed - weight.detach().to(self.b)


def write_adapter(directory: Path, model: PeftModel, factors: dict[str, Factors], spec: ModelSpec) -> None:
    """Write ``adapter_config.json`` and ``adapter_model.safetensors`` into ``directory``.

    ``PeftModel.from_pretrained(original_checkpoint, directory)`` then has the logits of ``model``. Updates of
    a split GPT-2 projection are joined into one of the fused ``c_attn`` (d → 3d): A = [A_q; A_v], B
    block-wise. Scales are multiplied into B, so that layers may differ in rank and scale. A trained head goes
    along.
    """
    plain = model.get_base_model()
    assert isinstance(plain, PreTrainedModel)
    fused = _fused(factors, plain)
    layers = fused or factors
    ranks = {name: f.a.shape[0] for name, f in layers.items()}
    rank = max(ranks.values())
    odd = {re.escape(name): r for name, r in ranks.items() if r != rank}  # PEFT reads the names as patterns
    config = LoraConfig(
        task_type=TASK_TYPES[spec.kind],
        target_modules=["c_attn"] if fused else list(spec.target_modules),
        modules_to_save=list(spec.head_modules) or None,
        fan_in_fan_out=bool(fused),
        r=rank,
        lora_alpha=rank,
        rank_pattern=odd,
        alpha_pattern=dict(odd),
        lora_dropout=0.0,
        use_dora=any(f.magnitude is not None for f in layers.values()),
        inference_mode=True,
        base_model_name_or_path=plain.config.name_or_path,
    )
    tensors = {
        # The head's entries; PEFT has already given them the names it loads.
        name: tensor
        for name, tensor in get_peft_model_state_dict(model, save_embedding_layers=False).items()
        if ".lora_" not in name
    }
    for name, f in layers.items():
        prefix = f"base_model.model.{name}."
        tensors[prefix + "lora_A.weight"] = f.a
        tensors[prefix + "lora_B.weight"] = f.b * f.scale
        if f.magnitude is not None:
            tensors[prefix + "lora_magnitude_vector"] = f.magnitude
    directory.mkdir(parents=True, exist_ok=True)
    save_file(
        {n: t.detach().cpu().contiguous() for n, t in tensors.items()},
        directory / "adapter_model.safetensors",
    )
    config.save_pretrained(str(directory))


def _fused(factors: dict[str, Factors], plain: nn.Module) -> dict[str, Factors]:
    """The updates of split projections joined by their fused layer; empty if nothing was split."""
    groups: dict[str, dict[str, Factors]] = {}
    for name, f in factors.items():
        parent, _, part = name.rpartition(".")
        if isinstance(plain.get_submodule(parent), SplitProjection):
            groups.setdefault(parent, {})[part] = f
    return {parent: _join(plain.get_submodule(parent), parts) for parent, parts in groups.items()}


def _join(split: nn.Module, parts: dict[str, Factors]) -> Factors:
    """One update of the fused (3d, d) weight from those of some of its three (d, d) parts."""
    a = torch.cat([f.a for f in parts.values()])
    first = next(iter(parts.values()))
    size = first.b.shape[0]
    b = first.b.new_zeros(len(PARTS) * size, a.shape[0])
    row = 0
    for part, f in parts.items():
        at, rank = PARTS.index(part) * size, f.a.shape[0]
        b[at : at + size, row : row + rank] = f.b * f.scale
        row += rank
    if first.magnitude is None:
        return Factors(a, b, 1.0)
    # DoRA rescales every row to its magnitude; a row that was not adapted has that of its weight.
    magnitudes = [
        parts[part].magnitude if part in parts else split.get_submodule(part).get_parameter("weight").norm(dim=1)
        for part in PARTS
    ]
    return Factors(a, b, 1.0, torch.cat([m for m in magnitudes if m is not None]))
