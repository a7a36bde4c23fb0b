"""Algorithm 1 of the paper (arXiv 2309.02411) as printed: what the practical forms are tested against.

for t = 0 … T−1:
    A, B ← AdamW step on the gradients of A and B
    if t > K:  W ← W + λ · s · (B⁺A⁺ − BA)          # ⁺: after this step's update
"""

import torch
from torch import Tensor

from delta_lora.anchor import fingerprint, shift
from delta_lora.layers import AdaptedLayer


class Literal:
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

    def resume(self, a: Tensor, b: Tensor) -> None:
        """Continue from the current factors (a, b): W ← W + λ s (b a − B_*A_*), rounded once."""
        shift(self.layer, torch.cat([a, self.a]), torch.cat([b, -self.b], dim=1), self.factor)
        self.adopt(a, b)

    def adopt(self, a: Tensor, b: Tensor) -> None:
        """Continue from the current factors (a, b) on a W that has moved already."""
        self.previous = a.to(self.layer.a), b.to(self.layer.b)

    def remove(self) -> None:
        """W_0 again, to the rounding that the single steps have left."""
        a, b = (factor.cpu() for factor in self.previous)
        shift(self.layer, torch.cat([a, self.a]), torch.cat([b, -self.b], dim=1), -self.factor)

    @property
    def fingerprints(self) -> tuple[int, int]:
        """Of W_0 and of W as it is now."""
        return self.before, fingerprint(self.layer.weight)
