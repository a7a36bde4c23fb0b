"""``gpt2-tiny``: GPT-2 with its own tokenizer, pretrained on the documents of ``corpus`` by next-token prediction."""

import itertools
import random

from transformers import GPT2Config, GPT2LMHeadModel, GPT2Tokenizer

from delta_lora.tiny import corpus, pretrain
from delta_lora.tiny.induction import pair_word_forms, write_induction_circuit
from delta_lora.tiny.pretrain import Recipe, Start

RECIPE = Recipe("gpt2-tiny", "gpt2", version=5)


def start(recipe: Recipe) -> Start:
    """GPT-2 with its one special token, and next-token prediction."""
    end = "<|endoftext|>"
    texts = corpus.documents(random.Random(recipe.seed), end)
    sample = (text.replace(end, "\n") for text in itertools.islice(texts, recipe.bpe_documents))
    bpe = pretrain.train_bpe(sample, recipe.vocabulary, [end])
    tokenizer = GPT2Tokenizer(**bpe, model_max_length=recipe.positions)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=recipe.positions,
        n_embd=recipe.width,
        n_layer=recipe.layers,
        n_head=recipe.heads,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        resid_pdrop=0.0,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    batches = pretrain.causal_batches(texts, tokenizer, recipe.batch_size, recipe.length)
    model = GPT2LMHeadModel(config)
    write_induction_circuit(model)
    pair_word_forms(model.transformer.wte.weight, tokenizer.get_vocab())
    return model, tokenizer, batches
