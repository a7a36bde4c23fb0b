"""Whether gradients reach the adapter, and whether an optimizer has really stepped.

A ``GradScaler`` and ``accelerate`` skip steps without telling anyone.
"""

import warnings
import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook

from delta_lora.layers import add_hook

PATIENCE = 100  # a GradScaler halves its scale at each skipped step, so it never skips this many in a row


class GradientProbe:
    """Notices the first gradient of any of ``parameters``; ``reached`` says whether there was one."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.reached = False
        self._handles = [add_hook(parameter, self._notice) for parameter in parameters]

    def remove(self) -> None:
        """Stop looking."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _notice(self, gradient: torch.Tensor | None) -> None:
        self.reached = True


class StepWatch:
    """Notices the steps of the ``torch.optim`` optimizer that holds some of ``parameters``.

    A scaler skips a step by not calling the optimizer or, if it is a fused one, by telling it of the overflow;
    ``accelerate`` does not call it while gradients accumulate. Until an optimizer is seen stepping, and for good with
    one from outside torch, a step is what has changed the parameters.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self._parameters = parameters
        self._before: list[torch.Tensor] = [parameter.detach().clone() for parameter in parameters]
        self._seen = self._stepped = False
        self._ignored = 0
        self._ours: weakref.WeakSet[Optimizer] = weakref.WeakSet()
        watch = weakref.ref(self)  # the hook is global, and must not keep the model alive

        def after_step(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
            if (alive := watch()) is not None:
                alive._after_step(optimizer)

        handle = register_optimizer_step_post_hook(after_step)
        self._finalizer = weakref.finalize(self, handle.remove)

    def stepped(self) -> bool:
        """Whether there was an optimizer step since the last call."""
        made = self._stepped if self._seen else self._changed()
        self._stepped = False
        self._ignored = 0 if made else self._ignored + 1
        if self._ignored == PATIENCE:
            warnings.warn(
                f"delta.step() has ignored {PATIENCE} calls in a row, since no optimizer step came in between; where"
                " steps are replayed unseen by Python (CUDA graphs), make the DeltaLora after capturing them",
                stacklevel=3,
            )
        return made

    def close(self) -> None:
        """Stop watching."""
        self._finalizer()

    def _after_step(self, optimizer: Optimizer) -> None:
        if optimizer not in self._ours:
            held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
            if held.isdisjoint(map(id, self._parameters)):
                return
            self._ours.add(optimizer)
        self._seen, self._before = True, []
        overflow = getattr(optimizer, "found_inf", None)  # there while a GradScaler calls a fused optimizer
        self._stepped = self._stepped or overflow is None or not bool(overflow)

    def _changed(self) -> bool:
        pairs = zip(self._parameters, self._before, strict=True)
        changed = any(not torch.equal(parameter, before.to(parameter)) for parameter, before in pairs)
        if changed:
            self._before = [parameter.detach().clone() for parameter in self._parameters]
        return changed
