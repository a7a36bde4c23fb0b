"""What was learned, as a stock PEFT adapter or as a plain Transformers model."""

import re
from collections import Counter
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from shutil import rmtree

import torch
from peft import LoraConfig, PeftConfig, PeftModel
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from torch import nn
from transformers import PreTrainedModel

from delta_lora import readback
from delta_lora.models.gpt2 import PARTS, SplitProjection, fuse_attention
from delta_lora.peft_config import make_writable
from delta_lora.readback import CONFIG, WEIGHTS
from delta_lora.state import NOTE
from delta_lora.updates import LowRankUpdate

PREFIX = "base_model.model."  # of every key in a PEFT adapter file
# What an adapter of another kind than LoRA (AdaLoRA) hands on to the exported one.
HANDED_ON = (
    "base_model_name_or_path",
    "bias",
    "exclude_modules",
    "fan_in_fan_out",
    "layers_pattern",
    "layers_to_transform",
    "modules_to_save",
    "revision",
    "target_modules",
    "task_type",
)


def write_adapter(model: PeftModel, adapter: str, updates: Mapping[str, LowRankUpdate], directory: Path) -> None:
    """Write low-rank updates of the checkpoint's weights as a LoRA adapter of PEFT's, whose scaling is 1.

    ``PeftModel.from_pretrained(checkpoint, directory)`` then has the logits of ``model``. Updates of a split GPT-2
    projection are joined into one of the fused ``c_attn``. Modules that the adapter trains whole
    (``modules_to_save``, biases) go along.

    Args:
        model: the trained model.
        adapter: the adapter's name in it.
        updates: by the layer's name in the plain model; ranks may differ.
        directory: made where missing; what it holds is replaced once the new adapter is whole, and PEFT has read it.

    Raises:
        RunError: stock PEFT does not read back what was written; ``directory`` is as it was then.
    """
    joined = _fused(model, updates)
    tensors = {
        name if name.startswith(PREFIX) else PREFIX + name: tensor
        for name, tensor in get_peft_model_state_dict(model, adapter_name=adapter, save_embedding_layers=False).items()
        if ".lora_" not in name
    }
    for name, update in joined.items():
        tensors[f"{PREFIX}{name}.lora_A.weight"] = update.a
        tensors[f"{PREFIX}{name}.lora_B.weight"] = update.b
        if update.magnitude is not None:
            tensors[f"{PREFIX}{name}.lora_magnitude_vector"] = update.magnitude
    # A clone each: safetensors refuses tensors that share memory, such as a head tied to its embedding.
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    config = _config(model, model.peft_config[adapter], joined)
    make_writable(config)
    new = not directory.exists()
    unfinished = directory / ".unfinished"
    unfinished.mkdir(parents=True, exist_ok=True)
    try:
        save_file(plain, unfinished / WEIGHTS, metadata={"format": "pt"})
        config.save_pretrained(str(unfinished))
        readback.check(model, unfinished, plain)
        # The configuration goes first and comes last: nobody loads an old adapter's with the new weights.
        for name in (CONFIG, NOTE):
            (directory / name).unlink(missing_ok=True)
        for name in (WEIGHTS, CONFIG):
            (unfinished / name).replace(directory / name)
    finally:
        rmtree(unfinished)
        if new and not any(directory.iterdir()):
            directory.rmdir()


def merge(model: PeftModel, adapter: str) -> PreTrainedModel:
    """Merge ``adapter`` into the weights, remove PEFT's wrappers, fuse a split GPT-2; in place."""
    merged: PreTrainedModel = model.merge_and_unload(adapter_names=[adapter])
    return fuse_attention(merged)


def _config(model: PeftModel, trained: PeftConfig, updates: Mapping[str, LowRankUpdate]) -> LoraConfig:
    """The trained adapter's configuration with the updates' ranks, and scaling 1 (alpha = rank)."""
    ranks = {name: update.rank for name, update in updates.items()}
    rank = Counter(ranks.values()).most_common(1)[0][0]
    # PEFT reads these as patterns for the end of a module's name: each is to fit one module alone.
    odd = {f"^{re.escape(name)}$": other for name, other in ranks.items() if other != rank}
    if type(trained) is LoraConfig:
        config = deepcopy(trained)
    else:
        config = LoraConfig(**{name: deepcopy(getattr(trained, name)) for name in HANDED_ON})
    config.r = config.lora_alpha = rank
    config.rank_pattern, config.alpha_pattern = odd, dict(odd)
    config.use_rslora = False
    config.lora_dropout = 0.0
    config.init_lora_weights = True
    config.inference_mode = True
    if saved := config.modules_to_save:
        # For a classifier PEFT adds its own guesses of a head's name: those that the model has are kept, each once.
        there = tuple(name for name, _ in model.get_base_model().named_modules())
        config.modules_to_save = [
            name for name in dict.fromkeys(saved) if any(other.endswith(name) for other in there)
        ] or None
    if any(isinstance(module, SplitProjection) for module in model.modules()):
        # Names of the split parts mean nothing to the stock model; its own are listed, as short as possible.
        names = [name for name, _ in model.get_base_model().named_modules()]
        ends = {name.rsplit(".", 1)[-1] for name in updates}
        same = {name for name in names if name.rsplit(".", 1)[-1] in ends} == updates.keys()
        config.target_modules = sorted(ends if same else updates)
        config.exclude_modules = config.layers_to_transform = config.layers_pattern = None
        config.fan_in_fan_out = True
    return config


def _fused(model: PeftModel, updates: Mapping[str, LowRankUpdate]) -> dict[str, LowRankUpdate]:
    """The updates, those of a split projection's parts joined into one of the fused weight."""
    plain = model.get_base_model()
    joined: dict[str, LowRankUpdate] = {}
    groups: dict[str, dict[str, LowRankUpdate]] = {}
    for name, update in updates.items():
        parent, _, part = name.rpartition(".")
        if isinstance(plain.get_submodule(parent), SplitProjection):
            groups.setdefault(parent, {})[part] = update
        else:
            joined[name] = update
    for parent, parts in groups.items():
        joined[parent] = _join(plain.get_submodule(parent), parts)
    return joined


def _join(split: nn.Module, parts: Mapping[str, LowRankUpdate]) -> LowRankUpdate:
    """One update of the fused (3d, d) weight from those of some of its three (d, d) parts.

    A stacks those of the parts; B is block-wise: each part's B in its rows, zero elsewhere.
    """
    size = next(iter(parts.values())).b.shape[0]
    blocks = [
        torch.nn.functional.pad(update.b, (0, 0, size * PARTS.index(part), size * (len(PARTS) - 1 - PARTS.index(part))))
        for part, update in parts.items()
    ]
    magnitude = None
    if any(update.magnitude is not None for update in parts.values()):
        # DoRA rescales every row to its magnitude; a row that was not adapted has that of its weight.
        whole = [parts[part].magnitude if part in parts else _row_norms(split.get_submodule(part)) for part in PARTS]
        magnitude = torch.cat([rows for rows in whole if rows is not None])
    return LowRankUpdate(torch.cat(blocks, dim=1), torch.cat([update.a for update in parts.values()]), magnitude)


def _row_norms(module: nn.Module) -> torch.Tensor:
    return module.get_parameter("weight").detach().norm(dim=1)
