"""The practical forms of Delta-LoRA: the anchor (A_*, B_*) folded into W, or in a frozen branch beside it.

After the anchor is taken, the effective weight is W_0 − λ s B_*A_* + (1+λ) s B A. Both forms run the live
branch at (1+λ)s and give A and B the gradient they would have at s; they differ in where −λ s B_*A_* is kept.
"""

from collections.abc import Mapping
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from delta_lora.layers import AdaptedLayer, add_hook

# Elements of W handled at once: a fold's float64 temporaries stay below 150 MB on a GPU, where they are gone before
# the next activations come, and in the cache of a CPU.
CHUNK, CHUNK_CPU = 2**22, 2**16


class LiveBranch:
    """Runs a layer's branch at (1+λ)s with the gradients of A and B multiplied by 1/(1+λ).

    The gradient hooks act on each backward pass's contribution, before it is accumulated, reduced or clipped.
    """

    def __init__(self, layer: AdaptedLayer, ratio: float) -> None:
        self.module, self.adapter = layer.module, layer.adapter
        self.before = layer.scale, layer.module.lora_alpha[layer.adapter]
        self.module.scaling[self.adapter] = (1 + ratio) * layer.scale
        # PEFT's set_scale and unscale_layer compute the scaling anew from lora_alpha.
        self.module.lora_alpha[self.adapter] = (1 + ratio) * self.before[1]
        factor = 1 / (1 + ratio)

        def shrink(gradient: Tensor | None) -> Tensor | None:
            return None if gradient is None else gradient * factor  # None: nothing reached this layer

        self.handles = [add_hook(parameter, shrink) for parameter in (layer.a, layer.b)]

    def remove(self) -> None:
        """Back to scale s and plain gradients."""
        self.module.scaling[self.adapter], self.module.lora_alpha[self.adapter] = self.before
        self.remove_hooks()

    def remove_hooks(self) -> None:
        """Back to plain gradients."""
        for handle in self.handles:
            handle.remove()


class Fold:
    """W ← W_0 − λ s B_*A_*, in place, computed in float64 and rounded once.

    The entries that adding the product back would not round to W_0 again are remembered on the CPU (some per
    cent of them), so that :meth:`remove` gives back W_0 bit for bit without a dense copy.
    """

    kind = "fold"

    def __init__(self, layer: AdaptedLayer, ratio: float, a: Tensor, b: Tensor, *, folded: bool = False) -> None:
        """Fold the anchor, unless the base comes ``folded`` already, as in a dense checkpoint."""
        self.layer, self.factor = layer, ratio * layer.scale
        # On the CPU: training no longer needs them, and device memory stays what plain LoRA takes.
        self.a, self.b = a.detach().cpu(), b.detach().cpu()
        self.lost: list[tuple[Tensor, Tensor]] = []
        before = fingerprint(layer.weight)
        if not folded:
            self._fold()
        self.fingerprints = (before, fingerprint(layer.weight))
        self.live = LiveBranch(layer, ratio)

    @torch.no_grad()
    def _fold(self) -> None:
        weight = self.layer.weight
        left, right = _oriented(self.layer, self.a, self.b)
        for start, stop in _row_chunks(weight):
            rows, product = weight[start:stop], left[start:stop] @ right
            moved = _add(rows, product, -self.factor)
            back = _add(moved, product, self.factor)
            index = (_bits(back) != _bits(rows)).flatten().nonzero().squeeze(1)
            self.lost.append((index.to("cpu", torch.int32), rows.flatten()[index].cpu()))
            rows.copy_(moved)

    def state(self) -> dict[str, Any]:
        """The anchor, and what tells W_0 and the folded W apart."""
        return {"A": self.a.clone(), "B": self.b.clone(), "base": list(self.fingerprints)}

    def resume(self, state: Mapping[str, Any], moved: bool) -> None:
        """Take over what a base that came folded cannot tell."""
        if moved:
            self.fingerprints = tuple(state["base"])

    @torch.no_grad()
    def remove(self) -> None:
        """W_0 again, bit for bit (to one rounding where the base came folded already)."""
        weight = self.layer.weight
        left, right = _oriented(self.layer, self.a, self.b)
        for start, stop in _row_chunks(weight):
            rows = weight[start:stop]
            rows.copy_(_add(rows, left[start:stop] @ right, self.factor))
        for (start, stop), (index, values) in zip(_row_chunks(weight), self.lost, strict=False):
            weight[start:stop].put_(index.to(weight.device, torch.int64), values.to(weight.device))
        self.live.remove()


