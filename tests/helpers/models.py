"""Small configurations of the architectures that the tests build models from; nothing is downloaded."""

from typing import Any

from transformers import BartConfig, GPT2Config, LlamaConfig, RobertaConfig

VOCABULARY = 53
DECODER: dict[str, Any] = {  # what Llama and its relatives call the sizes
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 32,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}


def gpt2_config(**fields: Any) -> GPT2Config:
    """GPT-2 of two blocks, width 32, without dropout; ``fields`` override."""
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 32, "vocab_size": VOCABULARY}
    tokens = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    off = {"resid_pdrop": 0.0, "attn_pdrop": 0.0, "embd_pdrop": 0.0}
    return GPT2Config(**{**sizes, **tokens, **off, **fields})


def gpt2_medium_config(**fields: Any) -> GPT2Config:
    """The published sizes of gpt2-medium (24 blocks, width 1,024)."""
    return GPT2Config(**{"n_embd": 1024, "n_layer": 24, "n_head": 16, **fields})


def llama_config(**fields: Any) -> LlamaConfig:
    """Llama of two blocks, width 32, two key-value heads; ``fields`` override."""
    return LlamaConfig(**{**DECODER, **fields})


def roberta_config(**fields: Any) -> RobertaConfig:
    """RoBERTa of two blocks, width 32, with room for 32 tokens; ``fields`` override."""
    return RobertaConfig(**{**DECODER, "max_position_embeddings": 35, "num_labels": 3, **fields})


def bart_config(**fields: Any) -> BartConfig:
    """BART of two and two blocks, width 32; ``fields`` override."""
    sizes = {"d_model": 32, "max_position_embeddings": 32, "vocab_size": VOCABULARY}
    for side in ("encoder", "decoder"):
        sizes |= {f"{side}_layers": 2, f"{side}_attention_heads": 4, f"{side}_ffn_dim": 48}
    tokens = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    return BartConfig(**{**sizes, **tokens, "decoder_start_token_id": 1, "forced_eos_token_id": 1, **fields})
