"""A start for GPT-2's weights that can already copy, so that a pretraining of one minute has something to build on.

Copying a name from the context takes two attention layers: a head that looks one token back, and heads in the next
layer that look for an earlier occurrence of the current token and bring what followed it (an induction circuit, Olsson
et al. 2022, arXiv 2209.11895). Real pretraining finds it after billions of tokens; here there is half a million. Like
mimetic initialisation (Trockman and Kolter 2023, arXiv 2305.09828), this writes the structure that training would find
into the initial weights. Every weight is trained from there on.
"""

import math
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor
from transformers import GPT2LMHeadModel
from transformers.models.gpt2.modeling_gpt2 import GPT2Block

_TOKEN, _POSITION, _REST = 0.15, 0.3, 0.02  # standard deviation, amplitude, standard deviation
_LOOK_BACK, _MATCH, _PASS_ON, _COPY = 1.5, 2.0, 0.3, 1.0  # gains of the four steps of the circuit
_SHORTEST, _LONGEST = 4, 60  # wavelengths of the positions, in tokens


def write_induction_circuit(model: GPT2LMHeadModel) -> None:
    """Overwrite the initial weights of ``model``: an induction circuit in its first two layers, small noise elsewhere.

    With d the width, h the head size and P the first h residual dimensions (which hold sinusoidal positions, and no
    token):

    * layer 0, heads 0 and 1: keys read P and queries read P turned back by one or by two tokens, so each head attends
      to that token; its values are the token seen through M (d×h), which its output writes along N₁ or N₂ (d×h).
    * layer 1, every head: queries M · current token, keys N₁ or N₂ · earlier token, so it attends to what stood one
      place after an earlier occurrence, or two (``Alan_Turing`` → ``Alan Turing``); values and outputs are an
      orthonormal basis outside P and its transpose, so it copies.

    Needs at least two layers of at least two heads, and draws from torch's global generator.
    """
    width, head = model.config.n_embd, model.config.n_embd // model.config.n_head
    body = model.transformer
    for parameter in body.h.parameters():
        if parameter.dim() == 2:
            torch.nn.init.normal_(parameter, std=_REST)
    angles = 2 * math.pi / torch.logspace(math.log10(_SHORTEST), math.log10(_LONGEST), head // 2)
    phases = torch.arange(model.config.n_positions)[:, None] * angles
    with torch.no_grad():
        body.wte.weight.normal_(std=_TOKEN)[:, :head] = 0
        body.wpe.weight.zero_()
        body.wpe.weight[:, 0:head:2] = _POSITION * phases.sin()
        body.wpe.weight[:, 1:head:2] = _POSITION * phases.cos()
        seen = _orthonormal(width, head, blank=head)
        written = _orthonormal(width, 2 * head).split(head, dim=1)

        first, second = (block.attn for block in cast(list[GPT2Block], [body.h[0], body.h[1]]))
        # c_attn is a Conv1D: weight (in, out), and its output is [queries, keys, values]
        for back in (1, 2):
            part = slice((back - 1) * head, back * head)
            queries, keys, values = (matrix[:, part] for matrix in first.c_attn.weight.split(width, dim=1))
            queries[:] = 0
            keys[:] = 0
            for pair, angle in enumerate((back * angles).tolist()):
                sine, cosine = 2 * pair, 2 * pair + 1
                keys[sine, sine] = keys[cosine, cosine] = _LOOK_BACK
                queries[sine, sine] = queries[cosine, cosine] = _LOOK_BACK * math.cos(angle)
                queries[cosine, sine] = -_LOOK_BACK * math.sin(angle)
                queries[sine, cosine] = _LOOK_BACK * math.sin(angle)
            values[:] = seen
            first.c_proj.weight[part] = _PASS_ON * written[back - 1].T

        queries, keys, values = second.c_attn.weight.split(width, dim=1)
        for number in range(width // head):
            part = slice(number * head, (number + 1) * head)
            queries[:, part] = _MATCH * seen
            keys[:, part] = _MATCH * written[number == width // head - 1]
        values.zero_()
        values[:, : width - head] = _orthonormal(width, width - head, blank=head)
        second.c_proj.weight[:] = _COPY * values.T


def pair_word_forms(embeddings: Tensor, vocabulary: Mapping[str, int], likeness: float = 0.8) -> None:
    """Make the embeddings of a word inside a text and at its start alike, as those of trained models are.

    A byte-level BPE has ``ĠTuring`` for the word after a space and ``Turing`` elsewhere, say in ``Alan_Turing``.

    Args:
        embeddings: (tokens, d) random initial embeddings, changed in place.
        vocabulary: token → row.
        likeness: the cosine similarity of the two.
    """
    with torch.no_grad():
        for token, row in vocabulary.items():
            other = vocabulary.get(token.removeprefix("Ġ")) if token.startswith("Ġ") else None
            if other is not None:
                embeddings[row] = likeness * embeddings[other] + math.sqrt(1 - likeness**2) * embeddings[row]


def _orthonormal(rows: int, columns: int, blank: int = 0) -> Tensor:
    """A random (rows, columns) matrix with orthonormal columns whose first ``blank`` rows are zero."""
    basis, _ = torch.linalg.qr(torch.randn(rows - blank, columns))
    return torch.cat([torch.zeros(blank, columns), basis])