class Branch:
    """−λ s B_*A_* as a frozen low-rank branch inside PEFT's own layer; W is never touched.

    The factors become [A; A_*] and [B, −λ/(1+λ) B_*], of which only A and B train. PEFT's forward, its
    per-sample adapters, ``disable_adapter`` and merging then see the whole update without knowing of it.
    """

    kind = "branch"

    def __init__(self, layer: AdaptedLayer, ratio: float, a: Tensor, b: Tensor) -> None:
        self.layer, self.a, self.b = layer, a.detach().cpu(), b.detach().cpu()
        module: Any = layer.module
        adapter = layer.adapter
        self.plain = module.lora_A[adapter], module.lora_B[adapter]
        place: dict[str, Any] = {"device": layer.a.device, "dtype": layer.a.dtype}
        module.lora_A[adapter] = WithAnchor(self.plain[0], a.detach().to(**place), dim=0)
        module.lora_B[adapter] = WithAnchor(self.plain[1], (b.detach() * (-ratio / (1 + ratio))).to(**place), dim=1)
        module.get_delta_weight = MethodType(_delta_weight_with_anchor, module)
        self.live = LiveBranch(layer, ratio)

    def state(self) -> dict[str, Any]:
        """The anchor."""
        return {"A": self.a.clone(), "B": self.b.clone()}

    def resume(self, state: Mapping[str, Any], moved: bool) -> None:
        """The anchor is all there is."""

    def remove(self) -> None:
        """Take the branch away again."""
        module: Any = self.layer.module
        adapter = self.layer.adapter
        module.lora_A[adapter], module.lora_B[adapter] = self.plain
        if not any(isinstance(down, WithAnchor) for down in module.lora_A.values()):
            del module.get_delta_weight
        self.live.remove()


class WithAnchor(nn.Linear):
    """A linear layer whose weight is followed by a frozen part: in its rows (``dim=0``) or its columns
    (``dim=1``).

    ``weight`` stays the trainable part under its own name, for optimizers, state dictionaries and PEFT.
    """

    def __init__(self, plain: nn.Linear, anchor: Tensor, dim: int) -> None:
        super().__init__(plain.in_features, plain.out_features, bias=False, device="meta")
        self.weight, self.dim = plain.weight, dim
        self.register_buffer("anchor", anchor, persistent=False)
        self.train(plain.training)

    def forward(self, input: Tensor) -> Tensor:
        """``(…, c)`` → ``(…, 2r)`` for A, ``(…, 2r)`` → ``(…, d)`` for B."""
        return F.linear(input, torch.cat([self.weight, self.get_buffer("anchor")], dim=self.dim))

    def joined(self) -> nn.Linear:
        """Both parts as one plain linear layer."""
        weight = torch.cat([self.weight.detach(), self.get_buffer("anchor")], dim=self.dim)
        plain = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
        plain.weight = nn.Parameter(weight, requires_grad=False)
        return plain


def _delta_weight_with_anchor(self: Any, adapter: str) -> Tensor:
    """PEFT's ``get_delta_weight`` with the anchor's part in it, so that merging merges both.

    A bound method rather than a closure: a deep copy of the model then has one bound to its own layer.
    """
    down, up = self.lora_A[adapter], self.lora_B[adapter]
    plain = type(self).get_delta_weight
    if not isinstance(down, WithAnchor):
        return plain(self, adapter)
    self.lora_A[adapter], self.lora_B[adapter] = down.joined(), up.joined()
    try:
        return plain(self, adapter)
    finally:
        self.lora_A[adapter], self.lora_B[adapter] = down, up


def shift(layer: AdaptedLayer, a: Tensor, b: Tensor, factor: float) -> None:
    """W ← W + factor · b a, in place and rounded once."""
    left, right = _oriented(layer, a, b)
    with torch.no_grad():
        for start, stop in _row_chunks(layer.weight):
            rows = layer.weight[start:stop]
            rows.copy_(_add(rows, left[start:stop] @ right, factor))


def fingerprint(weight: Tensor) -> int:
    """The wrapped sum of a weight's bit patterns: the same on every device, different after any change."""
    sums = [_bits(weight[start:stop]).sum(dtype=torch.int64) for start, stop in _row_chunks(weight)]
    return int(torch.stack(sums).sum())


def _add(rows: Tensor, product: Tensor, factor: float) -> Tensor:
    """rows + factor · product, rounded once to the dtype of ``rows``."""
    return torch.add(rows, product, alpha=factor).to(rows.dtype)


def _bits(values: Tensor) -> Tensor:
    integers = {8: torch.int64, 4: torch.int32, 2: torch.int16}
    return values.detach().view(integers[values.element_size()])


def _oriented(layer: AdaptedLayer, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The two factors of b a in W's own layout, in the widest dtype that W's device has."""
    device = layer.weight.device
    dtype = torch.float32 if device.type == "mps" else torch.float64
    a, b = a.to(device, dtype), b.to(device, dtype)
    return (a.T, b.T) if layer.transposed else (b, a)


def _row_chunks(weight: Tensor) -> list[tuple[int, int]]:
    step = max(1, (CHUNK_CPU if weight.device.type == "cpu" else CHUNK) // weight.shape[1])
    return [(start, min(start + step, weight.shape[0])) for start in range(0, weight.shape[0], step)]
