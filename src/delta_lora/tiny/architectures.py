"""The miniature models before their pretraining: tokenizer, configuration, initial weights, and the text to read."""

import itertools
import math
import random
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    GPT2Config,
    GPT2LMHeadModel,
    GPT2Tokenizer,
    PreTrainedTokenizerBase,
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaTokenizer,
)

from delta_lora.tiny import circuits, corpus, pretrain, xsum
from delta_lora.tiny.pretrain import Recipe, Start
from delta_lora.tiny.world import world

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]  # BART's and RoBERTa's, in the order of their ids
MASKED = 0.3  # share of a document's words, for BART
_KINDS = 48  # dimensions of RoBERTa's embeddings that hold what kind of word a token is


def gpt2(recipe: Recipe) -> Start:
    """GPT-2 with its one special token, and next-token prediction on descriptions."""
    end = "<|endoftext|>"
    texts = corpus.documents(random.Random(recipe.seed), end)
    sample = (text.replace(end, "\n") for text in itertools.islice(texts, recipe.bpe_documents))
    bpe = pretrain.train_bpe(sample, recipe.vocabulary, [end])
    tokenizer = GPT2Tokenizer(**bpe, model_max_length=recipe.positions)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=recipe.positions, n_embd=recipe.width, n_layer=recipe.layers,
        n_head=recipe.heads, embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0, **_ids(tokenizer),
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    circuits.write_gpt2(model)
    pair_word_forms(model.transformer.wte.weight, tokenizer.get_vocab())
    pairs = ((f"{text}{end}", f"{text}{end}") for text in texts)
    return model, tokenizer, pretrain.batches(pairs, tokenizer, recipe.batch_size, recipe.length)


def bart(recipe: Recipe) -> Start:
    """BART (``recipe.layers`` blocks in each half) with its five special tokens, and denoising of news."""
    rng = random.Random(recipe.seed)
    texts = xsum.documents(rng)
    sample = (" ".join(sentences) for sentences in itertools.islice(texts, recipe.bpe_documents))
    bpe = pretrain.train_bpe(sample, recipe.vocabulary, SPECIAL)
    # BartTokenizer is this class under another name, since Transformers 5
    tokenizer = RobertaTokenizer(**bpe, model_max_length=recipe.positions)
    layers, heads, inner = recipe.layers, recipe.heads, 4 * recipe.width
    config = BartConfig(
        vocab_size=len(tokenizer), max_position_embeddings=recipe.positions, d_model=recipe.width,
        encoder_layers=layers, encoder_attention_heads=heads, encoder_ffn_dim=inner,
        decoder_layers=layers, decoder_attention_heads=heads, decoder_ffn_dim=inner, dropout=0.0, **_ids(tokenizer),
        decoder_start_token_id=tokenizer.eos_token_id, forced_eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    model = BartForConditionalGeneration(config)
    circuits.write_bart(model)
    pairs = ((noisy(sentences, rng), " ".join(sentences)) for sentences in texts)
    return model, tokenizer, pretrain.batches(pairs, tokenizer, recipe.batch_size, recipe.length)


def roberta(recipe: Recipe) -> Start:
    """RoBERTa with its five special tokens and no pretraining: its circuits and the kinds of words are enough for GLUE.

    Masked language modelling for some hundred steps, on statements told twice, did not raise its scores.
    """
    sample = itertools.islice(corpus.pair_texts(random.Random(recipe.seed)), recipe.bpe_documents)
    bpe = pretrain.train_bpe((f" {text}" for text in sample), recipe.vocabulary, SPECIAL)
    # With a space before the first word it is the same token as in the middle, which a vocabulary this small needs.
    tokenizer = RobertaTokenizer(**bpe, model_max_length=recipe.positions, add_prefix_space=True)
    config = RobertaConfig(
        vocab_size=len(tokenizer), hidden_size=recipe.width, num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads, intermediate_size=4 * recipe.width, type_vocab_size=1,
        max_position_embeddings=recipe.positions + 2,  # RoBERTa's positions start after the padding token's id
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **_ids(tokenizer),
    )  # fmt: skip
    model = RobertaForMaskedLM(config)
    circuits.write_roberta(model, word_kinds(tokenizer, _KINDS))
    return model, tokenizer, iter(())


def noisy(sentences: list[str], rng: random.Random) -> str:
    """A document as BART has to repair it: sentences in another order, words masked, neighbours by one mask.

    Lewis et al. 2020, arXiv 1910.13461, §2.2.
    """
    words = " ".join(rng.sample(sentences, len(sentences))).split()
    masked = " ".join("<mask>" if rng.random() < MASKED else word for word in words)
    return re.sub("<mask>( <mask>)+", "<mask>", masked)


@torch.no_grad()
def pair_word_forms(embeddings: Tensor, vocabulary: Mapping[str, int], likeness: float = 0.8) -> None:
    """Make the embeddings (tokens, d) of a word inside a text and at its start alike: cosine ``likeness``.

    A byte-level BPE has ``ĠTuring`` for the word after a space and ``Turing`` elsewhere, say in ``Alan_Turing``.
    """
    for token, row in vocabulary.items():
        other = vocabulary.get(token.removeprefix("Ġ")) if token.startswith("Ġ") else None
        if other is not None:
            embeddings[row] = likeness * embeddings[other] + math.sqrt(1 - likeness**2) * embeddings[row]


def word_kinds(tokenizer: PreTrainedTokenizerBase, size: int) -> Tensor:
    """(tokens, size): words of one of the world's lists, or that tell or ask for one attribute, have similar rows.

    Rows are of length 1, or 0 where nothing is known. Draws from torch's global generator.
    """
    lists = [text for part in ("words", "opinions", "sentences") for text in world()[part].values()]
    for kind in world()["pair_kinds"].values():
        lists += [" ".join(told["tell"] + told["ask"]) for told in kind.values() if isinstance(told, dict)]
    kinds = torch.zeros(len(tokenizer), size)
    for text in lists:
        kinds[list(set(tokenizer(text, add_special_tokens=False)["input_ids"]))] += torch.randn(size)
    return torch.nn.functional.normalize(kinds, dim=1)


def _ids(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """The configuration's ids of the special tokens."""
    return {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}


STARTS: dict[str, Callable[[Recipe], Start]] = {"gpt2-tiny": gpt2, "bart-tiny": bart, "roberta-tiny": roberta}
