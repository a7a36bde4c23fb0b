"""``bart-tiny``: BART with its own tokenizer, pretrained on the documents of ``news`` by denoising."""

import itertools
import math
import random
from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor
from transformers import BartConfig, BartForConditionalGeneration, PreTrainedTokenizerBase, RobertaTokenizer
from transformers.models.bart.modeling_bart import BartAttention, BartDecoderLayer, BartEncoderLayer

from delta_lora.tiny import news, pretrain
from delta_lora.tiny.pretrain import Batch, Recipe, Start

RECIPE = Recipe("bart-tiny", "bart", version=2, layers=2, steps=780, batch_size=8, length=128, seconds=70)

MASKED = 0.3  # share of a document's tokens that are masked (Lewis et al. 2020, arXiv 1910.13461, §2.2 and §4)
GAPS = 0.4  # share of the documents that miss one whole sentence instead (Zhang et al. 2020, arXiv 1912.08777)
SPAN = 3.0  # mean number of tokens of a masked span, Poisson-distributed
_IGNORED = -100  # the label that the loss leaves out
_BUCKET = 32  # batches of similar length are cut from so many batches' documents

_TOKEN, _POSITION, _REST = 0.15, 0.3, 0.02  # standard deviation, amplitude, standard deviation
_LOOK_BACK, _MATCH, _PASS_ON, _COPY = 1.5, 1.5, 1.5, 2.0  # gains of the four steps of the circuit
_SHORTEST, _LONGEST = 4, 60  # wavelengths of the positions, in tokens


def start(recipe: Recipe) -> Start:
    """BART (``recipe.layers`` blocks in each half) with its five special tokens, and denoising."""
    texts = news.documents(random.Random(recipe.seed))
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    sample = (" ".join(sentences) for sentences in itertools.islice(texts, recipe.bpe_documents))
    bpe = pretrain.train_bpe(sample, recipe.vocabulary, special)
    # BartTokenizer is this class under another name, since Transformers 5
    tokenizer = RobertaTokenizer(**bpe, model_max_length=recipe.positions)
    config = BartConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=recipe.positions,
        d_model=recipe.width,
        encoder_layers=recipe.layers,
        decoder_layers=recipe.layers,
        encoder_attention_heads=recipe.heads,
        decoder_attention_heads=recipe.heads,
        encoder_ffn_dim=4 * recipe.width,
        decoder_ffn_dim=4 * recipe.width,
        dropout=0.0,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.eos_token_id,
        forced_eos_token_id=tokenizer.eos_token_id,
    )
    model = BartForConditionalGeneration(config)
    write_copy_circuit(model)
    batches = denoising_batches(texts, tokenizer, recipe.batch_size, recipe.length, random.Random(recipe.seed))
    return model, tokenizer, batches


def denoising_batches(
    documents: Iterator[list[str]],
    tokenizer: PreTrainedTokenizerBase,
    batch_size: int,
    length: int,
    rng: random.Random,
) -> Iterator[Batch]:
    """BART's objective: the sentences of a document in another order, with spans masked; the labels are the document.

    Instead of the spans, a share ``GAPS`` of the documents has one sentence masked, and that one is chosen as PEGASUS
    chooses its gap sentences: it shares most with the others.

    ``input_ids`` and ``attention_mask`` are (batch_size, source tokens), ``labels`` (batch_size, target tokens), each
    padded to the longest of its batch. Documents over ``length`` tokens are cut. A document is a list of sentences.
    """
    bos, eos, pad = (cast(int, i) for i in (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id))
    mask = cast(int, tokenizer.mask_token_id)
    while True:
        pairs = []
        for sentences in itertools.islice(documents, _BUCKET * batch_size):
            target = [*itertools.chain.from_iterable(_tokens(tokenizer, sentences))][: length - 2]
            shuffled = _tokens(tokenizer, rng.sample(sentences, len(sentences)))
            if gap := rng.random() < GAPS:
                shuffled[_principal(shuffled)] = [mask]
            source = [*itertools.chain.from_iterable(shuffled)][: length - 2]
            source = source if gap else infill(source, mask, rng)
            pairs.append(([bos, *source, eos], [bos, *target, eos]))
        pairs.sort(key=lambda pair: len(pair[1]))  # batches of similar length: less padding
        groups = [pairs[i : i + batch_size] for i in range(0, len(pairs), batch_size)]
        rng.shuffle(groups)
        for group in groups:
            sources, targets = zip(*group, strict=True)
            ids = _padded(sources, pad)
            yield {
                "input_ids": ids,
                "attention_mask": (ids != pad).long(),
                "labels": _padded(targets, _IGNORED),
            }


def infill(tokens: list[int], mask: int, rng: random.Random) -> list[int]:
    """Text infilling: about 30 % of ``tokens`` in spans of Poisson(3) tokens, each span replaced by one ``mask``.

    A span of length 0 inserts a ``mask``, as in the paper, so a model also learns where nothing is missing. Two masks
    never touch: their spans would be one.
    """
    budget = round(MASKED * len(tokens))
    spans: list[int] = []
    while sum(spans) < budget:
        spans.append(min(_poisson(SPAN, rng), budget - sum(spans)))
    kept = len(tokens) - sum(spans)
    # before which kept token each span stands: different ones, so that masks do not touch
    places = sorted(rng.sample(range(kept + 1), min(len(spans), kept + 1)))
    corrupted: list[int] = []
    position = used = 0
    for place, span in zip(places, spans, strict=False):
        corrupted += [*tokens[position : position + place - used], mask]
        position += place - used + span
        used = place
    return corrupted + tokens[position:]


