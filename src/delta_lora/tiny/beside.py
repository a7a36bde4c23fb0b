"""Gradients of weights, computed on a second core beside the backward pass that they do not take part in."""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

# A module, and its weight's and its bias's gradient to come.
Pending = list[tuple[Any, "Future[tuple[Tensor, Tensor | None]]"]]


@contextmanager
def weight_gradients_beside(model: nn.Module) -> Iterator[Callable[[], None]]:
    """The backward pass of a float32 ``model`` leaves the weights of its linear layers to another thread.

    One product in three of a training step is such a gradient, which nothing in the same backward pass needs. They are
    the products that autograd itself would compute, so that each gradient is the same to the last bit. A weight that
    more than two modules share stays autograd's: of three terms the order of summation shows.

    Returns:
        What to call after each ``backward()``: it waits for the gradients and adds them to the parameters.
    """
    pending: Pending = []
    linear: list[Any] = [module for module in model.modules() if type(module) in (nn.Linear, Conv1D)]
    uses = Counter(id(p) for module in model.modules() for p in module.parameters(recurse=False))
    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for module in linear:
            if uses[id(module.weight)] <= 2:
                module.forward = _Layer(module, pool, pending)
        try:
            yield lambda: _collect(pending)
        finally:
            for module in linear:
                vars(module).pop("forward", None)


class _Layer:
    """A linear layer's forward pass."""

    def __init__(self, module: Any, pool: ThreadPoolExecutor, pending: Pending) -> None:
        self.module, self.pool, self.pending = module, pool, pending
        self.transposed = isinstance(module, Conv1D)  # its weight is (in, out)

    def __call__(self, x: Tensor) -> Tensor:
        """x (…, in) → (…, out)."""
        module = self.module
        output: Tensor = _Linear.apply(x.reshape(-1, x.shape[-1]), module.weight, module.bias, self)
        return output.view(*x.shape[:-1], output.shape[-1])


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, layer: _Layer) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.layer = layer
        matrix = weight if layer.transposed else weight.t()
        return x.mm(matrix) if bias is None else torch.addmm(bias, x, matrix)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None, None]:
        x, weight = ctx.saved_tensors
        layer: _Layer = ctx.layer
        left, right = (x, g) if layer.transposed else (g, x)
        layer.pending.append((layer.module, layer.pool.submit(_gradients, left, right, g, layer.module.bias)))
        return g.mm(weight.t() if layer.transposed else weight), None, None, None


@torch.no_grad()
def _gradients(left: Tensor, right: Tensor, g: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
    return left.t().mm(right), None if bias is None else g.sum(0)


def _collect(pending: Pending) -> None:
    for module, future in pending:
        for parameter, gradient in zip((module.weight, module.bias), future.result(), strict=True):
            if gradient is not None:
                parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
    pending.clear()
