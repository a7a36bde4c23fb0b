"""Where an adapter starts: PiSSA and OLoRA rewrite the base, W = W_0 − s·B_0 A_0, which ΔW = W − W_0 has to count.

Sources: PiSSA arXiv 2404.02948, OLoRA arXiv 2406.01775; PEFT's ``LoraConfig.init_lora_weights``.
"""

import re
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from delta_lora.errors import UserError
from delta_lora.updates import LowRankUpdate

KEEPING = ("gaussian", "orthogonal")  # W stays the checkpoint's, as with True and False
REWRITING = re.compile(r"pissa(_niter_[1-9]\d*)?|olora")
DATA = ("eva",)  # keeps W too, but is plain LoRA's start unless PEFT is given data for it
ALLOWED = ", ".join(["true", "false", *KEEPING, "pissa", "pissa_niter_N", "olora"])

START_LOST = (
    "adapter {!r} rewrote the base at its start, which it has left, so that W_0 is not known: make DeltaLora before "
    "the adapter is trained or loaded, or load its state first"
)


def rewrites(init: Any) -> bool:
    """Whether this ``init_lora_weights`` rewrites the base by s·B_0 A_0, and leaves what the model computes alone."""
    return isinstance(init, str) and REWRITING.fullmatch(init) is not None


def is_known(init: Any, *, data: bool = False) -> bool:
    """Whether W_0 is known after this ``init_lora_weights``; with ``data``, also those that have to be given data."""
    return isinstance(init, bool) or init in KEEPING or rewrites(init) or (data and init in DATA)


def start_offsets(model: PeftModel, adapter: str) -> dict[str, LowRankUpdate] | None:
    """How far the initialisation has moved each base weight, W − W_0, by the layer's name in the plain model.

    Returns:
        Empty where W is the checkpoint's own; None where the adapter has left its start, from which alone W_0 is known.

    Raises:
        UserError: an initialisation after which W_0 is not known, a quantized base, or a second adapter that has
            rewritten the same base.
    """
    inits: dict[str, Any] = {
        name: getattr(config, "init_lora_weights", True) for name, config in model.peft_config.items()
    }
    init = inits[adapter]
    if not is_known(init, data=True):
        raise UserError(
            f"init_lora_weights={init!r} rewrites the base weights in a way that cannot be undone in an export; use "
            f"one of {ALLOWED}"
        )
    other = next((name for name in inits if name != adapter and rewrites(inits[name])), None)
    if other is not None:
        raise UserError(f"adapter {other!r} has rewritten the base too (init_lora_weights={inits[other]!r}): use one")
    if not rewrites(init):
        return {}
    offsets = {}
    for name, module in model.get_base_model().named_modules():
        if isinstance(module, LoraLayer) and adapter in module.lora_A:
            weight = _base_weight(name, module, init)
            a = module.lora_A[adapter].get_parameter("weight").detach().clone()
            b = module.lora_B[adapter].get_parameter("weight").detach().clone()
            if not _at_start(weight, a, b, module.scaling[adapter], init):
                return None
            offsets[name] = LowRankUpdate(b * -module.scaling[adapter], a)
    return offsets


def _base_weight(name: str, module: LoraLayer, init: str) -> Tensor:
    """W (d, c)."""
    weight = getattr(module.get_base_layer(), "weight", None)
    if type(weight) is not nn.Parameter or not weight.is_floating_point():
        raise UserError(
            f"init_lora_weights={init!r} rewrote {name}, whose weight is quantized or sharded, so that W_0 is lost; "
            "use init_lora_weights=True"
        )
    return weight.detach().T if getattr(module, "fan_in_fan_out", False) else weight.detach()


def _at_start(weight: Tensor, a: Tensor, b: Tensor, scale: float, init: str) -> bool:
    """Whether A and B are those that were taken out of W, to rounding.

    PiSSA leaves a W that is orthogonal to B_0, or to A_0 (the fast one, where W is wider than high); OLoRA, whose B_0
    is orthonormal, one with B_0ᵀ W = (1 − s) A_0.
    """
    if weight.is_meta:
        return True
    rounding = torch.finfo(weight.dtype).eps / 8 + 16 * torch.finfo(torch.float32).eps
    weight, a, b = weight.float(), a.float(), b.float()
    whole = weight.norm() + scale * b.norm() * a.norm()
    if init == "olora":
        off = (b.T @ weight - (1 - scale) * a).norm() / (b.norm() * whole)
    else:
        off = torch.minimum((b.T @ weight).norm() / (b.norm() * whole), (weight @ a.T).norm() / (a.norm() * whole))
    return bool(off <= rounding)
