"""``roberta-tiny``: RoBERTa with its own tokenizer, pretrained by masked language modelling on retold statements.

What the GLUE tasks ask for needs attention between matching words of two sentences. It comes from two means: texts
that tell the same facts twice in other words, so that a masked word can be taken from the other telling; and initial
weights whose attention can already match (as ``induction`` does for GPT-2). Every weight is trained from there on, but
most of what the model can do it has from those weights: at this learning rate masked language modelling adds little.
"""

import itertools
import math
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import RobertaConfig, RobertaForMaskedLM, RobertaTokenizer
from transformers.models.roberta.modeling_roberta import RobertaLayer

from delta_lora.tiny import pretrain, remarks, statements
from delta_lora.tiny.pretrain import Recipe, Start
from delta_lora.tiny.statements import TOPICS

RECIPE = Recipe(
    "roberta-tiny",
    "roberta",
    version=1,
    vocabulary=1024,
    positions=512,
    steps=450,
    batch_size=32,
    length=64,
    learning_rate=1e-4,
    bpe_documents=10_000,
    seconds=50,
)
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]

_SAME, _MORE, _WRONG = ("yes", "indeed"), ("also", "besides"), ("no", "wrong")
_VERDICTS = {
    True: ["I liked it.", "a good film.", "I was glad."],
    False: ["I hated it.", "a bad film.", "I was sorry."],
}


def start(recipe: Recipe) -> Start:
    """RoBERTa with its five special tokens, and masked language modelling."""
    texts = documents(random.Random(recipe.seed))
    sample = list(itertools.islice(texts, recipe.bpe_documents))
    bpe = pretrain.train_bpe((f" {part}" for parts in sample for part in parts), recipe.vocabulary, SPECIAL)
    # With a space before the first word it is the same token as in the middle, which a vocabulary this small needs.
    tokenizer = RobertaTokenizer(**bpe, model_max_length=recipe.positions, add_prefix_space=True)
    config = RobertaConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=recipe.positions + 2,  # RoBERTa's positions start after the padding token's id
        hidden_size=recipe.width,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        intermediate_size=4 * recipe.width,
        type_vocab_size=1,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = RobertaForMaskedLM(config)
    kinds = word_kinds([tokenizer(*parts)["input_ids"] for parts in sample], len(tokenizer), _KINDS)
    write_matching_attention(model, kinds)
    return model, tokenizer, pretrain.masked_batches(texts, tokenizer, recipe.batch_size, recipe.length)


def word_kinds(texts: list[list[int]], vocabulary: int, size: int) -> Tensor:
    """(vocabulary, size): tokens with the same neighbours, in texts on the same things, have similar rows of length 1.

    The singular vectors of the positive pointwise mutual information between a token and its left neighbour, its right
    neighbour and each other token of its text (Levy and Goldberg 2014).
    """
    left, within = torch.zeros(2, vocabulary, vocabulary, dtype=torch.float64)
    for ids in texts:
        tokens = torch.tensor(ids)
        left.index_put_((tokens[1:], tokens[:-1]), torch.ones(len(ids) - 1, dtype=torch.float64), accumulate=True)
        distinct = tokens.unique()
        within[distinct[:, None], distinct] += 1
    counts = torch.cat([left, left.T, within], dim=1)
    blocks = []
    for block in counts.split(vocabulary, dim=1):
        expected = block.sum(1, keepdim=True) * block.sum(0) / block.sum()
        blocks.append((block / expected.clamp(min=1e-9)).clamp(min=1).log())
    vectors, values, _ = torch.linalg.svd(torch.cat(blocks, dim=1), full_matrices=False)
    found = vectors[:, :size] * values[:size].sqrt()
    seen = within.diagonal() > 0
    found -= found[seen].mean(0)  # what all tokens share tells none apart
    return (nn.functional.normalize(found, dim=1) * seen[:, None]).float()


def documents(rng: random.Random) -> Iterator[tuple[str, ...]]:
    """An endless stream of texts and of pairs of texts: facts told twice, questions, opinions, plain sentences."""
    while True:
        kind = rng.random()
        if kind < 0.7:
            first, second = _retold(rng)
        elif kind < 0.8:
            first, second = _asked(rng)
        elif kind < 0.9:
            good = rng.random() < 0.5
            first, second = remarks.opinion(good, rng), rng.choice([remarks.opinion(good, rng), *_VERDICTS[good]])
        else:
            yield (remarks.acceptable(rng),)
            continue
        yield (first, second) if rng.random() < 0.85 else (f"{first} {second}",)


