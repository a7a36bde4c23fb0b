"""Algorithm 1 of the paper (arXiv 2309.02411) as printed: what the practical forms are tested against.

for t = 0 … T−1:
    A, B ← AdamW step on the gradients of A and B
    if t > K:  W ← W + λ · s · (B⁺A⁺ − BA)          # ⁺: after this step's update
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from delta_lora.anchor import fingerprint, shift
from delta_lora.layers import AdaptedLayer


class Algorithm1:
    """Moves W after every optimizer step by the delta of the product, in W's own precision.

    It needs a dense product and a copy of A and B per step, and in low precision it loses what is smaller
    than W's rounding. Its one advantage: the moved part of W is not reached by dropout in the branch (the
    paper's Table 5).
    """

    kind = "literal"

    def __init__(self, layer: AdaptedLayer, ratio: float, a: Tensor, b: Tensor) -> None:
        """Start from the factors (a, b) after K+1 steps."""
        self.layer, self.factor = layer, ratio * layer.scale
        self.a, self.b = a.detach().cpu(), b.detach().cpu()
        self.before = fingerprint(layer.weight)
        self.previous = layer.snapshot()

    @torch.no_grad()
    def update(self) -> None:
        """W ← W + λ s (B⁺A⁺ − BA)."""
        a, b = self.previous
        delta = self.factor * (self.layer.b @ self.layer.a - b @ a)
        self.layer.weight.add_(delta.T if self.layer.transposed else delta)
        self.previous = self.layer.snapshot()

    def state(self) -> dict[str, Any]:
        """The anchor, the current factors, W itself (its rounding follows from every step), and W_0's fingerprint."""
        a, b = (factor.cpu() for factor in self.previous)
        weight = self.layer.weight.detach().cpu().clone()
        base = [self.before, fingerprint(weight)]
        return {"A": self.a.clone(), "B": self.b.clone(), "A_now": a, "B_now": b, "W": weight, "base": base}

    @torch.no_grad()
    def resume(self, state: Mapping[str, Any], moved: bool) -> None:
        """Continue from a state's factors and, unless the model has it already, its ``moved`` W."""
        a, b = state["A_now"], state["B_now"]
        self.previous, self.before = (a.to(self.layer.a), b.to(self.layer.b)), state["base"][0]
        if not moved:
            self.layer.weight.copy_(state["W"])

    def remove(self) -> None:
        """W_0 again, to the rounding that the single steps have left: W ← W − λ s (b a − B_*A_*)."""
        a, b = (tensor.cpu() for tensor in self.previous)
        shift(self.layer, torch.cat([a, self.a]), torch.cat([b, -self.b], dim=1), -self.factor)
