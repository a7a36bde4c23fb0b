"""An adapter's files read back through PEFT's own loader, over a model of shapes alone."""

import warnings
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file
from torch import Tensor, nn

from delta_lora.errors import RunError
from delta_lora.models.gpt2 import fuse_attention

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
ADAPTER = "default"  # what PEFT calls the adapter that it loads


def check(model: PeftModel, directory: Path, tensors: dict[str, Tensor]) -> None:
    """See that stock PEFT loads what is in ``directory`` over the stock model, tensor by tensor, at scale 1.

    The values are compared as the file has them, for over shapes PEFT keeps none. It takes the memory of the adapter,
    not of the model. A model that Python cannot copy is not checked; a warning says so.

    Args:
        model: the trained model.
        directory: with the adapter's two files.
        tensors: what was written, by its key in the file.

    Raises:
        RunError: PEFT refuses the files, or what it loads is something else.
    """
    written = load_file(directory / WEIGHTS)
    changed = [name for name in tensors if name not in written or not torch.equal(written[name], tensors[name])]
    if changed:
        raise RunError(f"the exported adapter's file has another {changed[0]} than was written; nothing was exported")
    try:
        stock = shapes_of_stock(model)
    except Exception as error:  # whatever a part of the user's model raises when it is copied
        warnings.warn(
            f"the exported adapter was not read back, since the model cannot be copied ({error}); load it once with "
            "PeftModel.from_pretrained to be sure",
            stacklevel=4,
        )
        return
    try:
        with warnings.catch_warnings(action="ignore"):
            loaded = PeftModel.from_pretrained(stock, str(directory), low_cpu_mem_usage=True, torch_device="cpu")
    except Exception as error:  # PEFT's reasons are of many classes
        reason = " ".join(str(error).split())
        raise RunError(f"stock PEFT does not load the exported adapter: {reason:.300}; nothing was exported") from error
    found = get_peft_model_state_dict(loaded, adapter_name=ADAPTER, save_embedding_layers=False)
    different = sorted(found.keys() ^ tensors.keys())
    different += [name for name in tensors.keys() & found.keys() if found[name].shape != tensors[name].shape]
    for name, module in loaded.named_modules():
        if isinstance(module, LoraLayer) and ADAPTER in module.lora_A and module.scaling[ADAPTER] != 1:
            different.append(f"the scale of {name}")
    if different:
        raise RunError(f"stock PEFT loads the exported adapter otherwise ({different[0]}); nothing was exported")


def shapes_of_stock(model: PeftModel) -> nn.Module:
    """The stock model below ``model``, its adapters taken away and GPT-2 fused again, on the meta device."""
    shapes: dict[int, Any] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        if type(tensor) is nn.Parameter:
            shapes[id(tensor)] = nn.Parameter(tensor.detach().to("meta"), requires_grad=False)
        else:  # plain buffers; what is left is quantized or sharded, and shared: nothing is written to it
            shapes[id(tensor)] = tensor.detach().to("meta") if type(tensor) is Tensor else tensor
    stock = fuse_attention(deepcopy(model, shapes).unload())
    for attribute in ("peft_config", "hf_device_map"):  # PEFT would think of another adapter; nothing is dispatched
        vars(stock).pop(attribute, None)
    return stock
