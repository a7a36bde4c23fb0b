"""Initial weights whose attention can already copy and match, so that a miniature model has something to build on.

Copying a name from the context takes two attention layers: a head that looks one token back, and heads in a later layer
that look for an earlier occurrence of the current token and bring what followed it (an induction circuit, Olsson et
al. 2022, arXiv 2209.11895). Real pretraining finds it after billions of tokens; here there is half a million. Like
mimetic initialisation (Trockman and Kolter 2023, arXiv 2305.09828), this writes the structure that training would find
into the initial weights. Every weight is trained from there on.

In all three models, with d the width and h the head size, the first h dimensions hold sinusoidal positions, and no
token. The functions draw from torch's global generator.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BartForConditionalGeneration, GPT2LMHeadModel, RobertaForMaskedLM

_REST = 0.02  # standard deviation of what no circuit writes
_PERIODS = (4.0, 60.0)  # wavelengths of the positions, in tokens
_NEAR, _FAR = (2.5, 20.0), (120.0, 40.0, 24.0)  # RoBERTa's: from … to, and a long one with its odd harmonics


@dataclass(frozen=True)
class Head:
    """Views of one attention head's weights. Rows are what comes out, columns what goes in."""

    query: Tensor  # (h, d)
    key: Tensor  # (h, d)
    value: Tensor  # (h, d)
    output: Tensor  # (d, h)
    bias: Tensor  # (h), of the queries


