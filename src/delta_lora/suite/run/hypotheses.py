"""What a beam search holds of each input: its beams, what they have written, and the best text that has ended.

All of it stays on the model's device, as ``(slots, beams)`` and the like; a slot is the place of one input.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

NEVER = float("-inf")  # the sum of a place that no beam is in
BLOCK = 64  # tokens of which only the largest logit is looked at first
CHUNK = 2**19  # logits on a CPU at a time: as float32 they stay in its cache


@dataclass(frozen=True)
class Rule:
    """What the search looks for (examples/NLG/src/gpt2_beam.py of microsoft/LoRA, c4593f0).

    Attributes:
        beams: continuations kept a step, of one input.
        length_penalty: a text's Σ log p is divided by its length, eos counted, to this power.
        no_repeat_ngram_size: no n-gram of what is generated twice; 0: any.
        max_new_tokens: steps; the beams that are left after them count as ended.
        eos_token_id: ends a text.
        pad_token_id: stands where nothing is written yet.
    """

    beams: int
    length_penalty: float
    no_repeat_ngram_size: int
    max_new_tokens: int
    eos_token_id: int
    pad_token_id: int


class Extended(NamedTuple):
    """Where the beams of a step come from, those that run on first: each ``(slots, beams)``."""

    parents: Tensor  # the beams of the step before that they continue
    running: Tensor  # whether they run on


class Hypotheses:
    """Beams of ``slots`` inputs at a time under one rule."""

    def __init__(self, rule: Rule, slots: int, device: torch.device) -> None:
        self.rule = rule
        most = rule.max_new_tokens
        self.sums = torch.full((slots, rule.beams), NEVER, device=device)  # Σ log p
        # What is written, right-aligned: the newest token is the last.
        self.history = torch.full((slots, rule.beams, most), rule.pad_token_id, device=device)
        self.lengths = torch.zeros(slots, dtype=torch.long, device=device)
        self.best_scores = torch.full((slots,), NEVER, device=device)
        self.best = torch.full((slots, most), rule.pad_token_id, device=device)
        self.best_lengths = torch.zeros(slots, dtype=torch.long, device=device)
        self.broken = torch.zeros(slots, dtype=torch.long, device=device)  # 1: the model's scores are no numbers
        powers = [1.0] + [length**rule.length_penalty for length in range(1, most + 2)]
        self.powers = torch.tensor(powers, device=device)  # of each length

    def start(self, slots: Tensor) -> None:
        """Put new inputs in ``slots``: one beam each, of nothing."""
        self.sums[slots] = NEVER
        self.sums[slots, 0] = 0.0
        self.lengths[slots] = 0
        self.best_scores[slots] = NEVER
        self.best_lengths[slots] = 0

    def extend(self, logits: Tensor, at: tuple[Tensor, Tensor], ends: bool) -> Extended:
        """One step: the best continuations of each input over all of its beams; those that end leave.

        Args:
            logits: ``(rows, vocabulary)``, one row for each beam that runs; overwritten.
            at: the slot and the beam of each row.
            ends: whether this is some input's last step.
        """
        self._ban_repeats(logits, at)
        parents, tokens = self._select(logits, at)
        self.lengths += 1
        before = self.history.gather(1, parents[..., None].expand_as(self.history))
        self.history = torch.cat([before[..., 1:], tokens[..., None]], dim=-1)
        ended = tokens == self.rule.eos_token_id
        self._keep_best(ended)
        if ends:
            last = (self.lengths == self.rule.max_new_tokens)[:, None]
            self._keep_best(last & ~ended)
            ended = ended | last
        running = ~ended & self._can_win()
        # Those that run on come first, in their order, so that how many they are says which.
        order = (~running).to(torch.uint8).argsort(dim=1, stable=True)
        running = running.gather(1, order)
        self.sums = self.sums.gather(1, order).masked_fill(~running, NEVER)
        self.history = self.history.gather(1, order[..., None].expand_as(self.history))
        return Extended(parents.gather(1, order), running)

    def texts(self, slots: list[int]) -> list[list[int]]:
        """The best text of each slot, without its eos."""
        lengths = self.best_lengths[slots].tolist()
        rows = self.best[slots].tolist()
        most, eos = self.rule.max_new_tokens, self.rule.eos_token_id
        written = [row[most - length :] for row, length in zip(rows, lengths, strict=True)]
        return [ids[:-1] if ids and ids[-1] == eos else ids for ids in written]

    def _ban_repeats(self, logits: Tensor, at: tuple[Tensor, Tensor]) -> None:
        """−∞ for what would complete an n-gram that the beam has written before."""
        n, most = self.rule.no_repeat_ngram_size, self.rule.max_new_tokens
        starts = most - n + 1  # of n-grams in a history
        if n < 1 or starts < 1:
            return
        history = self.history[at]
        begin = (most - self.lengths[at[0]])[:, None]
        repeated = torch.arange(starts, device=logits.device) >= begin
        for i in range(n - 1):  # the n-gram's first tokens are the beam's last
            repeated = repeated & (history[:, i : i + starts] == history[:, starts + i, None])
        bans = torch.zeros_like(repeated, dtype=logits.dtype).masked_fill_(repeated, NEVER)
        row = torch.arange(len(logits), device=logits.device)[:, None]
        logits.index_put_((row, history[:, n - 1 :]), bans, accumulate=True)  # scatter_add_ is slow in bfloat16

    def _select(self, logits: Tensor, at: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """The parents and tokens of the best continuations, best first; their sums are the beams' from here on."""
        slots, beams = self.sums.shape
        gain, token = best_tokens(logits, min(beams, logits.shape[1]))  # no beam has more among the best
        each = gain.shape[1]
        sums = self.sums.new_full((slots, beams, each), NEVER)
        sums[at] = self.sums[at][:, None] + gain
        tokens = token.new_full((slots, beams, each), self.rule.pad_token_id)
        tokens[at] = token
        self.sums, chosen = sums.flatten(1).topk(beams)  # NaN counts as the largest
        self.broken = self.sums.isnan().any(1).long()
        return chosen // each, tokens.flatten(1).gather(1, chosen)

    def _keep_best(self, ended: Tensor) -> None:
        """Score the texts that have ended; a slot's best gives way only to a better one."""
        sums, beam = self.sums.masked_fill(~ended, NEVER).max(dim=1)
        scores = sums / self.powers[self.lengths.clamp(max=self.rule.max_new_tokens)]
        better = scores > self.best_scores
        self.best_scores = torch.where(better, scores, self.best_scores)
        self.best_lengths = torch.where(better, self.lengths, self.best_lengths)
        texts = self.history[torch.arange(len(beam), device=beam.device), beam]
        self.best = torch.where(better[:, None], texts, self.best)

    def _can_win(self) -> Tensor:
        """Whether a beam can still beat the best of its slot: its sum only falls, so its best end is known.

        What a beam that cannot would have kept from the best continuations cannot win either, as its sum is lower
        still: leaving such beams out changes no text.
        """
        most = self.rule.max_new_tokens
        ends = torch.maximum(self.powers[(self.lengths + 1).clamp(max=most)], self.powers[most])
        return self.sums / ends[:, None] > self.best_scores[:, None]