def write_copy_circuit(model: BartForConditionalGeneration) -> None:
    """Overwrite the initial weights of ``model``: a circuit that copies from the encoder, small noise elsewhere.

    What ``induction`` does for GPT-2, across the two halves. With d the width, h the head size and P the first h
    hidden dimensions (which hold sinusoidal positions, and no token):

    * encoder layer 0, head 0: keys read P and queries read P turned back by one token, so the head attends to the
      previous token; its values are the token seen through M (d×h), which its output writes along N (d×h).
    * last decoder layer, cross-attention, every head: queries M · current token, keys N · previous token, so it attends
      to what follows the current token in the source; values and outputs are an orthonormal basis outside P and its
      transpose, so it copies.

    BART normalizes after every sub-layer, so all hidden states have about unit variance, and the gains are relative to
    it. Draws from torch's global generator.
    """
    width, heads = cast(int, model.config.d_model), cast(int, model.config.encoder_attention_heads)
    head = width // heads
    encoder, decoder = model.model.encoder, model.model.decoder
    for layer in (*encoder.layers, *decoder.layers):
        for parameter in layer.parameters():
            if parameter.dim() == 2:
                torch.nn.init.normal_(parameter, std=_REST)
    angles = 2 * math.pi / torch.logspace(math.log10(_SHORTEST), math.log10(_LONGEST), head // 2)
    with torch.no_grad():
        shared = model.model.shared
        shared.weight.normal_(std=_TOKEN)[:, :head] = 0
        shared.weight[shared.padding_idx] = 0
        for half in (encoder, decoder):
            positions = half.embed_positions.weight
            phases = torch.arange(len(positions))[:, None] * angles
            positions.zero_()
            positions[:, 0:head:2] = _POSITION * phases.sin()
            positions[:, 1:head:2] = _POSITION * phases.cos()
        seen, written = _orthonormal(width, head, blank=head), _orthonormal(width, head)

        back = cast(BartEncoderLayer, encoder.layers[0]).self_attn
        _attend_to_previous(back, angles)
        # weights are (out, in): a head's queries, keys and values are rows, its output reads columns
        back.v_proj.weight[:head] = seen.T
        back.out_proj.weight[:, :head] = _PASS_ON * written

        across = cast(BartDecoderLayer, decoder.layers[-1]).encoder_attn
        across.q_proj.weight[:] = _MATCH * seen.T.repeat(heads, 1)
        across.k_proj.weight[:] = _MATCH * written.T.repeat(heads, 1)
        across.v_proj.weight.zero_()
        across.v_proj.weight[: width - head] = _orthonormal(width, width - head, blank=head).T
        across.out_proj.weight[:] = _COPY * across.v_proj.weight.T


def _attend_to_previous(attention: BartAttention, angles: Tensor) -> None:
    """Make head 0 look one token back; ``angles`` (head size / 2) are the positions' steps in radians a token."""
    head = attention.head_dim
    queries, keys = attention.q_proj.weight, attention.k_proj.weight
    queries[:head] = 0
    keys[:head] = 0
    for pair, angle in enumerate(angles.tolist()):
        sine, cosine = 2 * pair, 2 * pair + 1
        keys[sine, sine] = keys[cosine, cosine] = _LOOK_BACK
        queries[sine, sine] = queries[cosine, cosine] = _LOOK_BACK * math.cos(angle)
        queries[sine, cosine], queries[cosine, sine] = -_LOOK_BACK * math.sin(angle), _LOOK_BACK * math.sin(angle)


def _orthonormal(rows: int, columns: int, blank: int = 0) -> Tensor:
    """A random (rows, columns) matrix with orthonormal columns whose first ``blank`` rows are zero."""
    basis, _ = torch.linalg.qr(torch.randn(rows - blank, columns))
    return torch.cat([torch.zeros(blank, columns), basis])


def _tokens(tokenizer: PreTrainedTokenizerBase, sentences: list[str]) -> list[list[int]]:
    """The tokens of each sentence; one after the other they are those of the sentences with a space between."""
    spaced = [sentences[0], *(f" {text}" for text in sentences[1:])]
    return cast(list[list[int]], tokenizer(spaced, add_special_tokens=False)["input_ids"])


def _principal(sentences: list[list[int]]) -> int:
    """Index of the sentence of which most tokens stand in other sentences, too."""
    words = [set(tokens) for tokens in sentences]
    others = [set().union(*words[:i], *words[i + 1 :]) for i in range(len(words))]
    return max(range(len(words)), key=lambda i: len(words[i] & others[i]))


def _padded(rows: tuple[list[int], ...], value: int) -> Tensor:
    longest = max(len(row) for row in rows)
    return torch.tensor([row + [value] * (longest - len(row)) for row in rows])


def _poisson(mean: float, rng: random.Random) -> int:
    """Knuth's method: how many uniform factors until their product falls below exp(−mean), less one."""
    count, product = 0, rng.random()
    while product > math.exp(-mean):
        count += 1
        product *= rng.random()
    return count
