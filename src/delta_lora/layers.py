"""The LoRA layers of a PEFT model that Delta-LoRA moves, and the reasons to refuse one."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from peft import PeftModel, PeftType
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from delta_lora.errors import UserError

Anchor = Literal["fold", "branch", "auto"]
MARK = "_delta_lora_anchored"  # on a LoRA layer: the adapters whose anchor is taken
FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class AdaptedLayer:
    """One adapter on one layer: h = W x + s·B (A x), with A (r, c), B (d, r) and s the layer's PEFT scaling.

    ``name`` is the layer's name in the plain model; ``tied_to`` lists other modules that hold the same W.
    """

    name: str
    module: LoraLayer
    adapter: str
    scale: float
    tied_to: tuple[str, ...]

    @property
    def a(self) -> nn.Parameter:
        """A, shape (r, c)."""
        return self.module.lora_A[self.adapter].get_parameter("weight")

    @property
    def b(self) -> nn.Parameter:
        """B, shape (d, r)."""
        return self.module.lora_B[self.adapter].get_parameter("weight")

    @property
    def weight(self) -> nn.Parameter:
        """W, shape (d, c), or (c, d) where the layer keeps it transposed (``Conv1D``)."""
        return self.module.get_base_layer().get_parameter("weight")

    @property
    def transposed(self) -> bool:
        """Whether W is kept as (c, d)."""
        return bool(getattr(self.module, "fan_in_fan_out", False))

    @property
    def shape(self) -> list[int]:
        """[d, r, c]."""
        return [self.b.shape[0], *self.a.shape]

    def snapshot(self) -> tuple[Tensor, Tensor]:
        """Copies of A and B as they are now."""
        return self.a.detach().clone(), self.b.detach().clone()


def check_anchor(anchor: str) -> None:
    """Refuse what is no :data:`Anchor`.

    Raises:
        UserError: with what there is.
    """
    if anchor not in get_args(Anchor):
        raise UserError(f"anchor must be 'fold', 'branch' or 'auto', got {anchor!r}")


def unwrap(model: nn.Module) -> nn.Module:
    """The ``PeftModel`` inside ``torch.compile``, DDP and the like; where there is none, what is innermost."""
    while not isinstance(model, PeftModel):
        inner = getattr(model, "_orig_mod", None) or getattr(model, "module", None)
        if not isinstance(inner, nn.Module):
            break
        model = inner
    return model


def adapted_layers(model: nn.Module, adapter: str) -> list[AdaptedLayer]:
    """All layers of a PEFT model that carry ``adapter``, in the model's order.

    Raises:
        UserError: no PEFT model, an unknown adapter, no LoRA layers, or a layer whose update is not B·A.
    """
    if not isinstance(model, PeftModel):
        if getattr(model, "_hf_peft_config_loaded", False):
            raise UserError(
                f"this {type(model).__name__} has its adapter from Transformers' own integration (add_adapter or "
                "load_adapter), which DeltaLora cannot export: give the model without it to peft.get_peft_model(model, "
                "LoraConfig(…)), or a saved adapter to peft.PeftModel.from_pretrained(model, folder, is_trainable=True)"
            )
        raise UserError(
            f"DeltaLora needs a PEFT model with LoRA layers, got {type(model).__name__}: wrap it with"
            " peft.get_peft_model(model, LoraConfig(…))"
        )
    if adapter not in model.peft_config:
        raise UserError(
            f"unknown adapter {adapter!r}; the model has {', '.join(map(repr, model.peft_config))}:"
            " give one of these as adapter_name"
        )
    kind = model.peft_config[adapter].peft_type
    if kind != PeftType.LORA:
        raise UserError(
            f"adapter {adapter!r} is a {PeftType(kind).value} adapter, whose update is not s·B·A; Delta-LoRA is defined"
            " on LoRA: use a LoraConfig"
        )
    owners: dict[int, list[str]] = {}
    plain = model.get_base_model()
    for name, module in plain.named_modules():
        weight = module._parameters.get("weight")
        if weight is not None and weight.numel() and not weight.is_meta:
            owners.setdefault(weight.data_ptr(), []).append(name.removesuffix(".base_layer"))
    layers = []
    for name, module in plain.named_modules():
        if isinstance(module, LoraLayer) and adapter in (*module.lora_A, *module.lora_embedding_A):
            if adapter in getattr(module, MARK, ()):
                raise UserError(
                    f"{name} already carries the anchor of another DeltaLora: call its restore() first, or start from"
                    " a fresh model"
                )
            _refuse_other_updates(name, module, adapter)
            weight = getattr(module.get_base_layer(), "weight", None)
            holders = owners.get(weight.data_ptr(), []) if isinstance(weight, Tensor) else []
            tied_to = tuple(holder for holder in holders if holder != name)
            layers.append(AdaptedLayer(name, module, adapter, module.scaling[adapter], tied_to))
    if not layers:
        raise UserError(
            f"adapter {adapter!r} has no LoRA layers in {type(plain).__name__}; set target_modules in its LoraConfig"
        )
    return layers


def _refuse_other_updates(name: str, module: LoraLayer, adapter: str) -> None:
    """Raise where the layer's forward is not W x + s·B (A x), because then nothing telescopes."""
    variant = module.lora_variant.get(adapter)
    if variant is not None:
        reason = f"its forward is changed by {type(variant).__name__} (DoRA and its like)"
        remedy = "switch that option off in the LoraConfig"
    elif adapter in module.lora_embedding_A:
        reason = "it is an embedding, a look-up table that most models tie to their output layer"
        remedy = "take it out of target_modules and train it with modules_to_save or trainable_token_indices"
    elif not (
        type(module.lora_A[adapter]) is nn.Linear
        and type(module.lora_B[adapter]) is nn.Linear
        and type(module).__name__ not in ("MultiheadAttention", "ParamWrapper")
    ):
        reason = f"a {type(module).__name__} layer's update is no plain matrix product B·A"
        remedy = "take it out of target_modules; linear layers and Conv1D can be adapted"
    elif module.lora_bias[adapter]:
        reason = "lora_bias=True adds a bias to B, which is not part of B·A"
        remedy = "set lora_bias=False"
    else:
        return
    raise UserError(f"Delta-LoRA cannot adapt {name}: {reason}; {remedy}")