def best_tokens(logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The ``count`` most probable tokens of each row of ``(rows, vocabulary)``, the most probable first.

    Returns:
        Their log-probabilities in float32, −∞ for what is banned, NaN in a row that has one, and their numbers: each
        ``(rows, count)``.
    """
    rows = max(1, CHUNK // logits.shape[1]) if logits.device.type == "cpu" else len(logits)
    parts = []
    for part in logits.split(rows):
        full = part.float()
        top, token = largest(full, count)
        # Σ exp is left to softmax: it is the fastest kernel that has it, and the largest probability never underflows.
        first = full.softmax(-1).gather(1, token[:, :1]).log()
        parts.append((torch.where(top == NEVER, NEVER, top - top[:, :1] + first), token))  # also where all are banned
    gains, tokens = zip(*parts, strict=True)
    return torch.cat(gains), torch.cat(tokens)


def largest(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """``values.topk(count)`` of ``(rows, many)``, with a full look only at the blocks that can hold them.

    A quarter of the time on a CPU: no more than ``count`` blocks hold one of the ``count`` largest, and those blocks
    have the largest maxima.
    """
    rows, many = values.shape
    blocks = many // BLOCK
    if blocks <= count:
        return values.topk(count)
    maxima = values[:, : blocks * BLOCK].unflatten(1, (blocks, BLOCK)).amax(-1)
    place = torch.arange(BLOCK, device=values.device)
    numbers = (maxima.topk(count).indices[..., None] * BLOCK + place).flatten(1)
    rest = torch.arange(blocks * BLOCK, many, device=values.device).expand(rows, -1)
    numbers = torch.cat([numbers, rest], dim=1)
    top, at = values.gather(1, numbers).topk(count)
    return top, numbers.gather(1, at)
