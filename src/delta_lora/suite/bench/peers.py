"""What training costs beside what people use instead: PEFT with ``transformers.Trainer``, and loralib."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import AutoTokenizer

from delta_lora.errors import UserError
from delta_lora.places import place
from delta_lora.suite.bench.decoding import SHAPES
from delta_lora.suite.bench.gate import Side, Step, race
from delta_lora.suite.bench.original_training import LENGTH
from delta_lora.suite.bench.peer_sides import (
    PeerCase,
    Rows,
    configuration,
    e2e_cell,
    loralib,
    ours,
    peft,
)
from delta_lora.suite.run.batches import EpochSampler
from delta_lora.suite.run.precision import has_bf16
from delta_lora.tasks.e2e import TRAIN
from delta_lora.tasks.generation import IGNORED

GROUPED, RANDOM, PEFT, LORALIB = (
    "ours, batches by length",
    "ours, random order",
    "PEFT + Trainer",
    "loralib, 512 tokens",
)
ROWS = 3200  # of E2E's, that all sides train on: eight of the groups from which batches by length are made
RESAMPLES = 2000
SLOW_STEPS = 3  # of loralib, which all cost the same: every row has 512 tokens


def measure(model: str, device: str, data: str | None, steps: int) -> dict[str, Any]:
    """One model's row: in each precision that the machine has, all sides in turn on the same rows.

    Args:
        model: a name of `SHAPES`, or a checkpoint's folder.
        device: "cpu" or "cuda".
        data: the folder of the data sets, or None for random tokens of E2E's lengths.
        steps: of ours and PEFT's that count; loralib makes `SLOW_STEPS` of them.

    Raises:
        UserError: there is no such model, or no such data.
        RunError: a training failed.
    """
    case = PeerCase(model, device, "fp32", steps + 1, min(SLOW_STEPS, steps) + 1)
    rows = like_all(read_rows(case, data), max(ROWS, case.steps * batch_size(case)))
    real = data is not None and model not in SHAPES
    row: dict[str, Any] = {
        "model": f"{Path(model).name}, {'E2E' if real else 'random tokens'}",
        "tokens": sum(len(row["input_ids"]) for row in rows) / len(rows),
    }
    for precision in ("fp32", "bf16") if has_bf16() else ("fp32",):
        row[precision] = compared(replace(case, precision=precision), rows)
        for side, found in row[precision].items():
            print(f"{row['model']:<32}{precision:<6}{side:<24}{found['seconds']:8.3f} s a step", flush=True)
    return row


def compared(case: PeerCase, rows: Rows) -> dict[str, Any]:
    """By side what it costs: steps, mean seconds, tokens an example, and its ratios to ours (:class:`Cost`)."""
    with ExitStack() as stack:
        sides = {
            GROUPED: Side(GROUPED, ours, case.device, case, rows, True),
            RANDOM: Side(RANDOM, ours, case.device, case, rows, False),
            PEFT: Side(PEFT, peft, case.device, case, rows),
            LORALIB: Side(LORALIB, loralib, case.device, case, rows),
        }
        for side in sides.values():
            stack.callback(side.end)
        counted = {name: (case.slow_steps if name == LORALIB else case.steps) - 1 for name in sides}
        done = race(sides, counted)
    size = batch_size(case)
    by_length, random = epoch_tokens(case, rows, True), epoch_tokens(case, rows, False)
    tokens = {GROUPED: by_length, RANDOM: random, PEFT: random, LORALIB: LENGTH}
    costs = {name: Cost(steps, size, tokens[name]) for name, steps in done.items()}
    return {
        name: {
            "steps": len(done[name]),
            "step_seconds": cost.seconds.tolist(),
            "step_tokens": (cost.tokens / size).tolist(),
            "epoch_tokens": tokens[name],
            "seconds": cost.mean(),
            "ratio": cost.over(costs[GROUPED]),
            "ratio_random": cost.over(costs[RANDOM]),
        }
        for name, cost in costs.items()
    }


class Cost:
    """What a side's steps cost, in an epoch: of the seconds a token, times the tokens that a step of an epoch has.

    A few steps have seen longer or shorter batches than an epoch has; this takes that out.

    Args:
        steps: that were measured.
        size: examples of a step.
        epoch_tokens: padded tokens an example over an epoch.
    """

    def __init__(self, steps: Sequence[Step], size: int, epoch_tokens: float) -> None:
        self.seconds = np.array([step.seconds for step in steps])
        self.tokens = np.array([step.tokens for step in steps])
        self.in_epoch = size * epoch_tokens

    def mean(self) -> float:
        """Seconds of a step."""
        return float(self.seconds.sum() / self.tokens.sum() * self.in_epoch)

    def over(self, other: "Cost") -> list[float]:
        """The ratio of the means, and the 2.5th and 97.5th percentile of it over resampled steps of both."""
        random = np.random.default_rng(0)
        low, high = np.percentile(self.resampled(random) / other.resampled(random), [2.5, 97.5])
        return [self.mean() / other.mean(), float(low), float(high)]

    def resampled(self, random: np.random.Generator) -> NDArray[np.float64]:
        """The mean of steps drawn anew, `RESAMPLES` times."""
        drawn = random.integers(len(self.seconds), size=(RESAMPLES, len(self.seconds)))
        means: NDArray[np.float64] = self.seconds[drawn].sum(axis=1) / self.tokens[drawn].sum(axis=1) * self.in_epoch
        return means


def epoch_tokens(case: PeerCase, rows: Rows, grouped: bool) -> float:
    """Padded tokens an example over an epoch of these rows, in batches by length or in random order."""
    lengths, size = [len(row["input_ids"]) for row in rows], batch_size(case)
    order = list(EpochSampler(lengths, size, 0, lambda: 0, grouped))
    batches = [[lengths[i] for i in order[begin : begin + size]] for begin in range(0, len(order), size)]
    return sum(len(batch) * max(batch) for batch in batches) / len(rows)


@cache
def batch_size(case: PeerCase) -> int:
    """E2E's examples of an optimizer step."""
    return e2e_cell(case).train.batch_size