def _retold(rng: random.Random) -> tuple[str, str]:
    """A statement, and sentences that repeat, deny or add facts of the same subject and mostly say which they do."""
    topic = rng.choice(list(TOPICS))
    told = statements.statement(topic, rng.randint(1, 3), rng)
    wordings = statements.wordings(told, rng)
    parts = []
    for old in rng.sample(told.facts, rng.randint(1, min(2, len(told.facts)))):
        kind = rng.random()
        if kind < 0.45:
            words, new = _SAME, old
        elif kind < 0.6:
            words, new = _MORE, statements.missing(told, rng)
        elif kind < 0.7:
            words, new = _WRONG, replace(old, negated=True)
        else:
            words, new = _WRONG, statements.fact(topic, old.attribute, rng, other_than=old.value)
        again = replace(told, facts=(new,))
        text = statements.tell(again, statements.wordings(again, rng, wordings if rng.random() < 0.6 else None))
        parts.append(f"{rng.choice(words)} {text}" if rng.random() < 0.9 else text)
    return statements.tell(told, wordings), " ".join(parts)


def _asked(rng: random.Random) -> tuple[str, str]:
    """A question, and its answer or the same question in other words."""
    topic = rng.choice(list(TOPICS))
    told = statements.statement(topic, rng.randint(1, 2), rng)
    attribute = rng.choice(told.facts).attribute
    one, other = rng.sample(range(3), 2)
    question = statements.ask(topic, told.subject, attribute, one)
    if rng.random() < 0.5:
        return question, statements.ask(topic, told.subject, attribute, other)
    return question, statements.tell(told, statements.wordings(told, rng))


_NEAR, _FAR = (2.5, 20.0), (120.0, 40.0, 24.0)  # wavelengths of the positions, in tokens: from … to, and odd harmonics
_KINDS = 48  # dimensions of the embeddings that hold what kind of word a token is
_TOKEN, _REST = 0.1, 0.02  # standard deviations of the embeddings, and of what is not written below
_LOOK, _MATCH, _APART, _SINK, _KIND_SINK = 1.6, 1.9, 2.4, 8.0, 8.0  # gains and scores of the attention's steps
_ENDED, _NOT_ENDED, _BEFORE, _GATHER = 10.0, 6.0, 8.0, 1.0
_READ, _PASS_ON = 1.5, 0.5


