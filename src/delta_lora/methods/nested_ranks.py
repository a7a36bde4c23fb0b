"""DyLoRA at work: LoRA layers truncated to their first b ranks, and the Trainer's callback that draws b."""

from typing import Any

import numpy as np
import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class NestedRanks:
    """Truncates LoRA layers to their first b ranks, in the forward pass and in the optimizer's step.

    The forward pass sets the entries of A x (…, r) beyond the first b to zero and PEFT's scale to α/b: that is the
    truncated branch, for the cost of one small product, and the gradients of the ranks above b are zero. With
    ``frozen`` those of the ranks below b are dropped too, as if detached.

    A zero gradient does not stop AdamW: weight decay and momentum still move those ranks, as in the authors' code, and
    their second moment falls, so that the next gradient moves them further. To confine a step to the ranks that it
    reaches (they keep their values *and* their moments, as in ``torch.optim.SparseAdam``), :meth:`before_step` and
    :meth:`after_step` go around ``optimizer.step()``.
    """

    def __init__(self, layers: list[LoraLayer], rank: int, eval_rank: int, *, frozen: bool) -> None:
        self.rank, self.eval_rank, self.frozen = rank, eval_rank, frozen
        self.current = rank
        self._masks: dict[tuple[Any, ...], Tensor] = {}
        self._kept: list[Tensor] = []
        self._a: list[nn.Parameter] = []
        self._b: list[nn.Parameter] = []
        for layer in layers:
            assert isinstance(layer, nn.Module)
            layer.register_forward_pre_hook(self._scale)
            layer.lora_A["default"].register_forward_hook(self._truncate)
            a = layer.lora_A["default"].get_parameter("weight")
            b = layer.lora_B["default"].get_parameter("weight")
            self._a.append(a)
            self._b.append(b)
            if frozen:
                a.register_hook(lambda grad: grad * self._mask(grad, 0, reached=True))
                b.register_hook(lambda grad: grad * self._mask(grad, 1, reached=True))

    def draw(self, seed: int, step: int) -> int:
        """Draw b for an optimizer step.

        A function of ``seed`` and ``step`` alone (a counter-based generator): a resumed run and every process
        of a distributed one draw the same, with no state to save.
        """
        generator = np.random.Generator(np.random.Philox(key=seed, counter=step))
        self.current = int(generator.integers(1, self.rank + 1))
        return self.current

    @torch.no_grad()
    def before_step(self, optimizer: Optimizer) -> None:
        """Remember what the step must not change: values and moments of the ranks it does not reach."""
        self._kept = []
        if self.current < self.rank or self.frozen:
            self._kept = list(torch._foreach_mul(*self._tensors(optimizer, reached=False)))

    @torch.no_grad()
    def after_step(self, optimizer: Optimizer) -> None:
        """Put back what :meth:`before_step` remembered; moments that the step has created start at zero."""
        if self._kept:
            tensors, masks = self._tensors(optimizer, reached=True)
            torch._foreach_mul_(tensors, masks)
            torch._foreach_add_(tensors[: len(self._kept)], self._kept)
            self._kept = []

    def _active(self, module: nn.Module) -> int:
        return self.current if module.training else self.eval_rank

    def _scale(self, layer: Any, inputs: tuple[Any, ...]) -> None:
        layer.scaling["default"] = layer.lora_alpha["default"] / self._active(layer)

    def _truncate(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        b = self._active(module)
        if b == self.rank:
            return None
        key = (b, output.device, output.dtype)
        if key not in self._masks:
            with torch.inference_mode(False):  # the first to ask may be an evaluation, the next a training step
                self._masks[key] = (torch.arange(self.rank, device=output.device) < b).to(output.dtype)
        return output * self._masks[key]

    def _tensors(self, optimizer: Optimizer, *, reached: bool) -> tuple[list[Tensor], list[Tensor]]:
        """All A and B, then the moments that the optimizer keeps of them; and the mask of each."""
        tensors: list[Tensor] = []
        masks: list[Tensor] = []
        for parameters, axis in ((self._a, 0), (self._b, 1)):
            tensors += parameters
            masks += [self._mask(parameter, axis, reached=reached) for parameter in parameters]
        for parameter, mask in list(zip(tensors, masks, strict=True)):
            for moment in optimizer.state.get(parameter, {}).values():
                if isinstance(moment, Tensor) and moment.shape == parameter.shape:
                    tensors.append(moment)
                    masks.append(mask)
        return tensors, masks

    def _mask(self, like: Tensor, axis: int, *, reached: bool) -> Tensor:
        """1 where the step reaches a rank (or does not), else 0: shaped as ``like``, whose ranks lie along ``axis``."""
        key = (self.current, axis, reached, like.shape, like.device, like.dtype)
        if key not in self._masks:
            mask = torch.full_like(like, not reached, requires_grad=False)
            first = self.current - 1 if self.frozen else 0
            mask.narrow(axis, first, self.current - first).fill_(reached)
            self._masks[key] = mask
        return self._masks[key]


class NestedRanksCallback(TrainerCallback):
    """Draws b before every step of the Trainer; with ``confine`` a step moves only the ranks that it reaches."""

    def __init__(self, ranks: NestedRanks, *, confine: bool) -> None:
        self.ranks = ranks
        self.confine = confine

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Draw b: once for all micro-batches of the step."""
        self.ranks.draw(args.seed, state.global_step)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Remember the ranks that the step does not reach."""
        if self.confine:
            self.ranks.before_step(kwargs["optimizer"])

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Put them back."""
        self.ranks.after_step(kwargs["optimizer"])
