"""Delta-LoRA for any PEFT model with LoRA layers (arXiv 2309.02411)."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from delta_lora import export, layers
from delta_lora import state as state_file
from delta_lora.anchor import Branch, Fold
from delta_lora.errors import UserError
from delta_lora.layers import MARK, Anchor
from delta_lora.reference import Literal
from delta_lora.watch import StepWatch


class DeltaLora:
    """Moves the frozen weights W of a PEFT LoRA model along with the product of their factors.

    Algorithm 1 adds λ·s·(B⁺A⁺ − BA) to W after every optimizer step t > K (t from 0). The sum telescopes:
    with the anchor (A_*, B_*), the factors after K+1 steps, the effective weight W + s·BA is

        W_0 − λ s B_*A_* + (1+λ) s B A.

    So the anchor is taken once, after step K+1: −λ s B_*A_* goes into W (or into a frozen branch beside it),
    and from then on plain LoRA runs at scale (1+λ)s, with the gradients of A and B multiplied by 1/(1+λ). A
    further :meth:`step` costs nothing. Use::

        delta = DeltaLora(peft_model, update_ratio=2.0, start_steps=500)
        …; loss.backward(); optimizer.step(); delta.step(); optimizer.zero_grad()

    Call :meth:`step` once after every optimizer step, on every process. A step that a ``GradScaler`` or, while
    gradients accumulate, ``accelerate`` skipped is no step, and is noticed. Don't call it between a forward pass and
    its backward pass, which must see the same W.

    Args:
        model: a ``PeftModel``, also inside DDP or ``torch.compile``. Its optimizer must hold the LoRA
            factors.
        update_ratio: λ ≥ 0; 0 is plain LoRA, bit for bit.
        start_steps: K ≥ 0; W first changes with optimizer step K+2, counted from 1.
        literal: Algorithm 1 as printed, with its dense product per step. Needed under LoRA dropout.
        adapter_name: which adapter; by default the active one.
        anchor: ``fold`` rewrites W in place, ``branch`` leaves it alone (quantized or shared weights; costs a
            second low-rank product), ``auto`` folds where it can. Without meaning for ``literal``.

    Attributes:
        model: the unwrapped ``PeftModel``.
        update_ratio: λ.
        start_steps: K.
        steps: optimizer steps seen so far.

    Raises:
        UserError: no LoRA layers, an unknown adapter, or a layer or option that the method does not fit; the
            message has the reason and the alternative.
    """

    def __init__(
        self,
        model: nn.Module,
        update_ratio: float,
        start_steps: int,
        *,
        literal: bool = False,
        adapter_name: str | None = None,
        anchor: Anchor = "auto",
    ) -> None:
        if (
            isinstance(update_ratio, bool)
            or not isinstance(update_ratio, int | float)
            or not 0 <= update_ratio < math.inf
        ):
            raise UserError(f"update_ratio must be a finite number ≥ 0, got {update_ratio!r}")
        if isinstance(start_steps, bool) or not isinstance(start_steps, int) or start_steps < 0:
            raise UserError(f"start_steps must be an integer ≥ 0, got {start_steps!r}")
        if anchor not in ("fold", "branch", "auto"):
            raise UserError(f"anchor must be 'fold', 'branch' or 'auto', got {anchor!r}")
        model = _unwrap(model)
        if adapter_name is None:
            adapter_name = model.active_adapter if isinstance(model, PeftModel) else "default"
        self._layers = layers.adapted_layers(model, adapter_name)
        assert isinstance(model, PeftModel)  # adapted_layers has refused anything else
        self.model = model
        self.adapter_name = adapter_name
        self.update_ratio = float(update_ratio)
        self.start_steps = start_steps
        self.literal = literal
        self.steps = 0
        self._anchor: Anchor = anchor
        self._forms: list[Fold | Branch | Literal] = []
        self._trained = False
        self._open = True
        if self.update_ratio > 0:
            for layer in self._layers:
                layers.check(layer, literal=literal, anchor=anchor)
        self._watch = StepWatch([layer.b for layer in self._layers])
        self._probes = [layers.add_hook(layer.b, self._on_gradient) for layer in self._layers]

    @property
    def anchored(self) -> bool:
        """Whether the anchor is taken: after step K+1, never at λ = 0."""
        return bool(self._forms)

    def step(self) -> None:
        """Count one optimizer step, if there was one; take the anchor after step K+1.

        Raises:
            UserError: no gradient has reached the adapter yet, or :meth:`detach` was called.
        """
        if not self._trained:
            raise UserError(
                f"step() was called before any backward pass reached adapter {self.adapter_name!r}: call it after"
                " loss.backward() and optimizer.step(), on a trainable, active adapter"
            )
        if not self._open:
            raise UserError("step() was called after detach() or merge(): make a new DeltaLora on a fresh model")
        if not self._watch.stepped():
            return
        if self._probes:
            self._remove_probes()
        if self.steps == self.start_steps and self.update_ratio > 0:
            self._place([layer.snapshot() for layer in self._layers])
        elif self.literal:
            for form in self._forms:
                assert isinstance(form, Literal)
                form.update()
        self.steps += 1

    def belongs_to(self, model: nn.Module) -> bool:
        """Whether this object moves ``model`` (wrapped or not)."""
        return _unwrap(model) is self.model

    def effective_delta(self) -> Iterator[tuple[str, Tensor, Tensor]]:
        """The whole learned update of each layer, effective W − W_0 = b @ a, as low-rank factors.

        Yields:
            ``(name, b, a)``: the layer's name in the plain model, b (d, R) with all scales in it, a (R, c); R
            is r before the anchor is taken (and at λ = 0), 2r after. Float32 or wider, detached copies on W's
            device.
        """
        for index, layer in enumerate(self._layers):
            dtype = torch.promote_types(layer.a.dtype, torch.float32)
            a, b = (factor.to(dtype) for factor in layer.snapshot())
            if not self.anchored:
                yield layer.name, layer.scale * b, a
            else:
                form, shift = self._forms[index], self.update_ratio * layer.scale
                b_anchor, a_anchor = form.b.to(b), form.a.to(a)
                yield (
                    layer.name,
                    torch.cat([(layer.scale + shift) * b, -shift * b_anchor], 1),
                    torch.cat([a, a_anchor]),
                )

    def state_dict(self) -> dict[str, Any]:
        """Counters, settings and the anchor: with the adapter's own weights, all that resuming needs.

        A few megabytes at gpt2-medium size; tensors are on the CPU and, but for W in a ``literal`` run, never dense.
        """
        entries: dict[str, Any] = {layer.name: {"shape": layer.shape, "scale": layer.scale} for layer in self._layers}
        for entry, form in zip(entries.values(), self._forms, strict=False):
            entry |= form.state()
        return {"steps": self.steps, **self._settings(), "layers": entries}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state`` was taken. Load the adapter's weights separately, before or after.

        The base weights must be those that training began with (the checkpoint anyone loads), or those of a
        dense checkpoint made at the same time as the state; both are recognized. The continuation is then
        exact: bitwise on the CPU.

        Raises:
            UserError: a state of another model, of other settings, or base weights that fit neither case.
        """
        state_file.check(state, self._settings(), self._layers)
        if self.anchored:
            self.restore()
        entries = [state["layers"][layer.name] for layer in self._layers]
        if "A" in entries[0]:
            moved = [
                state_file.base_has_moved(layer, entry) for layer, entry in zip(self._layers, entries, strict=True)
            ]
            self._place([(entry["A"], entry["B"]) for entry in entries], moved)
            for form, entry, done in zip(self._forms, entries, moved, strict=True):
                form.resume(entry, done)
        self.steps = state["steps"]
        self._trained = self._trained or self.steps > 0

    def restore(self) -> None:
        """Give back W_0 and scale s, and start counting anew. A and B stay as they are.

        W_0 comes back bit for bit from a fold or a branch. What a fold could not undo by itself is kept on
        the CPU, some per cent of the entries. A literal run, and a dense checkpoint that was folded already,
        come back to float rounding.
        """
        for form, layer in zip(self._forms, self._layers, strict=False):
            form.remove()
            getattr(layer.module, MARK).discard(self.adapter_name)
        self._forms = []
        self.steps = 0

    def merge(self) -> PreTrainedModel:
        """Merge everything learned into the weights and return the plain model, in place; this ends the run.

        ``save_pretrained`` on it writes a stock checkpoint. A split GPT-2 is fused again.

        Raises:
            UserError: a base weight is tied to another module, which merging would change too.
        """
        tied = next((layer for layer in self._layers if layer.tied_to), None)
        if tied is not None:
            raise UserError(
                f"cannot merge into {tied.name}: its weight is tied to {', '.join(tied.tied_to)}; use export()"
            )
        merged = export.merge(self.model, self.adapter_name)
        self.detach()
        return merged

    def export(self, directory: str | Path) -> None:
        """Write the learned update as a stock PEFT adapter of rank 2r over the untouched base.

        ``PeftModel.from_pretrained(stock_base, directory)`` needs nothing of this package. For a split GPT-2
        the adapter is one on the stock fused ``c_attn``, in block form.

        Args:
            directory: made where missing; gets ``adapter_config.json`` and ``adapter_model.safetensors``.

        Raises:
            UserError: the adapter's initialisation had rewritten the base (PiSSA and its like).
        """
        export.write_adapter(self.model, self.adapter_name, self.effective_delta(), Path(directory))

    def detach(self) -> None:
        """Remove every gradient hook and end the run; the model keeps what it has learned, for inference."""
        self._remove_probes()
        self._watch.close()
        for form in self._forms:
            if not isinstance(form, Literal):
                form.live.remove_hooks()
        self._open = False

    def _place(self, anchors: list[tuple[Tensor, Tensor]], moved: list[bool] | None = None) -> None:
        """Take these factors as the anchor; where ``moved``, the base has it folded in already."""
        for layer in self._layers:
            layers.check(layer, literal=self.literal, anchor=self._anchor)
            if layer.module.merged:
                raise UserError(f"{layer.name} is merged: call unmerge_adapter() before training goes on")
        for layer, (a, b), folded in zip(self._layers, anchors, moved or [False] * len(anchors), strict=True):
            form: Fold | Branch | Literal
            if self.literal:
                form = Literal(layer, self.update_ratio, a, b)
            elif self._anchor == "branch" or layers.foldable(layer):
                form = Branch(layer, self.update_ratio, a, b)
            else:
                form = Fold(layer, self.update_ratio, a, b, folded=folded)
            self._forms.append(form)
            setattr(layer.module, MARK, {*getattr(layer.module, MARK, ()), self.adapter_name})

    def _settings(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in state_file.SETTINGS}

    def _on_gradient(self, gradient: Tensor | None) -> None:
        self._trained = True

    def _remove_probes(self) -> None:
        for probe in self._probes:
            probe.remove()
        self._probes = []

    def __repr__(self) -> str:
        kinds = sorted({form.kind for form in self._forms})
        state = f"anchored ({', '.join(kinds)})" if kinds else "not anchored"
        return (
            f"DeltaLora(update_ratio={self.update_ratio:g}, start_steps={self.start_steps},"
            f" steps={self.steps},"
            f" adapter={self.adapter_name!r}, layers={len(self._layers)}, {state})"
        )


def _unwrap(model: nn.Module) -> nn.Module:
    """The model inside ``torch.compile``, DDP and the like."""
    while not isinstance(model, PeftModel):
        inner = getattr(model, "_orig_mod", None) or getattr(model, "module", None)
        if not isinstance(inner, nn.Module):
            break
        model = inner
    return model
