"""What Delta-LoRA learned, as a stock PEFT adapter or as a plain Transformers model."""

import re
from collections import Counter
from collections.abc import Iterable
from copy import deepcopy
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel

from delta_lora.errors import UserError
from delta_lora.models.gpt2 import PARTS, SplitProjection, fuse_attention

PREFIX = "base_model.model."  # of every key in a PEFT adapter file
# These compute W_0 anew from the checkpoint's weight, so an adapter on top of theirs fits no untouched
# checkpoint.
REWRITING_INITS = ("pissa", "corda", "olora", "loftq", "lora_ga", "mica")


def write_adapter(
    model: PeftModel, adapter: str, deltas: Iterable[tuple[str, Tensor, Tensor]], directory: Path
) -> None:
    """Write low-rank updates ΔW = b @ a as a PEFT adapter whose scaling is 1.

    Modules that the adapter trains whole (``modules_to_save``, biases) go along.

    Args:
        model: the trained model.
        adapter: the adapter's name in it.
        deltas: ``(name, b, a)`` of each layer, b (d, R), a (R, c).
        directory: made where missing.

    Raises:
        UserError: the adapter's initialisation had rewritten the base.
    """
    config = model.peft_config[adapter]
    assert isinstance(config, LoraConfig)
    init = config.init_lora_weights
    if isinstance(init, str) and init.startswith(REWRITING_INITS):
        raise UserError(
            f"cannot export: init_lora_weights={init!r} rewrote the base weights, so no adapter fits the"
            " original;"
            " use merge(), or start with init_lora_weights=True"
        )
    updates = _fused(model, {name: (b, a) for name, b, a in deltas})
    tensors = {
        name if name.startswith(PREFIX) else PREFIX + name: tensor
        for name, tensor in get_peft_model_state_dict(model, adapter_name=adapter, save_embedding_layers=False).items()
        if ".lora_A." not in name and ".lora_B." not in name
    }
    for name, (b, a) in updates.items():
        tensors[f"{PREFIX}{name}.lora_A.weight"] = a
        tensors[f"{PREFIX}{name}.lora_B.weight"] = b
    directory.mkdir(parents=True, exist_ok=True)
    # A clone each: safetensors refuses tensors that share memory, such as a head tied to its embedding.
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    save_file(plain, directory / "adapter_model.safetensors", metadata={"format": "pt"})
    _config(model, config, updates).save_pretrained(str(directory))


def merge(model: PeftModel, adapter: str) -> PreTrainedModel:
    """Merge ``adapter`` into the weights, remove PEFT's wrappers, fuse a split GPT-2; in place."""
    merged: PreTrainedModel = model.merge_and_unload(adapter_names=[adapter])
    return fuse_attention(merged)


def _config(model: PeftModel, trained: LoraConfig, updates: dict[str, tuple[Tensor, Tensor]]) -> LoraConfig:
    """The trained adapter's configuration with the updates' ranks, and scaling 1 (alpha = rank)."""
    ranks = {name: a.shape[0] for name, (_, a) in updates.items()}
    rank = Counter(ranks.values()).most_common(1)[0][0]
    odd = {re.escape(name): other for name, other in ranks.items() if other != rank}
    config = deepcopy(trained)
    config.r = config.lora_alpha = rank
    config.rank_pattern, config.alpha_pattern = odd, dict(odd)
    config.use_rslora = False
    config.lora_dropout = 0.0
    config.init_lora_weights = True
    config.inference_mode = True
    if any(isinstance(module, SplitProjection) for module in model.modules()):
        # Names of the split parts mean nothing to the stock model; its own are listed, as short as possible.
        names = [name for name, _ in model.get_base_model().named_modules()]
        ends = {name.rsplit(".", 1)[-1] for name in updates}
        same = {name for name in names if name.rsplit(".", 1)[-1] in ends} == updates.keys()
        config.target_modules = sorted(ends if same else updates)
        config.exclude_modules = config.layers_to_transform = config.layers_pattern = None
        config.fan_in_fan_out = True
    return config


def _fused(model: PeftModel, updates: dict[str, tuple[Tensor, Tensor]]) -> dict[str, tuple[Tensor, Tensor]]:
    """Updates of a split projection's parts joined into one of the fused weight (d → 3d).

    A of the fused update stacks those of the parts; B is block-wise: each part's B in its rows, zero
    elsewhere.
    """
    plain = model.get_base_model()
    joined: dict[str, tuple[Tensor, Tensor]] = {}
    groups: dict[str, dict[str, tuple[Tensor, Tensor]]] = {}
    for name, update in updates.items():
        parent, _, part = name.rpartition(".")
        if isinstance(plain.get_submodule(parent), SplitProjection):
            groups.setdefault(parent, {})[part] = update
        else:
            joined[name] = update
    for parent, parts in groups.items():
        size = next(iter(parts.values()))[0].shape[0]
        blocks = [
            torch.nn.functional.pad(b, (0, 0, size * PARTS.index(part), size * (len(PARTS) - 1 - PARTS.index(part))))
            for part, (b, _) in parts.items()
        ]
        joined[parent] = torch.cat(blocks, dim=1), torch.cat([a for _, a in parts.values()])
    return joined