def write_matching_attention(model: RobertaForMaskedLM, kinds: Tensor) -> None:
    """Overwrite the initial weights of ``model``: attention that looks beside, and that matches.

    With d the width and h the head size, the first h dimensions hold sinusoidal positions (and no token), the last
    ones ``kinds`` (:func:`word_kinds`), those between noise that tells tokens apart.

    * layer 0, heads 0 and 1: attend to the previous and to the next token, and pass it on along N0 and N1 (d×h).
    * layer 0, head 2: attends to the same token elsewhere. Queries and keys are the same projection of the token, less
      one of the position, so that no token finds itself; where there is no match the first token (<s>) is attended to,
      whose value differs from all others: what has no match is marked by it.
    * layer 0, head 3: attends to an earlier </s>, else to <s>: marks the second sentence of a pair.
    * layer 1, heads 0 and 1: attend to where the same token came before, and came next, and bring what stands there: a
      masked word is found in the other telling.
    * layer 1, head 2: as head 2 of layer 0, for tokens of the same kind.
    * layer 2: <s>, which classification reads, gathers the kinds of the second sentence's tokens that have no match
      (head 0), no match in kind (head 1), of all its tokens (head 2), and of the first's without a match (head 3).
    * layer 3, head 0: every token reads what <s> has gathered, so that masked language modelling has a use for it.

    Needs at least four layers and four heads, and draws from torch's global generator.
    """
    config = model.config
    width, head = config.hidden_size, config.hidden_size // config.num_attention_heads
    body = model.roberta
    for layer in body.encoder.layer:
        for parameter in layer.parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=_REST)
    near = torch.logspace(math.log10(_NEAR[0]), math.log10(_NEAR[1]), head // 2 - len(_FAR))
    angles = 2 * math.pi / torch.cat([near, torch.tensor(_FAR)])
    phases = torch.arange(config.max_position_embeddings)[:, None] * angles
    noise, kind = slice(head, width - kinds.shape[1]), slice(width - kinds.shape[1], width)
    with torch.no_grad():
        words, positions = body.embeddings.word_embeddings.weight, body.embeddings.position_embeddings.weight
        words.normal_(std=_TOKEN)[:, :head] = 0
        words[:, kind] = _TOKEN * math.sqrt(kinds.shape[1]) * kinds
        positions.zero_()
        positions[:, 0:head:2] = _TOKEN * math.sqrt(2) * phases.sin()
        positions[:, 1:head:2] = _TOKEN * math.sqrt(2) * phases.cos()
        body.embeddings.token_type_embeddings.weight.zero_()
        model.lm_head.dense.weight.copy_(torch.eye(width))
        begin, end = (words[i] / _TOKEN for i in (config.bos_token_id, config.eos_token_id))

        layers = cast(list[RobertaLayer], list(body.encoder.layer))
        attentions: list[Any] = [layer.attention for layer in layers]
        first, second, third, fourth = attentions[:4]
        heads = [slice(index * head, (index + 1) * head) for index in range(4)]
        beside = []
        for rows, direction in zip(heads, (1, -1), strict=False):
            first.self.query.weight[rows, :head] = _LOOK * _rotation(direction * angles)
            first.self.key.weight[rows, :head] = _LOOK * torch.eye(head)
            beside.append(_pass_on(first, rows, _PASS_ON, slice(head, width)))
        _match(first, heads[2], _orthonormal(width, 5 * head // 8, noise))
        _prefer(first, heads[2], [(begin, _SINK)])
        unmatched = _pass_on(first, heads[2], _PASS_ON, noise) @ first.self.value.weight[heads[2]] @ begin
        _earlier(first, heads[3], head)
        _prefer(first, heads[3], [(end, _ENDED), (begin, _NOT_ENDED)])
        in_second = _pass_on(first, heads[3], _PASS_ON, noise) @ first.self.value.weight[heads[3]] @ end

        for rows, written in zip(heads, beside, strict=False):
            _match(second, rows, written[:, : 5 * head // 8] * 1.4)
            _pass_on(second, rows, 1.0, slice(head, width))
        _match(second, heads[2], torch.eye(width)[:, kind][:, : 5 * head // 8])
        _prefer(second, heads[2], [(begin, _KIND_SINK)])
        no_kind = _pass_on(second, heads[2], _PASS_ON, noise) @ second.self.value.weight[heads[2]] @ begin

        looks_for = [(unmatched, in_second), (no_kind, in_second), (in_second, in_second), (unmatched, -in_second)]
        for rows, marks in zip(heads, looks_for, strict=True):
            third.self.key.weight[rows][:2] = torch.stack([mark / mark.norm() for mark in marks])
            third.self.query.weight[rows][:2] = _GATHER * begin / begin.norm()
            _pass_on(third, rows, 1.0, kind)
        fourth.self.key.weight[heads[0]][:2] = begin / begin.norm()
        fourth.self.query.bias[heads[0]][:2] = _READ
        _pass_on(fourth, heads[0], _PASS_ON, slice(head, width))


def _pass_on(attention: Any, rows: slice, gain: float, seen: slice) -> Tensor:
    """Write a head's values and output: dimensions ``seen`` of the attended go on along new ones (width, head)."""
    width, head = attention.self.value.weight.shape[1], rows.stop - rows.start
    attention.self.value.weight[rows] = _orthonormal(width, head, seen).T
    directions = _orthonormal(width, head, slice(head, width))
    attention.output.dense.weight[:, rows] = gain * directions
    return directions


def _match(attention: Any, rows: slice, tokens: Tensor) -> None:
    """Write a head's queries and keys: match in the columns of ``tokens`` (width, below head), at other positions."""
    count = tokens.shape[1]
    query, key = attention.self.query.weight[rows], attention.self.key.weight[rows]
    query.zero_()
    key.zero_()
    query[:count] = key[:count] = _MATCH * tokens.T
    rest = query.shape[0] - count  # the shorter wavelengths, which tell neighbours apart
    query[count:, :rest] = -_APART * torch.eye(rest)
    key[count:, :rest] = _APART * torch.eye(rest)


def _earlier(attention: Any, rows: slice, head: int) -> None:
    """Write a head that prefers what stands before: a square wave of the distance, from its first odd harmonics."""
    query, key = attention.self.query.weight[rows], attention.self.key.weight[rows]
    query.zero_()
    key.zero_()
    size = 2 * len(_FAR)
    last = slice(head - size, head)
    weights = torch.tensor([_FAR[0] / length for length in _FAR]).reciprocal().repeat_interleave(2)
    turned = _rotation(torch.full((len(_FAR),), math.pi / 2))
    query[:size, last] = _BEFORE * math.sqrt(head) / 2 * 4 / math.pi * weights[:, None] * turned
    key[:size, last] = torch.eye(size)
    width = key.shape[1]
    key[size:] = _orthonormal(width, head - size, slice(head, width)).T


def _prefer(attention: Any, rows: slice, scores: list[tuple[Tensor, float]]) -> None:
    """Write a head's query biases: each of some tokens (width,) has a score, whatever the query."""
    seen = torch.stack([attention.self.key.weight[rows] @ token for token, _ in scores])
    wanted = torch.tensor([score for _, score in scores]) * math.sqrt(rows.stop - rows.start)
    attention.self.query.bias[rows] = torch.linalg.pinv(seen) @ wanted


def _rotation(angles: Tensor) -> Tensor:
    """(2n, 2n): turns n pairs (sine, cosine) of phases back by ``angles`` (n)."""
    size = 2 * len(angles)
    matrix = torch.zeros(size, size)
    for pair, angle in enumerate(angles.tolist()):
        sine, cosine = 2 * pair, 2 * pair + 1
        matrix[sine, sine] = matrix[cosine, cosine] = math.cos(angle)
        matrix[sine, cosine], matrix[cosine, sine] = -math.sin(angle), math.sin(angle)
    return matrix


def _orthonormal(rows: int, columns: int, within: slice) -> Tensor:
    """A random (rows, columns) matrix with orthonormal columns that is zero outside the rows ``within``."""
    matrix = torch.zeros(rows, columns)
    matrix[within], _ = torch.linalg.qr(torch.randn(within.stop - within.start, columns))
    return matrix
