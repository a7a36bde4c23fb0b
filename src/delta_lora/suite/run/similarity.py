"""How far training has moved each adapted weight (Figure 3), and the spectrum of the update, which it does not show."""

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from delta_lora.methods.base import Method, Update

KEPT = 64  # singular values of an update that a record keeps, the largest first


def measure(method: Method, reference: PreTrainedModel) -> dict[str, dict[str, Any]]:
    """Compare each adapted weight's effective value W with the pretrained W_0.

    Args:
        method: trained, not yet merged.
        reference: the model as it was loaded, for W_0.

    Returns:
        By the module's name in the plain model: ``cosine`` (of W and W_0 as vectors), ``weight_norm`` ‖W_0‖ and
        ``update_norm`` ‖W − W_0‖ (Frobenius), ``rank`` of W − W_0 (singular values above σ₁ · max(d, c) · 2⁻²³, and
        above ‖b‖ ‖a‖ · 2⁻²¹, where the factors' rounding ends), ``entropy_rank`` (:func:`entropy_rank`),
        ``singular_values`` (the ``KEPT`` largest).
    """
    weights = dict(reference.named_parameters())
    with torch.no_grad():
        return {name: compare(weights[f"{name}.weight"], update) for name, update in method.updates(reference)}


def compare(weight: Tensor, update: Update) -> dict[str, Any]:
    """One weight W_0 (d, c) and its update: a tensor (d, c), or factors b (d, R) and a (R, c)."""
    before = weight.detach().double().cpu()
    if isinstance(update, Tensor):
        moved = update.detach().double().cpu()
        spectrum, noise = torch.linalg.svdvals(moved), 0.0
    else:
        b, a = (factor.detach().double().cpu() for factor in update)
        moved = b @ a
        spectrum = torch.linalg.svdvals(torch.linalg.qr(b).R @ torch.linalg.qr(a.T).R.T)
        noise = 4 * float(b.norm() * a.norm())  # what the factors cancel of each other is known to their rounding
    after = before + moved
    smallest = max(float(spectrum[0]) * max(before.shape), noise) * torch.finfo(torch.float32).eps
    return {
        "cosine": float((before * after).sum() / (before.norm() * after.norm())),
        "weight_norm": float(before.norm()),
        "update_norm": float(moved.norm()),
        "rank": int((spectrum > smallest).sum()),
        "entropy_rank": entropy_rank(spectrum),
        "singular_values": [float(value) for value in spectrum[:KEPT]],
    }


def entropy_rank(spectrum: Tensor) -> float:
    """exp(−Σ p ln p) of the singular values σ (n,) as parts p = σ / Σσ of their sum; 0 where all are 0.

    The effective rank of Roy and Vetterli (2007, EUSIPCO, "The effective rank: a measure of effective
    dimensionality"): k where k values are equal and the others 0, and less the more they differ.
    """
    total = float(spectrum.sum())
    if total == 0:
        return 0.0
    parts = spectrum[spectrum > 0] / total
    return float(torch.exp(-(parts * parts.log()).sum()))
