"""How much of the learned update survives a base in low precision: the folded form against Algorithm 1 as printed.

    python scripts/precision.py                       # bfloat16 and float16, 400 steps at learning rate 2e-4
    python scripts/precision.py --dtypes float32

Each run really trains: a GPT-2 of random weights, base in the low precision, factors in float32, λ = 2, r = 4, α = 32
(the paper's E2E settings). Its learned update, effective weight − W_0, is then compared with what Algorithm 1 gives in
float64 on the same factors; printed is the relative error in the Frobenius norm over all adapted weights. The larger
W_0 (``--spread``), the coarser its rounding.
"""

import argparse
from collections.abc import Sequence

import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from delta_lora import DeltaLora
from delta_lora.models.gpt2 import split_attention
from delta_lora.streams import replace_unprintable

DTYPES = ("float64", "float32", "bfloat16", "float16")


def learned_update_error(
    dtype: torch.dtype,
    literal: bool,
    *,
    steps: int = 400,
    learning_rate: float = 2e-4,
    start_steps: int = 20,
    width: int = 128,
    spread: float = 0.1,
) -> float:
    """Relative error of the learned update after training with a base in ``dtype``, spread by ``spread``."""
    torch.manual_seed(0)
    config = GPT2Config(
        n_embd=width,
        n_layer=2,
        n_head=4,
        vocab_size=256,
        n_positions=16,
        initializer_range=spread,
        resid_pdrop=0,
        attn_pdrop=0,
        embd_pdrop=0,
    )
    model = split_attention(GPT2LMHeadModel(config))
    nn.Module.to(model, dtype)
    # PEFT keeps the factors of a 16-bit model in float32.
    peft_model = get_peft_model(model, LoraConfig(r=4, lora_alpha=32, target_modules=["q_proj", "v_proj"]))
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, LoraLayer)}
    before = {name: weight(layer.get_base_layer()) for name, layer in layers.items()}

    delta = DeltaLora(peft_model, update_ratio=2.0, start_steps=start_steps, literal=literal, anchor="fold")
    optimizer = torch.optim.AdamW([p for p in peft_model.parameters() if p.requires_grad], lr=learning_rate)
    tokens = torch.randint(256, (steps, 4, 16))
    tokens[..., 1::2] = tokens[..., ::2]  # something to learn: each token is said twice
    for batch in tokens:
        peft_model(input_ids=batch, labels=batch).loss.backward()
        optimizer.step()
        delta.step()
        optimizer.zero_grad()

    squared_error = squared_norm = 0.0
    for name, b, a in delta.effective_delta():
        layer, exact = layers[name], b.double() @ a.double()
        product = weight(layer.lora_B["default"]) @ weight(layer.lora_A["default"])
        actual = weight(layer.get_base_layer()) - before[name] + layer.scaling["default"] * product
        squared_error += float((actual - exact).square().sum())
        squared_norm += float(exact.square().sum())
    return (squared_error / squared_norm) ** 0.5


def weight(layer: nn.Module) -> Tensor:
    """The layer's weight as it is now, in float64."""
    return layer.get_parameter("weight").detach().to(torch.float64, copy=True)


def main(arguments: Sequence[str] | None = None) -> None:
    replace_unprintable()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=["bfloat16", "float16"])
    parser.add_argument("--steps", type=int, default=400, help="optimizer steps (default: 400)")
    parser.add_argument("--learning-rate", type=float, default=2e-4, help="of AdamW (default: 2e-4)")
    parser.add_argument("--start-steps", type=int, default=20, help="K (default: 20)")
    parser.add_argument("--width", type=int, default=128, help="hidden size of the GPT-2 (default: 128)")
    parser.add_argument("--spread", type=float, default=0.1, help="standard deviation of W_0 (default: 0.1)")
    options = vars(parser.parse_args(arguments))
    names = options.pop("dtypes")
    print("base      folded    literal   (relative error of the learned update)")
    for name in names:
        errors = [learned_update_error(getattr(torch, name), literal, **options) for literal in (False, True)]
        print(f"{name:<10}" + "".join(f"{f'{100 * error:.2g} %':<10}" for error in errors), flush=True)


if __name__ == "__main__":
    main()
