"""The way in which microsoft/LoRA's own script trains: every row padded to 512 tokens, logits at all of them, float32.

It is a yardstick of what our training costs (``scripts/bench.py --peers``).
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, get_linear_schedule_with_warmup

from delta_lora.errors import UserError
from delta_lora.suite.bench.gate import Gate
from delta_lora.tasks.generation import IGNORED

LENGTH = 512  # tokens of every row: its --seq_len
Row = tuple[Tensor, Tensor, Tensor]


def train_as_the_original(
    gate: Gate, model: PreTrainedModel, rows: list[dict[str, list[int]]], micro: int, accumulated: int
) -> None:
    """One epoch of examples/NLG/src/gpt2_ft.py at c4593f0, in words of our own, without its logs and checkpoints.

    The model is Transformers' with loralib's layers, and attends as the original's does (product, mask, softmax,
    product); its layer norm and optimizer are PyTorch's, which are faster. No mask tells padding from text.

    Args:
        gate: each optimizer step goes through it.
        model: after :func:`with_loralib`, with ``attn_implementation="eager"``, on its device.
        rows: ``input_ids`` and ``labels``, as many as fill whole steps.
        micro: examples at once.
        accumulated: that often, for an optimizer step (its ``--grad_acc``).
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=2e-4, weight_decay=0.01)
    total = len(rows) // micro // accumulated
    schedule = get_linear_schedule_with_warmup(optimizer, 0, total)
    data: Any = [padded(row) for row in rows]
    loader: DataLoader[Row] = DataLoader(data, batch_size=micro, shuffle=True, drop_last=True)
    model.train()
    gate.count(model)
    gate.wait()
    for number, batch in enumerate(loader, start=1):
        tokens, targets, mask = (tensor.to(model.device) for tensor in batch)
        loss = masked_loss(model, tokens, targets, mask)
        loss.item()  # it keeps a running mean
        (loss / accumulated).backward()
        if number % accumulated == 0:
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            gate.passed()
            if number < total * accumulated:
                gate.wait()


def padded(row: dict[str, list[int]]) -> Row:
    """A row's tokens, the token that follows each, and 1.0 where that one is to be learned; (512,) each."""
    tokens, labels = torch.tensor(row["input_ids"][:-1]), torch.tensor(row["labels"][1:])
    room = (0, LENGTH - len(tokens))
    mask = (labels != IGNORED).float()
    return pad(tokens, room), pad(labels.clamp(min=0), room), pad(mask, room)


def masked_loss(model: PreTrainedModel, tokens: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """The mean over what is to be learned, of the losses of all positions."""
    logits = model(input_ids=tokens, use_cache=False).logits
    losses = cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view_as(mask)
    return (losses * mask).sum() / (mask.sum() + 0.0001)


def with_loralib(model: nn.Module, **adapter: Any) -> None:
    """Put loralib's layers in the place of the query and value projections (in GPT-2 one with the key's), in place.

    Raises:
        UserError: the model has no such projections.
    """
    import loralib  # a machine that only trains need not have it

    found = 0
    for name, module in list(model.named_modules()):
        kind = name.rpartition(".")[2]
        if kind == "c_attn":  # a Conv1D, whose weight is (in, out)
            size, out = module.get_parameter("weight").shape
            layer: nn.Module = loralib.MergedLinear(
                size, out, enable_lora=[True, False, True], fan_in_fan_out=True, merge_weights=False, **adapter
            )
        elif kind in ("q_proj", "v_proj") and isinstance(module, nn.Linear):
            layer = loralib.Linear(
                module.in_features, module.out_features, bias=module.bias is not None, merge_weights=False, **adapter
            )
        else:
            continue
        layer.load_state_dict(module.state_dict(), strict=False)
        model.set_submodule(name, layer.to(module.get_parameter("weight").device))
        found += 1
    if not found:
        raise UserError(f"{type(model).__name__} has no projections c_attn, or q_proj and v_proj; use a GPT-2 or Llama")
    loralib.mark_only_lora_as_trainable(model)