def read_rows(case: PeerCase, data: str | None) -> Rows:
    """E2E's training rows in the model's tokens; without data, or a tokenizer, random tokens of E2E's lengths.

    Raises:
        UserError: ``data`` is no folder with E2E's training file.
    """
    config = configuration(case.model)
    if data is not None and not (place("--data", data) / "e2e" / TRAIN).is_file():
        raise UserError(f"no e2e/{TRAIN} in --data {data}: give a folder in the layout of docs/data.md, or none")
    if data is not None and case.model not in SHAPES:
        cell = e2e_cell(case, data=data)
        tokenizer = AutoTokenizer.from_pretrained(place("--model", case.model))
        return cell.task.train_examples(tokenizer, "causal")
    cell = e2e_cell(case)
    random, lengths = np.random.default_rng(0), cell.config.task.lengths

    def drawn(deciles: Sequence[int]) -> list[list[int]]:
        each = np.interp(random.random(cell.task.train_size()), np.linspace(0, 1, len(deciles)), list(deciles))
        last = each.round().astype(int).clip(min=1).cumsum()
        tokens = random.integers(5, config.vocab_size, last[-1]).tolist()
        return [tokens[begin:end] for begin, end in zip([0, *last], last, strict=False)]

    ends, rows = [config.eos_token_id], Rows()
    for prompt, target in zip(drawn(lengths.input), drawn(lengths.target), strict=True):
        labels = [IGNORED] * (len(prompt) + 1) + target + ends
        rows.append({"input_ids": prompt + ends + target + ends, "attention_mask": [1] * len(labels), "labels": labels})
    return rows


def like_all(rows: Rows, count: int) -> Rows:
    """So many of the rows, as long as all are: evenly chosen from the shortest to the longest, then shuffled."""
    count = min(count, len(rows))
    ordered = sorted(rows, key=lambda row: len(row["input_ids"]))
    chosen = [ordered[(2 * i + 1) * len(ordered) // (2 * count)] for i in range(count)]
    return [chosen[i] for i in np.random.default_rng(0).permutation(count)]
