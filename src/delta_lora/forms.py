"""The three ways to keep what Delta-LoRA adds to W: folded into it, in a frozen branch, or step by step as printed."""

from collections.abc import Sequence

import torch
from torch import Tensor

from delta_lora.anchor import Branch, Fold
from delta_lora.errors import UserError
from delta_lora.layers import MARK, AdaptedLayer, Anchor, check, fold_obstacle, rounds
from delta_lora.reference import Algorithm1
from delta_lora.updates import LowRankUpdate

Form = Fold | Branch | Algorithm1


def place(
    layers: Sequence[AdaptedLayer],
    ratio: float,
    anchors: Sequence[tuple[Tensor, Tensor, bool]],
    *,
    literal: bool,
    anchor: Anchor,
) -> list[Form]:
    """Take the anchor in every layer.

    Args:
        ratio: λ.
        anchors: of each layer A_* (r, c), B_* (d, r), and whether its W has them folded in already.
        literal, anchor: as for :class:`delta_lora.DeltaLora`.

    Raises:
        UserError: a layer that the form does not fit, or that is merged; no layer has changed then.
    """
    for layer in layers:
        check(layer, literal=literal, anchor=anchor)
        if layer.module.merged:
            raise UserError(f"{layer.name} is merged: call unmerge_adapter() before training goes on")
    forms: list[Form] = []
    for layer, (a, b, folded) in zip(layers, anchors, strict=True):
        if literal:
            forms.append(Algorithm1(layer, ratio, a, b))
        elif anchor == "branch" or fold_obstacle(layer) is not None or (anchor == "auto" and rounds(layer)):
            forms.append(Branch(layer, ratio, a, b))
        else:
            forms.append(Fold(layer, ratio, a, b, folded=folded))
        setattr(layer.module, MARK, {*getattr(layer.module, MARK, ()), layer.adapter})
    return forms


def remove(layer: AdaptedLayer, form: Form) -> None:
    """Undo :func:`place` in one layer."""
    form.remove()
    getattr(layer.module, MARK).discard(layer.adapter)


def learned(layer: AdaptedLayer, form: Form | None, ratio: float, *, branch: bool) -> LowRankUpdate:
    """λ s (BA − B_*A_*), which W has moved by, and with ``branch`` s·BA on top; before the anchor (None) s·BA alone.

    Float32 or wider, detached copies on W's device.
    """
    dtype = torch.promote_types(layer.a.dtype, torch.float32)
    a, b = (factor.to(dtype) for factor in layer.snapshot())
    scale = layer.scale if branch else 0.0
    if form is None:
        return LowRankUpdate(scale * b, a)
    shift = ratio * layer.scale
    return LowRankUpdate(torch.cat([(scale + shift) * b, -shift * form.b.to(b)], dim=1), torch.cat([a, form.a.to(a)]))
