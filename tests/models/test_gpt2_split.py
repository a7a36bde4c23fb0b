"""GPT-2 split into query, key and value, and fused again."""

from pathlib import Path

import pytest
import torch
from helpers.models import gpt2_config, gpt2_medium_config
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, BertConfig, BertModel, GPT2LMHeadModel

from delta_lora.errors import UserError
from delta_lora.models.gpt2 import SplitProjection, fuse_attention, one_kernel_gelu, split_attention
from delta_lora.models.load import random_model


def small_gpt2() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    model = GPT2LMHeadModel(gpt2_config(n_layer=3, vocab_size=97)).eval()
    for parameter in model.parameters():  # biases are zero at first; a split that loses them must be seen
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def test_split_keeps_the_logits_and_fusing_gives_back_every_bit() -> None:
    model = small_gpt2()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    tokens = torch.randint(97, (2, 11))
    with torch.no_grad():
        expected = model(tokens).logits
        split = split_attention(model)
        assert split is model and isinstance(model.transformer.h[0].attn.c_attn, SplitProjection)
        torch.testing.assert_close(model(tokens).logits, expected, rtol=1e-5, atol=1e-5)
    fuse_attention(model)
    assert not any(isinstance(module, SplitProjection) for module in model.modules())
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_generation_with_a_cache_is_unchanged() -> None:
    model = small_gpt2()
    tokens = torch.randint(97, (2, 5))
    options = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0}
    expected = model.generate(tokens, **options)
    assert torch.equal(split_attention(model).generate(tokens, **options), expected)


def test_the_activation_is_one_kernel_with_the_same_logits(tmp_path: Path) -> None:
    torch.manual_seed(0)
    stock = GPT2LMHeadModel(gpt2_config()).eval()
    torch.manual_seed(0)
    model = one_kernel_gelu(GPT2LMHeadModel(gpt2_config())).eval()
    ids = torch.arange(10)[None]
    torch.testing.assert_close(model(ids).logits, stock(ids).logits, rtol=0, atol=1e-5)
    nodes, seen = [model(ids).logits.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is not None and node not in seen:
            seen.add(node)
            nodes += [other for other, _ in node.next_functions]
    names = [type(node).__name__ for node in seen]
    assert names.count("GeluBackward0") == model.config.n_layer and "TanhBackward0" not in names
    model.save_pretrained(tmp_path)
    again = GPT2LMHeadModel.from_pretrained(tmp_path)
    assert again.config.activation_function == "gelu_new" and torch.equal(again.eval()(ids).logits, stock(ids).logits)


def test_loaded_models_have_it() -> None:
    model = random_model("causal", gpt2_config())
    assert sum(isinstance(module, torch.nn.GELU) for module in model.modules()) == model.config.n_layer


def test_a_split_state_dict_loads_into_a_split_model() -> None:
    model = split_attention(small_gpt2())
    other = split_attention(GPT2LMHeadModel(model.config).eval())
    other.load_state_dict(model.state_dict())
    tokens = torch.randint(97, (1, 7))
    assert torch.equal(model(tokens).logits, other(tokens).logits)


def test_a_fused_model_saves_as_a_stock_checkpoint(tmp_path: Path) -> None:
    model = small_gpt2()
    tokens = torch.randint(97, (1, 7))
    expected = model(tokens).logits
    fuse_attention(split_attention(model)).save_pretrained(tmp_path)
    assert torch.equal(AutoModelForCausalLM.from_pretrained(tmp_path).eval()(tokens).logits, expected)


def test_half_precision_frozen_weights_and_eval_mode_survive() -> None:
    model = small_gpt2().to(torch.bfloat16).requires_grad_(False)
    part = split_attention(model).transformer.h[0].attn.c_attn.q_proj
    assert part.weight.dtype == torch.bfloat16 and not part.weight.requires_grad and not part.training
    fused = fuse_attention(model).transformer.h[0].attn.c_attn
    assert fused.weight.dtype == torch.bfloat16 and not fused.weight.requires_grad and not fused.training


def test_gpt2_medium_has_the_papers_parameter_counts() -> None:
    # 24 blocks × 2 matrices of 1024 × 1024 (48 M) and r = 4 factors for each (0.375 M): the paper's Table 1.
    config = gpt2_medium_config()
    with torch.device("meta"):
        model = split_attention(GPT2LMHeadModel(config))
    adapted = get_peft_model(model, LoraConfig(r=4, lora_alpha=32, target_modules=["q_proj", "v_proj"]))
    assert sum(p.numel() for p in adapted.parameters() if p.requires_grad) == 393_216
    bases = [
        p for n, p in adapted.named_parameters() if n.endswith(("q_proj.base_layer.weight", "v_proj.base_layer.weight"))
    ]
    assert sum(p.numel() for p in bases) == 50_331_648


def test_wrong_models_are_refused() -> None:
    config = BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=9)
    with pytest.raises(UserError, match="needs a GPT-2 model, got BertModel"):
        split_attention(BertModel(config))
    with pytest.raises(UserError, match="cross-attention"):
        split_attention(GPT2LMHeadModel(gpt2_config(add_cross_attention=True)))
    adapted = get_peft_model(split_attention(small_gpt2()), LoraConfig(target_modules=["q_proj"]))
    with pytest.raises(UserError, match="merge and unload"):
        fuse_attention(adapted)