@torch.no_grad()
def write_gpt2(model: GPT2LMHeadModel) -> None:
    """An induction circuit in the first two layers.

    * layer 0, heads 0 and 1: attend to the token before, and to the one before that, and pass each on.
    * layer 1, every head: attends to what stood one place after an earlier occurrence of the current token, or two
      (``Alan_Turing`` → ``Alan Turing``), and copies it.
    """
    body, angles = model.transformer, _angles(*_PERIODS, model.config.n_embd // model.config.n_head // 2)
    _fill(model, body.wte.weight, [body.wpe.weight], angles, (0.15, 0.3))
    first, second = (_heads(block.attn) for block in list(body.h)[:2])
    width, head = first[0].output.shape
    tokens = _orthonormal(width, head, slice(head, width))
    passed = _orthonormal(width, 2 * head, slice(0, width)).split(head, dim=1)
    for back in (1, 2):
        _look(first[back - 1], back * angles, 1.5)
        first[back - 1].value[:] = tokens.T
        first[back - 1].output[:] = 0.3 * passed[back - 1]
    _copy(second, tokens, [passed[0]] * (len(second) - 1) + [passed[1]], 2.0, 1.0)


@torch.no_grad()
def write_bart(model: BartForConditionalGeneration) -> None:
    """The same across the two halves: the decoder copies from the encoder.

    * encoder layer 0, head 0: attends to the token before and passes it on.
    * last decoder layer, cross-attention, every head: attends to what follows the current token in the source, and
      copies it.

    BART normalizes after every sub-layer: all hidden states have about unit variance, to which the gains are relative.
    """
    encoder, decoder = model.model.encoder, model.model.decoder
    first, across = _heads(encoder.layers[0].self_attn)[0], _heads(decoder.layers[-1].encoder_attn)
    width, head = first.output.shape
    angles, tables = _angles(*_PERIODS, head // 2), [half.embed_positions.weight for half in (encoder, decoder)]
    _fill(model, model.model.shared.weight, tables, angles, (0.15, 0.3))
    tokens, passed = _orthonormal(width, head, slice(head, width)), _orthonormal(width, head, slice(0, width))
    _look(first, angles, 1.5)
    first.value[:] = tokens.T
    first.output[:] = 1.5 * passed
    _copy(across, tokens, [passed] * len(across), 1.5, 2.0)


@torch.no_grad()
def write_roberta(model: RobertaForMaskedLM, kinds: Tensor) -> None:
    """Attention that looks beside, and that compares the two sentences of a pair.

    The last dimensions of the embeddings hold ``kinds`` (tokens, some of d), those between noise that tells tokens
    apart.

    * layer 0, heads 0 and 1: attend to the previous and to the next token, and pass it on.
    * layer 0, head 2: attends to the same token elsewhere; where there is none, to the first token (<s>), whose value
      differs from all others: what has no match is marked by it.
    * layer 0, head 3: attends to an earlier </s>, else to <s>: marks the second sentence of a pair.
    * layer 1, heads 0 and 1: attend to where the same token came before, and came next, and bring what stands there.
    * layer 1, head 2: as head 2 of layer 0, for tokens of the same kind.
    * layer 2: <s>, which classification reads, gathers the kinds of the second sentence's tokens that have no match
      (head 0), no match in kind (head 1), of all its tokens (head 2), and of the first's without a match (head 3).

    Needs at least three layers of four heads.
    """
    config, body = model.config, model.roberta
    width, head = config.hidden_size, config.hidden_size // config.num_attention_heads
    noise, kind, token = slice(head, width - kinds.shape[1]), slice(width - kinds.shape[1], width), 0.1
    everything, matched = slice(head, width), 5 * head // 8
    angles = torch.cat([_angles(*_NEAR, head // 2 - len(_FAR)), 2 * math.pi / torch.tensor(_FAR)])
    words, positions = body.embeddings.word_embeddings.weight, body.embeddings.position_embeddings.weight
    _fill(model, words, [positions], angles, (token, token * math.sqrt(2)))
    words[:, kind] = token * math.sqrt(kinds.shape[1]) * kinds
    begin, end = (words[i] / token for i in (config.bos_token_id, config.eos_token_id))
    first, second, third = (_heads(layer.attention) for layer in list(body.encoder.layer)[:3])

    beside = []
    for one, direction in zip(first[:2], (1, -1), strict=True):
        _look(one, direction * angles, 1.6)
        beside.append(_pass_on(one, 0.5, everything))
    _match(first[2], _orthonormal(width, matched, noise))
    _prefer(first[2], [(begin, 8.0)])
    unmatched = _pass_on(first[2], 0.5, noise) @ first[2].value @ begin
    _earlier(first[3])
    _prefer(first[3], [(end, 10.0), (begin, 6.0)])
    in_second = _pass_on(first[3], 0.5, noise) @ first[3].value @ end

    for one, written in zip(second[:2], beside, strict=True):
        _match(one, 1.4 * written[:, :matched])
        _pass_on(one, 1.0, everything)
    _match(second[2], torch.eye(width)[:, kind][:, :matched])
    _prefer(second[2], [(begin, 8.0)])
    no_kind = _pass_on(second[2], 0.5, noise) @ second[2].value @ begin

    looks_for = [(unmatched, in_second), (no_kind, in_second), (in_second, in_second), (unmatched, -in_second)]
    for one, marks in zip(third, looks_for, strict=True):
        one.key[:2] = torch.stack([mark / mark.norm() for mark in marks])
        one.query[:2] = begin / begin.norm()
        _pass_on(one, 1.0, kind)


def _fill(model: nn.Module, words: Tensor, tables: list[Tensor], angles: Tensor, scales: tuple[float, float]) -> None:
    """Noise in all weights; positions in ``tables`` along the first dimensions, which the embeddings ``words`` leave.

    ``scales`` are the words' standard deviation and the positions' amplitude.
    """
    for parameter in model.parameters():
        if parameter.dim() == 2:
            parameter.normal_(std=_REST)
    words.normal_(std=scales[0])[:, : 2 * len(angles)] = 0
    for table in tables:
        phases = torch.arange(len(table))[:, None] * angles
        table.zero_()
        table[:, 0 : 2 * len(angles) : 2] = scales[1] * phases.sin()
        table[:, 1 : 2 * len(angles) : 2] = scales[1] * phases.cos()


def _heads(attention: Any) -> list[Head]:
    """The heads of an attention of GPT-2, BART or RoBERTa."""
    if hasattr(attention, "c_attn"):  # a Conv1D: weight (in, out), and its output is queries, keys, values
        query, key, value = attention.c_attn.weight.T.split(attention.embed_dim)
        output, bias, size = attention.c_proj.weight.T, attention.c_attn.bias, attention.head_dim
    elif hasattr(attention, "q_proj"):
        query, key, value = (part.weight for part in (attention.q_proj, attention.k_proj, attention.v_proj))
        output, bias, size = attention.out_proj.weight, attention.q_proj.bias, attention.head_dim
    else:
        inner = attention.self
        query, key, value = inner.query.weight, inner.key.weight, inner.value.weight
        output, bias, size = attention.output.dense.weight, inner.query.bias, inner.attention_head_size
    parts = [*(weight.split(size) for weight in (query, key, value)), output.split(size, dim=1), bias.split(size)]
    return [Head(*views) for views in zip(*parts, strict=False)]


def _look(head: Head, angles: Tensor, gain: float) -> None:
    """Attend to another position: queries read the positions turned back by ``angles``, keys read them as they are."""
    size = 2 * len(angles)
    head.query.zero_()
    head.key.zero_()
    head.query[:, :size] = gain * _rotation(angles)
    head.key[:, :size] = gain * torch.eye(size)


def _copy(heads: list[Head], tokens: Tensor, before: list[Tensor], match: float, gain: float) -> None:
    """Attend to where the token passed on in ``before`` is the current one, and copy the token that stands there."""
    width, head = tokens.shape
    basis = _orthonormal(width, width - head, slice(head, width)).T
    for index, (one, passed) in enumerate(zip(heads, before, strict=True)):
        rows = basis[index * head : (index + 1) * head]
        one.query[:], one.key[:] = match * tokens.T, match * passed.T
        one.value.zero_()
        one.value[: len(rows)] = rows
        one.output[:] = gain * one.value.T


def _pass_on(head: Head, gain: float, seen: slice) -> Tensor:
    """Write a head's values and output: dimensions ``seen`` of the attended go on along new ones (d, h)."""
    width, size = head.output.shape
    head.value[:] = _orthonormal(width, size, seen).T
    directions = _orthonormal(width, size, slice(size, width))
    head.output[:] = gain * directions
    return directions


def _match(head: Head, tokens: Tensor) -> None:
    """Attend to what is equal in the columns of ``tokens`` (d, below h), at another position."""
    count = tokens.shape[1]
    head.query.zero_()
    head.key.zero_()
    head.query[:count] = head.key[:count] = 1.9 * tokens.T
    rest = len(head.query) - count  # the shorter wavelengths, which tell neighbours apart
    head.query[count:, :rest] = -2.4 * torch.eye(rest)
    head.key[count:, :rest] = 2.4 * torch.eye(rest)


def _earlier(head: Head) -> None:
    """Prefer what stands before: a square wave of the distance, from its first odd harmonics."""
    size, rows = 2 * len(_FAR), len(head.query)
    last, turned = slice(rows - size, rows), _rotation(torch.full((len(_FAR),), math.pi / 2))
    weights = torch.tensor([_FAR[0] / length for length in _FAR]).reciprocal().repeat_interleave(2)
    head.query.zero_()
    head.key.zero_()
    head.query[:size, last] = 8.0 * math.sqrt(rows) / 2 * 4 / math.pi * weights[:, None] * turned
    head.key[:size, last] = torch.eye(size)
    head.key[size:] = _orthonormal(head.key.shape[1], rows - size, slice(rows, head.key.shape[1])).T


def _prefer(head: Head, scores: list[tuple[Tensor, float]]) -> None:
    """Query biases: each of some tokens (d) has a score, whatever the query."""
    seen = torch.stack([head.key @ token for token, _ in scores])
    wanted = torch.tensor([score for _, score in scores]) * math.sqrt(len(head.query))
    head.bias[:] = torch.linalg.pinv(seen) @ wanted


def _angles(shortest: float, longest: float, count: int) -> Tensor:
    """(count): radians a token of wavelengths between ``shortest`` and ``longest`` tokens."""
    return 2 * math.pi / torch.logspace(math.log10(shortest), math.log10(longest), count)


def _rotation(angles: Tensor) -> Tensor:
    """(2n, 2n): turns n pairs (sine, cosine) of phases back by ``angles`` (n)."""
    turns = [torch.tensor([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]]) for a in angles.tolist()]
    return torch.block_diag(*turns)


def _orthonormal(rows: int, columns: int, within: slice) -> Tensor:
    """A random (rows, columns) matrix with orthonormal columns that is zero outside the rows ``within``."""
    matrix = torch.zeros(rows, columns)
    matrix[within], _ = torch.linalg.qr(torch.randn(within.stop - within.start, columns))
    return matrix
