"""GPT-2's fused query, key and value projection, split into three linear layers and fused again.

Split, every method adapts ``q_proj`` and ``v_proj`` as it does in RoBERTa and BART, and every parameter count
means the same thing. Fused, the model is the stock one again: it saves and loads without this package. Its activation,
which stock code computes in six steps, runs as the one kernel that PyTorch has for it.
"""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.activations import NewGELUActivation
from transformers.models.gpt2.modeling_gpt2 import GPT2Attention
from transformers.pytorch_utils import Conv1D

from delta_lora.errors import UserError

PARTS = ("q_proj", "k_proj", "v_proj")


class SplitProjection(nn.Module):
    """The three projections of one attention block; ``forward`` returns what the fused ``c_attn`` would.

    It stands in ``c_attn``'s place, so GPT-2's own attention code runs unchanged.

    Args:
        fused: ``Conv1D`` with a weight of shape ``(d, 3d)``, columns in the order query, key, value.
    """

    def __init__(self, fused: Conv1D) -> None:
        super().__init__()
        weights = fused.weight.detach().chunk(len(PARTS), dim=1)
        biases = fused.bias.detach().chunk(len(PARTS))
        for name, weight, bias in zip(PARTS, weights, biases, strict=True):
            part = nn.Linear(weight.shape[0], weight.shape[1], device="meta")
            # A Conv1D holds its weight transposed; the clones give each part a storage of its own.
            part.weight = nn.Parameter(weight.T.clone(memory_format=torch.contiguous_format))
            part.bias = nn.Parameter(bias.clone())
            part.weight.requires_grad_(fused.weight.requires_grad)
            part.bias.requires_grad_(fused.bias.requires_grad)
            self.add_module(name, part)
        self.train(fused.training)

    def forward(self, hidden: Tensor) -> Tensor:
        """``(batch, sequence, d)`` → ``(batch, sequence, 3d)``: query, key and value side by side."""
        return torch.cat([self.get_submodule(name)(hidden) for name in PARTS], dim=-1)

    def fuse(self) -> Conv1D:
        """The stock ``Conv1D`` with bit for bit the same numbers.

        Raises:
            UserError: a part is not a plain linear layer (it carries an adapter that must be merged first).
        """
        parts: list[nn.Linear] = []
        for name in PARTS:
            part = self.get_submodule(name)
            if type(part) is not nn.Linear:
                raise UserError(
                    f"cannot fuse {name}: it is a {type(part).__name__}, not a plain linear layer;"
                    " merge and unload the adapter first"
                )
            parts.append(part)
        weight = torch.cat([part.weight.detach().T for part in parts], dim=1).contiguous()
        bias = torch.cat([part.bias.detach() for part in parts])
        with torch.device("meta"):  # no memory and no random numbers for values that are replaced at once
            fused = Conv1D(weight.shape[1], weight.shape[0])
        fused.weight = nn.Parameter(weight, requires_grad=any(part.weight.requires_grad for part in parts))
        fused.bias = nn.Parameter(bias, requires_grad=any(part.bias.requires_grad for part in parts))
        return fused.train(self.training)


def split_attention(model: PreTrainedModel) -> PreTrainedModel:
    """Replace each fused ``c_attn`` of a GPT-2 by ``c_attn.{q_proj, k_proj, v_proj}``, in place.

    The logits stay the same to float rounding. A block that is split already is left alone.

    Returns:
        The same model, for chaining.

    Raises:
        UserError: the model is no GPT-2, has cross-attention, or already carries an adapter on ``c_attn``.
    """
    blocks = [module for module in model.modules() if isinstance(module, GPT2Attention)]
    if not blocks:
        raise UserError(f"split_attention needs a GPT-2 model, got {type(model).__name__}")
    for block in blocks:
        if isinstance(block.c_attn, SplitProjection):
            continue
        if block.is_cross_attention or type(block.c_attn) is not Conv1D:
            what = "cross-attention" if block.is_cross_attention else type(block.c_attn).__name__
            raise UserError(f"split_attention takes plain self-attention, got {what}; split before adding adapters")
        setattr(block, "c_attn", SplitProjection(block.c_attn))  # noqa: B010 (declared as a Conv1D)
    return model


def one_kernel_gelu(model: PreTrainedModel) -> PreTrainedModel:
    """Let PyTorch's own ``GELU(approximate="tanh")`` compute each ``gelu_new``, in place: the same formula.

    The logits stay the same to float rounding, and so does the configuration: what is saved names ``gelu_new``.

    Returns:
        The same model, for chaining.
    """
    for name, module in list(model.named_modules()):
        if type(module) is NewGELUActivation:
            model.set_submodule(name, nn.GELU(approximate="tanh"))
    return model


def fuse_attention(model: PreTrainedModel) -> PreTrainedModel:
    """The inverse of :func:`split_attention`, in place and bit for bit.

    A model that is not split is left alone.

    Returns:
        The same model, now a stock GPT-2 for ``save_pretrained``.

    Raises:
        UserError: a projection still carries an adapter.
    """
    for module in model.modules():
        if isinstance(module, GPT2Attention) and isinstance(module.c_attn, SplitProjection):
            setattr(module, "c_attn", module.c_attn.fuse())  # noqa: B010
    return model
