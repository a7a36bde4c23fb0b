"""The miniature models before their pretraining: tokenizer, configuration, initial weights, and the text to read."""

import itertools
import random
import re
from collections.abc import Callable
from typing import Any

import torch
import transformers
from torch import Tensor

from delta_lora.tiny import circuits, corpus, pretrain, xsum
from delta_lora.tiny.pretrain import Start
from delta_lora.tiny.recipes import Recipe
from delta_lora.tiny.world import world

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]  # BART's and RoBERTa's, in the order of their ids
MASKED = 0.3  # share of a document's words, for BART
_KINDS = 48  # dimensions of RoBERTa's embeddings that hold what kind of word a token is


def gpt2(recipe: Recipe) -> Start:
    """GPT-2 with its one special token, and next-token prediction on descriptions."""
    end = "<|endoftext|>"
    texts = corpus.documents(random.Random(recipe.seed), end)
    sample = (text.replace(end, "\n") for text in itertools.islice(texts, recipe.bpe_documents))
    tokenizer = transformers.GPT2Tokenizer(**pretrain.train_bpe(sample, recipe, [end]))
    config = transformers.GPT2Config(
        vocab_size=len(tokenizer), n_positions=recipe.positions, n_embd=recipe.width, n_layer=recipe.layers,
        n_head=recipe.heads, embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0, **_ids(tokenizer),
    )  # fmt: skip
    model = transformers.GPT2LMHeadModel(config)
    circuits.write_gpt2(model)
    vocabulary, embeddings = tokenizer.get_vocab(), model.transformer.wte.weight.data
    for token, row in vocabulary.items():  # "Ġ" is a space; " Turing" and "Turing", as in "Alan_Turing", begin alike
        if token.startswith("Ġ") and token[1:] in vocabulary:
            embeddings[row] = 0.8 * embeddings[vocabulary[token[1:]]] + 0.6 * embeddings[row]  # cosine 0.8
    pairs = ((f"{text}{end}", f"{text}{end}") for text in texts)
    return model, tokenizer, pretrain.batches(pairs, tokenizer, recipe)


def bart(recipe: Recipe) -> Start:
    """BART (``recipe.layers`` blocks in each half) with its five special tokens, and denoising of news."""
    rng = random.Random(recipe.seed)
    texts = xsum.documents(rng)
    sample = (" ".join(sentences) for sentences in itertools.islice(texts, recipe.bpe_documents))
    # BartTokenizer is this class under another name, since Transformers 5
    tokenizer = transformers.RobertaTokenizer(**pretrain.train_bpe(sample, recipe, SPECIAL))
    layers, heads, inner = recipe.layers, recipe.heads, 4 * recipe.width
    config = transformers.BartConfig(
        vocab_size=len(tokenizer), max_position_embeddings=recipe.positions, d_model=recipe.width,
        encoder_layers=layers, encoder_attention_heads=heads, encoder_ffn_dim=inner,
        decoder_layers=layers, decoder_attention_heads=heads, decoder_ffn_dim=inner, dropout=0.0, **_ids(tokenizer),
        decoder_start_token_id=tokenizer.eos_token_id, forced_eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    model = transformers.BartForConditionalGeneration(config)
    circuits.write_bart(model)
    pairs = ((noisy(sentences, rng), " ".join(sentences)) for sentences in texts)
    return model, tokenizer, pretrain.batches(pairs, tokenizer, recipe)


def roberta(recipe: Recipe) -> Start:
    """RoBERTa with its five special tokens and no pretraining: its circuits and the kinds of words are enough for GLUE.

    Masked language modelling for some hundred steps, on statements told twice, did not raise its scores.
    """
    sample = itertools.islice(corpus.pair_texts(random.Random(recipe.seed)), recipe.bpe_documents)
    bpe = pretrain.train_bpe((f" {text}" for text in sample), recipe, SPECIAL)
    # With a space before the first word it is the same token as in the middle, which a vocabulary this small needs.
    tokenizer = transformers.RobertaTokenizer(**bpe, add_prefix_space=True)
    config = transformers.RobertaConfig(
        vocab_size=len(tokenizer), hidden_size=recipe.width, num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads, intermediate_size=4 * recipe.width, type_vocab_size=1,
        max_position_embeddings=recipe.positions + 2,  # RoBERTa's positions start after the padding token's id
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **_ids(tokenizer),
    )  # fmt: skip
    model = transformers.RobertaForMaskedLM(config)
    circuits.write_roberta(model, word_kinds(tokenizer, _KINDS))
    return model, tokenizer, iter(())


def noisy(sentences: list[str], rng: random.Random) -> str:
    """A document as BART has to repair it: sentences in another order, words masked, neighbours by one mask.

    Lewis et al. 2020, arXiv 1910.13461, §2.2.
    """
    words = " ".join(rng.sample(sentences, len(sentences))).split()
    masked = " ".join("<mask>" if rng.random() < MASKED else word for word in words)
    return re.sub("<mask>( <mask>)+", "<mask>", masked)


def word_kinds(tokenizer: transformers.PreTrainedTokenizerBase, size: int) -> Tensor:
    """(tokens, size): words of one of the world's lists, or that tell or ask for one attribute, have similar rows.

    Rows are of length 1, or 0 where nothing is known. Draws from torch's global generator.
    """
    lists = list(world()["words"].values())
    for kind in world()["pair_kinds"].values():
        lists += [" ".join(told["tell"] + told["ask"]) for told in kind.values() if isinstance(told, dict)]
    kinds = torch.zeros(len(tokenizer), size)
    for text in lists:
        kinds[list(set(tokenizer(text, add_special_tokens=False)["input_ids"]))] += torch.randn(size)
    return torch.nn.functional.normalize(kinds, dim=1)


def _ids(tokenizer: transformers.PreTrainedTokenizerBase) -> dict[str, Any]:
    """The configuration's ids of the special tokens."""
    return {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}


STARTS: dict[str, Callable[[Recipe], Start]] = {"gpt2-tiny": gpt2, "bart-tiny": bart, "roberta-tiny": roberta}
