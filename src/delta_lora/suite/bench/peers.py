"""What training costs beside what people use instead: PEFT with ``transformers.Trainer``, and loralib."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import AutoTokenizer

from delta_lora.errors import UserError
from delta_lora.places import place
from delta_lora.suite.bench.decoding import SHAPES
from delta_lora.suite.bench.gate import Side, race
from delta_lora.suite.bench.peer_sides import (
    PeerCase,
    Rows,
    configuration,
    e2e_cell,
    loralib,
    ours,
    peft,
)
from delta_lora.suite.run.precision import has_bf16
from delta_lora.tasks.e2e import TRAIN
from delta_lora.tasks.generation import IGNORED

GROUPED, RANDOM, PEFT, LORALIB = (
    "ours, batches by length",
    "ours, random order",
    "PEFT + Trainer",
    "loralib, 512 tokens",
)
RESAMPLES = 2000
SLOW_STEPS = 3  # of loralib, which all cost the same: every row has 512 tokens


def measure(model: str, device: str, data: str | None, steps: int) -> dict[str, Any]:
    """One model's row: in each precision that the machine has, all sides in turn over one epoch of the same rows.

    Args:
        model: a name of `SHAPES`, or a checkpoint's folder.
        device: "cpu" or "cuda".
        data: the folder of the data sets, or None for random tokens of E2E's lengths.
        steps: of ours and PEFT's; loralib makes `SLOW_STEPS` of them.

    Raises:
        UserError: there is no such model, or no such data.
        RunError: a training failed.
    """
    case = PeerCase(model, device, "fp32")
    rows = like_all(read_rows(case, data), steps * batch_size(case))
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
    """By side: steps, mean seconds of one, padded tokens an example, its ratios to ours with 95 % intervals."""
    size = batch_size(case)
    steps = len(rows) // size
    slow_steps = min(SLOW_STEPS, steps)
    few = rows[: (slow_steps + (slow_steps < steps)) * size]  # one step first that does not count
    with ExitStack() as stack:
        sides = {
            GROUPED: Side(GROUPED, ours, case.device, case, rows, True),
            RANDOM: Side(RANDOM, ours, case.device, case, rows, False),
            PEFT: Side(PEFT, peft, case.device, case, rows),
            LORALIB: Side(LORALIB, loralib, case.device, case, few),
        }
        for side in sides.values():
            stack.callback(side.end)
        done = race(sides, {name: slow_steps if name == LORALIB else steps for name in sides})
    costs = {name: np.array([step.seconds for step in own]) for name, own in done.items()}
    return {
        name: {
            "steps": len(own),
            "seconds": float(own.mean()),
            "tokens": sum(step.tokens for step in done[name]) / len(own) / size,
            "ratio": ratio(own, costs[GROUPED]),
            "ratio_random": ratio(own, costs[RANDOM]),
        }
        for name, own in costs.items()
    }


def ratio(cost: NDArray[np.float64], ours: NDArray[np.float64]) -> list[float]:
    """Mean cost of a step over the mean of ours, and the 2.5th and 97.5th percentile of it over resampled steps."""
    random = np.random.default_rng(0)

    def means(sample: NDArray[np.float64]) -> NDArray[np.float64]:
        return sample[random.integers(len(sample), size=(RESAMPLES, len(sample)))].mean(axis=1)

    low, high = np.percentile(means(cost) / means(ours), [2.5, 97.5])
    return [float(cost.mean() / ours.mean()), float(low), float(high)]


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
    ordered = sorted(rows, key=lambda row: len(row["input_ids"]))
    chosen = [ordered[(2 * i + 1) * len(ordered) // (2 * count)] for i in range(count)]
    return [chosen[i] for i in np.random.default_rng(0).permutation(count)]
