"""What a run computes in: float32, or bfloat16 with float32 for what learns."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Literal

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from delta_lora.errors import RunError
from delta_lora.methods.base import Method, ModelSpec

NOT_NUMBERS = (
    "the model gives no numbers (NaN) for an input, so it has no answer; if it computes in bf16, try precision=fp32 "
    "(task.decode.precision, task.train.precision); if that is the same, train again"
)


def uses_bf16(precision: str) -> bool:
    """Whether ``task.train.precision`` means bf16 autocast here; ``auto``: where the processor multiplies in it."""
    return precision == "bf16" or (precision == "auto" and has_bf16())


def resolved_precision(precision: str) -> Literal["bf16", "fp32"]:
    """What ``task.train.precision`` became here, for a record: ``auto`` is one key for both."""
    return "bf16" if uses_bf16(precision) else "fp32"


def has_bf16() -> bool:
    """Whether the GPU, or without one the CPU (AVX-512 BF16, AMX), multiplies in bfloat16 and does not emulate it."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


@contextmanager
def computing_in(model: nn.Module, precision: str) -> Iterator[None]:
    """Hold all weights of ``model`` in ``precision`` (``task.decode.precision``), and give them back as they were."""
    if precision == "fp32":
        yield
        return
    originals = [(parameter, parameter.data) for parameter in model.parameters()]
    for parameter, original in originals:
        parameter.data = original.to(torch.bfloat16)
    try:
        yield
    finally:
        for parameter, original in originals:
            parameter.data = original


@contextmanager
def training_in(model: nn.Module, method: Method, spec: ModelSpec, *, bf16: bool) -> Iterator[None]:
    """How a model is held while it trains under bf16 autocast; in float32 nothing changes.

    The frozen base is in the dtype of autocast, but for what the method rewrites (Algorithm 1). On a CPU attention is
    the plain matrix products: the backward pass of PyTorch 2.13's fused kernel took a quarter of a step in bf16 (of
    SmolLM2-135M on E2E; in float32 the two cost the same).

    Args:
        model: prepared by the method.
        method: the method.
        spec: of the model.
        bf16: whether autocast computes in bfloat16.
    """
    if not bf16:
        yield
        return
    # PEFT wraps it
    transformer = next(module for module in model.modules() if isinstance(module, PreTrainedModel))
    attention = nullcontext() if torch.cuda.is_available() else attention_as(transformer, "eager")
    with frozen_matrices_in(model, torch.bfloat16, but=spec.target_modules if method.rewrites_base else ()), attention:
        yield


@contextmanager
def attention_as(model: PreTrainedModel, name: str) -> Iterator[None]:
    """Transformers' attention of that name (``eager``, ``sdpa``, a registered one) for ``model``; then as before."""
    before = model.config._attn_implementation
    model.set_attn_implementation(name)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


@contextmanager
def frozen_matrices_in(model: nn.Module, dtype: torch.dtype, *, but: tuple[str, ...] = ()) -> Iterator[None]:
    """Hold the frozen matrices of ``model`` in ``dtype``, and give them back as they were.

    Autocast multiplies by them in ``dtype`` anyway, and would cast each at every use: the results are the same, bit for
    bit. What learns, adapters, embeddings and what is tied to them stay as they are. The originals wait on the CPU.

    Args:
        model: a model, also wrapped by PEFT.
        dtype: what autocast computes in.
        but: names of modules that something else rewrites meanwhile.
    """
    originals = []
    for parameter in list(_frozen_matrices(model, but)):
        originals.append((parameter, parameter.data.cpu()))
        parameter.data = parameter.data.to(dtype)
    try:
        yield
    finally:
        for parameter, original in originals:
            parameter.data = original.to(parameter.device)


def _frozen_matrices(model: nn.Module, but: tuple[str, ...]) -> Iterator[nn.Parameter]:
    """The float32 weights and biases of linear layers of the base that do not learn and that no other module shares."""
    owners: dict[nn.Parameter, int] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            owners[parameter] = owners.get(parameter, 0) + 1
    adapters = {
        part
        for module in model.modules()
        if isinstance(module, BaseTunerLayer)
        for name in module.adapter_layer_names
        if isinstance(layers := getattr(module, name, None), nn.Module)
        for part in layers.modules()
    }
    for name, module in model.named_modules():
        path = name.split(".")
        if not isinstance(module, nn.Linear | Conv1D) or module in adapters or any(part in but for part in path):
            continue
        for parameter in module.parameters(recurse=False):
            if not parameter.requires_grad and parameter.dtype == torch.float32 and owners[parameter] == 1:
                yield parameter


def check_numbers(values: Tensor) -> None:
    """What a model gives must be numbers: from NaN a text or a class would be taken all the same.

    Raises:
        RunError: some of ``values`` are NaN.
    """
    if bool(values.isnan().any()):
        raise RunError(NOT_NUMBERS)
