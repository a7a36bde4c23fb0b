"""What was learned for one weight, as low-rank factors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class LowRankUpdate:
    """ΔW = b a of a weight W_0 (d, c), with b (d, R), all scales in it, and a (R, c).

    With DoRA's ``magnitude`` m (d,) the whole weight is m · (W_0 + b a) / ‖W_0 + b a‖, row by row.
    """

    b: Tensor
    a: Tensor
    magnitude: Tensor | None = None

    @property
    def rank(self) -> int:
        """R, which the rank of ΔW cannot exceed."""
        return self.a.shape[0]

    def plus(self, other: LowRankUpdate | None) -> LowRankUpdate:
        """The sum of both, of rank R + R'.

        Factors of equal shape are joined as (b + b') a − b' (a − a'), so that what cancels, as in an adapter that is
        still at its PiSSA start, cancels to the last bit.
        """
        import torch  # imported late: the methods' settings are read without it

        if other is None:
            return self
        b, a = other.b.to(self.b), other.a.to(self.a)
        if b.shape == self.b.shape:
            return replace(self, b=torch.cat([self.b + b, -b], dim=1), a=torch.cat([self.a, self.a - a]))
        return replace(self, b=torch.cat([self.b, b], dim=1), a=torch.cat([self.a, a]))

    def of(self, weight: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """W − W_0 over the weight W_0 (d, c): the factors (b, a), or dense (d, c) where there is a magnitude."""
        if self.magnitude is None:
            return self.b, self.a
        before = weight.detach().to(self.b)
        directed = before + self.b @ self.a
        return (self.magnitude / directed.norm(dim=1))[:, None] * directed - before