def fold_obstacle(layer: AdaptedLayer) -> str | None:
    """Why W cannot be rewritten in place; None where it can."""
    weight = getattr(layer.module.get_base_layer(), "weight", None)
    # Quantized and sharded weights are subclasses of Parameter, or are not called "weight" at all.
    if type(weight) is not nn.Parameter or weight.dtype not in FLOATS:
        return f"its base weight is quantized or sharded ({type(layer.module.get_base_layer()).__name__})"
    if weight.is_meta and not layer.a.is_meta:  # a model of shapes alone has nothing to lose
        return "its base weight is offloaded"
    others = [other for other in layer.module.lora_A if other != layer.adapter]
    if others:
        return f"adapter {others[0]!r} shares its base weight and would see it move"
    return None


def rounds(layer: AdaptedLayer) -> bool:
    """Whether W has 16 bits or fewer: a fold is rounded to them, which is 0.1 to 1 % of the learned update."""
    return layer.weight.element_size() < 4


def check(layer: AdaptedLayer, *, literal: bool, anchor: Anchor) -> None:
    """Refuse a layer that the chosen form would corrupt.

    Raises:
        UserError: with the reason and the alternative.
    """
    if type(layer.a) is not nn.Parameter or layer.a.numel() == 0:
        raise UserError(f"the factors of {layer.name} are sharded (FSDP, ZeRO-3), which Delta-LoRA cannot use; use DDP")
    dropout = layer.module.lora_dropout[layer.adapter]
    if not literal and isinstance(dropout, nn.Dropout) and dropout.p > 0:
        raise UserError(
            f"LoRA dropout is {dropout.p:g} on {layer.name}, and the folded form needs 0: it keeps W's update in the"
            " branch, where dropout would reach it; set lora_dropout=0 (as the paper does) or literal=True"
        )
    if layer.tied_to and (literal or anchor != "branch"):
        raise UserError(
            f"the base weight of {layer.name} is tied to {', '.join(layer.tied_to)}, which would move with it; take it"
            " out of target_modules, untie it, or hold the update in a branch"
            + (": literal=False, anchor='branch'" if literal else " (anchor='branch')")
        )
    reason = fold_obstacle(layer) if literal or anchor == "fold" else None
    if reason is not None:
        form = "literal=True" if literal else "anchor='fold'"
        raise UserError(f"{form} rewrites {layer.name}, but {reason}; use anchor='branch' or 'auto'")
    weight = getattr(layer.module.get_base_layer(), "weight", None)
    if isinstance(weight, Tensor) and weight.requires_grad:
        raise UserError(
            f"the base weight of {layer.name} has requires_grad=True, but Delta-LoRA moves it without a gradient:"
            " freeze it"
        )


def check_mergeable(layers: Iterable[AdaptedLayer]) -> None:
    """Refuse to merge into a weight that another module holds too.

    Raises:
        UserError: with the layer's name.
    """
    for layer in layers:
        if layer.tied_to:
            raise UserError(
                f"cannot merge into {layer.name}: its weight is tied to {', '.join(layer.tied_to)}; use export()"
            )


def add_hook(parameter: nn.Parameter, hook: Callable[[Tensor | None], Tensor | None]) -> RemovableHandle:
    """Register a gradient hook, also on the factors of an adapter that is inactive (frozen) for now."""
    trainable = parameter.requires_grad
    parameter.requires_grad_(True)
    handle = parameter.register_hook(hook)
    parameter.requires_grad_(trainable)
    return handle
