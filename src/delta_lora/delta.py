"""Delta-LoRA for any PEFT model with LoRA layers (arXiv 2309.02411)."""

import warnings
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from delta_lora import export, forms, layers
from delta_lora import state as state_file
from delta_lora.errors import UserError
from delta_lora.inits import START_LOST, start_offsets
from delta_lora.layers import Anchor
from delta_lora.peft_config import make_all_writable
from delta_lora.reference import Algorithm1
from delta_lora.state import Settings
from delta_lora.updates import LowRankUpdate
from delta_lora.watch import GradientProbe, StepWatch


class DeltaLora:
    """Moves the frozen weights W of a PEFT LoRA model along with the product of their factors.

    Algorithm 1 adds λ·s·(B⁺A⁺ − BA) to W after every optimizer step t > K (t from 0). The sum telescopes: with the
    anchor (A_*, B_*), the factors after K+1 steps, the effective weight W + s·BA is

        W_0 − λ s B_*A_* + (1+λ) s B A.

    So the anchor is taken once, after step K+1: −λ s B_*A_* goes into W (or into a frozen branch beside it), and from
    then on plain LoRA runs at scale (1+λ)s, with the gradients of A and B multiplied by 1/(1+λ). Use::

        delta = DeltaLora(peft_model, update_ratio=2.0, start_steps=500)
        …; loss.backward(); optimizer.step(); delta.step(); optimizer.zero_grad()

    Call :meth:`step` once after every optimizer step, on every process. A step that a ``GradScaler`` or, while
    gradients accumulate, ``accelerate`` skipped is no step, and is noticed. Don't call it between a forward pass and
    its backward pass, which must see the same W.

    Where the initialisation rewrites the base (PiSSA, OLoRA), the update is over the checkpoint's weights all the same.

    Args:
        model: a ``PeftModel``, also inside DDP or ``torch.compile``. Its optimizer must hold the LoRA factors.
        update_ratio: λ ≥ 0; 0 is plain LoRA, bit for bit.
        start_steps: K ≥ 0; W first changes with optimizer step K+2, counted from 1.
        literal: Algorithm 1 as printed, with its dense product per step. Needed under LoRA dropout.
        adapter_name: which adapter; by default the active one.
        anchor: ``fold`` rewrites W in place, ``branch`` leaves it alone (quantized or shared weights; costs a
            second low-rank product), ``auto`` folds a W of 32 bits where it can. Without meaning for ``literal``.

    Attributes:
        model: the unwrapped ``PeftModel``.
        update_ratio, start_steps: λ and K.
        steps, exported_at: optimizer steps seen so far, and those seen at the last :meth:`export`, if any.
        offsets: by layer, how far W was from the checkpoint's W_0 before training: PiSSA's part, another run's.

    Raises:
        UserError: no LoRA layers, an unknown adapter, or a layer, option or initialisation that the method does not
            fit; the message has the reason and the alternative.
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
        self._settings = Settings(update_ratio, start_steps, literal)
        layers.check_anchor(anchor)
        model = layers.unwrap(model)
        if adapter_name is None:
            adapter_name = model.active_adapter if isinstance(model, PeftModel) else "default"
        self._layers = layers.adapted_layers(model, adapter_name)
        assert isinstance(model, PeftModel)  # adapted_layers has refused anything else
        make_all_writable(model)
        self.model, self.adapter_name = model, adapter_name
        self.update_ratio, self.start_steps, self.literal, self.steps = float(update_ratio), start_steps, literal, 0
        offsets = start_offsets(model, adapter_name)
        self.offsets: dict[str, LowRankUpdate] = offsets or {}
        self._start_known = offsets is not None
        self._anchor: Anchor = anchor
        self.exported_at: int | None = None
        self._forms: list[forms.Form] = []
        self._open = True
        for layer in self._layers if self.update_ratio > 0 else []:
            layers.check(layer, literal=literal, anchor=anchor)
        self._watch = StepWatch([layer.b for layer in self._layers])
        self._probe = GradientProbe([layer.b for layer in self._layers])

    @property
    def anchored(self) -> bool:
        """Whether the anchor is taken: after step K+1, never at λ = 0."""
        return bool(self._forms)

    def step(self) -> None:
        """Count one optimizer step, if there was one; take the anchor after step K+1.

        Raises:
            UserError: no gradient has reached the adapter yet, or :meth:`detach` was called.
        """
        if not self._probe.reached:
            raise UserError(
                f"step() was called before any backward pass reached adapter {self.adapter_name!r}: call it after"
                " loss.backward() and optimizer.step(), on a trainable, active adapter"
            )
        if not self._open:
            raise UserError("step() was called after detach() or merge(): make a new DeltaLora on a fresh model")
        self._check_start()
        if not self._watch.stepped():
            return
        self._probe.remove()
        if self.steps == self.start_steps and self.update_ratio > 0:
            self._place([(*layer.snapshot(), False) for layer in self._layers])
        elif self.literal:
            for form in self._forms:
                assert isinstance(form, Algorithm1)
                form.update()
        self.steps += 1

    def belongs_to(self, model: nn.Module) -> bool:
        """Whether this object moves ``model`` (wrapped or not)."""
        return layers.unwrap(model) is self.model

    def effective_delta(self) -> Iterator[tuple[str, Tensor, Tensor]]:
        """The whole learned update of each layer, effective W − W_0 = b @ a, as low-rank factors.

        Yields:
            ``(name, b, a)``: the layer's name in the plain model, b (d, R) with all scales in it, a (R, c); R is r
            before the anchor, 2r after, and r more where the initialisation rewrote W_0. Float32 or wider, copies.

        Raises:
            UserError: the initialisation rewrote W_0, and the adapter had left its start when this object was made.
        """
        self._check_start()
        for layer, form in self._pairs():
            update = forms.learned(layer, form, self.update_ratio, branch=True).plus(self.offsets.get(layer.name))
            yield layer.name, update.b, update.a

    def base_updates(self) -> dict[str, LowRankUpdate]:
        """How far W itself is from W_0, without the branch s·BA, by layer, where it has moved; errors as above."""
        self._check_start()
        found = dict(self.offsets)
        for layer, form in self._pairs():
            if form is not None:
                moved = forms.learned(layer, form, self.update_ratio, branch=False)
                found[layer.name] = moved.plus(self.offsets.get(layer.name))
        return found

    def state_dict(self) -> dict[str, Any]:
        """Counters, settings and the anchor: with the adapter's own weights, all that resuming needs.

        A few megabytes at gpt2-medium size, on the CPU; but for W in a ``literal`` run, no tensor is dense.
        """
        self._check_start()
        entries = {layer.name: state_file.entry(layer, form, self.offsets) for layer, form in self._pairs()}
        return {"steps": self.steps, **self._settings.as_dict(), "layers": entries}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state`` was taken. Load the adapter's weights separately, before or after.

        The base weights must be those that training began with (the checkpoint anyone loads), or those of a dense
        checkpoint made with the state; both are recognized. The continuation is exact then: bitwise on the CPU.

        Raises:
            UserError: a state of another model, of other settings, or base weights that fit neither case.
        """
        state_file.check(state, self._settings, self._layers)
        if self.anchored:
            self.restore()
        entries = [state["layers"][layer.name] for layer in self._layers]
        moved = [state_file.base_has_moved(layer, entry) for layer, entry in zip(self._layers, entries, strict=True)]
        if offsets := state_file.offsets(state):
            self.offsets, self._start_known = offsets, True
        if "A" in entries[0]:
            self._place([(entry["A"], entry["B"], done) for entry, done in zip(entries, moved, strict=True)])
            for form, entry, done in zip(self._forms, entries, moved, strict=True):
                form.resume(entry, done)
        self.steps = state["steps"]
        self._probe.reached |= self.steps > 0

    def restore(self) -> None:
        """Give back W_0 and scale s, and start counting anew. A and B stay as they are.

        Bit for bit from a fold or a branch; from a literal run, or a base that came folded, to float rounding.
        """
        for layer, form in zip(self._layers, self._forms, strict=False):
            forms.remove(layer, form)
        self._forms = []
        self.steps = 0

    def merge(self) -> PreTrainedModel:
        """Merge everything learned into the weights, in place, and return the stock model; this ends the run.

        Raises:
            UserError: a base weight is tied to another module, which merging would change too.
        """
        layers.check_mergeable(self._layers)
        merged = export.merge(self.model, self.adapter_name)
        self.detach()
        return merged

    def export(self, directory: str | Path) -> None:
        """Write the learned update as a stock PEFT adapter of rank 2r over the untouched base, and read it back.

        ``PeftModel.from_pretrained(stock_base, directory)`` needs nothing of this package; a split GPT-2's is one on
        the stock fused ``c_attn``. ``directory`` is made where missing.

        Raises:
            UserError, RunError: as for :meth:`effective_delta`; PEFT reads something else, so that nothing is exported.
        """
        if reason := self._settings.plain_lora(self.steps):
            warnings.warn(f"what is exported {reason}", stacklevel=2)
        updates = {name: LowRankUpdate(b, a) for name, b, a in self.effective_delta()}
        export.write_adapter(self.model, self.adapter_name, updates, Path(directory))
        self.exported_at = self.steps

    def detach(self) -> None:
        """Remove every gradient hook and end the run; the model keeps what it has learned, for inference."""
        self._probe.remove()
        self._watch.close()
        for form in self._forms:
            if not isinstance(form, Algorithm1):
                form.live.remove_hooks()
        self._open = False

    def _place(self, anchors: list[tuple[Tensor, Tensor, bool]]) -> None:
        self._forms = forms.place(self._layers, self.update_ratio, anchors, literal=self.literal, anchor=self._anchor)

    def _pairs(self) -> Iterator[tuple[layers.AdaptedLayer, forms.Form | None]]:
        """Each layer and its form, None before the anchor is taken."""
        return zip_longest(self._layers, self._forms)

    def _check_start(self) -> None:
        if not self._start_known:
            raise UserError(START_LOST.format(self.adapter_name))

    def __repr__(self) -> str:
        kinds = ", ".join(sorted({form.kind for form in self._forms}))
        return (
            f"DeltaLora(update_ratio={self.update_ratio:g}, start_steps={self.start_steps}, steps={self.steps}, "
            f"adapter={self.adapter_name!r}, layers={len(self._layers)}, "
            f"{f'anchored ({kinds})' if kinds else 'not anchored'})"
        )
