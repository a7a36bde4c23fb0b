"""Beam search for decoder-only models by the rule of microsoft/LoRA, each token of each input computed once.

A prompt runs once, whatever the beams; beams that cannot win any more are not computed; an input that is finished
gives its slot to the next; only the last positions reach the head. Keys and values: :mod:`.prefix_tree`.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from delta_lora.errors import RunError
from delta_lora.suite.run.hypotheses import Extended, Hypotheses, Rule
from delta_lora.suite.run.precision import NOT_NUMBERS
from delta_lora.suite.run.prefix_tree import GROWTH, PrefixTree, Queries, attention_in_trees


def beam_search(
    model: PreTrainedModel,
    prompts: Sequence[list[int]],
    *,
    beams: int,
    length_penalty: float,
    no_repeat_ngram_size: int,
    max_new_tokens: int,
    eos_token_id: int,
    pad_token_id: int,
    batch_size: int,
) -> list[list[int]]:
    """The best continuation of each prompt.

    Args:
        model: decoder-only, on its device; its log-probabilities are computed in float32.
        prompts: token ids, at least one each.
        beams: continuations that a step keeps, of one input.
        length_penalty: Σ log p is divided by the length, eos counted, to this power.
        no_repeat_ngram_size: no n-gram of what is generated comes twice; 0: any may.
        max_new_tokens: the longest continuation.
        eos_token_id: ends a continuation.
        pad_token_id: a token of the vocabulary that stands where nothing is written.
        batch_size: inputs at a time. It changes no text but where two texts are equally good.

    Returns:
        Token ids of each, in the prompts' order, without the closing eos.

    Raises:
        UserError: the model's attention cannot be replaced.
        RunError: the model's scores are no numbers.
    """
    rule = Rule(beams, length_penalty, no_repeat_ngram_size, max_new_tokens, eos_token_id, pad_token_id)
    found = dict(search(model, prompts, rule, batch_size))
    return [found[i] for i in range(len(prompts))]


@torch.inference_mode()
def search(
    model: PreTrainedModel, prompts: Sequence[list[int]], rule: Rule, batch_size: int
) -> Iterator[tuple[int, list[int]]]:
    """The number and the continuation of each prompt, as they are found (:func:`beam_search` has the terms)."""
    if not prompts:
        return
    waiting = sorted(enumerate(prompts), key=lambda each: len(each[1]))  # the longest, taken first, take longest
    with attention_in_trees(model):
        batch = Batch(model, rule, min(batch_size, len(prompts)), max(len(ids) for ids in prompts))
        while waiting or batch.busy():
            yield from batch.step(waiting)


class Batch:
    """The inputs that are searched at a time, each in its slot.

    Args:
        slots: how many.
        longest: tokens of the longest prompt.
    """

    def __init__(self, model: PreTrainedModel, rule: Rule, slots: int, longest: int) -> None:
        self.model, self.rule, self.device = model, rule, model.device
        self.texts = Hypotheses(rule, slots, model.device)
        self.span = longest  # places that are in use at most
        self.tree = PrefixTree(slots, rounded(longest + rule.beams), model.dtype)
        # The places of the tree that a beam is made of, and the one that its newest token goes to.
        self.paths = torch.zeros(slots, rule.beams, self.tree.places, dtype=torch.bool, device=self.device)
        self.newest = torch.zeros(slots, rule.beams, dtype=torch.long, device=self.device)
        self.prompt_lengths = torch.zeros(slots, dtype=torch.long, device=self.device)
        self.inputs: list[int | None] = [None] * slots
        self.running = [0] * slots  # beams of each slot
        self.written = [0] * slots  # tokens of each beam

    def busy(self) -> bool:
        """Whether an input is being searched."""
        return any(number is not None for number in self.inputs)

    def step(self, waiting: list[tuple[int, list[int]]]) -> list[tuple[int, list[int]]]:
        """One token more for every beam; free slots take inputs off the end of ``waiting``.

        Returns:
            The inputs that are finished: number and continuation.
        """
        new: list[tuple[int, list[int]]] = []
        beams = [(slot, beam) for slot, count in enumerate(self.running) for beam in range(count)]
        for slot, number in enumerate(self.inputs):
            if number is None and waiting:
                self.inputs[slot], prompt = waiting.pop()
                new.append((slot, prompt))
        logits = self._logits(beams, new)
        at = self._indices([*beams, *((slot, 0) for slot, _ in new)])
        busy = [slot for slot, number in enumerate(self.inputs) if number is not None]
        for slot in busy:
            self.written[slot] += 1
        ends = any(self.written[slot] == self.rule.max_new_tokens for slot in busy)
        self._branch(self.texts.extend(logits, at, ends))
        finished = [slot for slot in busy if not self.running[slot]]
        return self._leave(finished) if finished else []

    def _logits(self, beams: list[tuple[int, int]], new: list[tuple[int, list[int]]]) -> Tensor:
        """``(beams + new, vocabulary)`` after the newest token of each beam, and after each new prompt."""
        slot, beam = self._indices(beams)
        tokens = [self.texts.history[slot, beam, -1]]
        places = [self.newest[slot, beam]]
        positions = [self.prompt_lengths[slot] + self.texts.lengths[slot] - 1]
        width = max(self.running, default=0)
        seen = min(rounded(self.span, self.tree.multiple), self.tree.places)
        queries = [Queries(slice(0, len(beams)), None, slot * width + beam, width, self.paths[:, :width, :seen])]
        slots, heads = [slot], list(range(len(beams)))
        if new:
            own, place = self._indices([(i, place) for i, (_, ids) in enumerate(new) for place in range(len(ids))])
            new_slots, lengths = self._indices([(slot, len(ids)) for slot, ids in new])
            self._start(new_slots, lengths)
            tokens.append(torch.tensor([token for _, ids in new for token in ids], device=self.device))
            places.append(place)
            positions.append(place)
            slots.append(new_slots[own])
            longest = max(len(ids) for _, ids in new)
            seen = min(rounded(longest, self.tree.multiple), self.tree.places)
            before = torch.ones(longest, seen, dtype=torch.bool, device=self.device).tril()
            rows = slice(len(beams), len(beams) + len(place))
            queries.append(Queries(rows, new_slots, own * longest + place, longest, before.expand(len(new), -1, -1)))
            for _, ids in new:
                heads.append((heads[-1] if len(heads) > len(beams) else len(beams) - 1) + len(ids))
        self.tree.step(torch.cat(slots), torch.cat(places), queries)
        row = torch.cat(tokens)[None]
        output = self.model(
            input_ids=row,
            attention_mask=torch.ones_like(row),
            position_ids=torch.cat(positions)[None],
            prefix_tree=self.tree,
            use_cache=False,
            logits_to_keep=torch.tensor(heads, device=self.device),
        )
        logits: Tensor = output.logits[0]
        return logits

    def _start(self, slots: Tensor, lengths: Tensor) -> None:
        """Inputs with prompts of ``lengths`` tokens, in ``slots``: a prompt's tokens are a tree's first places."""
        self.texts.start(slots)
        self.prompt_lengths[slots] = lengths
        self.paths[slots] = False
        self.paths[slots, 0] = torch.arange(self.tree.places, device=self.device) < lengths[:, None]

    def _branch(self, extended: Extended) -> None:
        """The beams that a step has chosen: the path of each is its parent's, and a free place for its token."""
        parents, running = extended
        if self.span + self.rule.beams > self.tree.places:
            grown = rounded(self.span + self.rule.beams)
            self.paths = torch.nn.functional.pad(self.paths, (0, grown - self.tree.places))
            self.tree.places = grown
        paths = self.paths.gather(1, parents[..., None].expand_as(self.paths)) & running[..., None]
        # Places that no beam is made of any more are free again: the first of them are taken.
        self.newest = paths.any(1).to(torch.uint8).argsort(dim=1, stable=True)[:, : self.rule.beams]
        self.paths = paths.scatter(2, self.newest[..., None], running[..., None])
        used = self.paths.any(1) * torch.arange(1, self.tree.places + 1, device=self.device)
        # The one time in a step that the processor waits for the device.
        self.running, spans, broken = torch.stack([running.sum(1), used.amax(1), self.texts.broken]).tolist()
        if any(broken):
            raise RunError(NOT_NUMBERS)
        self.span = max(spans)

    def _leave(self, slots: list[int]) -> list[tuple[int, list[int]]]:
        """Free the slots of inputs that are finished."""
        finished = []
        for slot, ids in zip(slots, self.texts.texts(slots), strict=True):
            number = self.inputs[slot]
            assert number is not None, "only a slot in use is finished"
            finished.append((number, ids))
            self.inputs[slot], self.written[slot] = None, 0
        return finished

    def _indices(self, pairs: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        """Two index tensors of as many numbers as there are pairs."""
        both = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).t().contiguous().to(self.device)
        return both[0], both[1]


def rounded(count: int, to: int = GROWTH) -> int:
    """Up to a multiple."""
    return -(-count // to) * to
