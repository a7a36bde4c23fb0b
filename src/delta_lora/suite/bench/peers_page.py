"""The record of what training costs beside its peers, and its page: results/bench/peers-<device>.json and .md."""

from pathlib import Path
from statistics import mean
from typing import Any

from delta_lora.suite.bench import page
from delta_lora.suite.bench.peers import ROWS

PREFIX = "peers-"


def keep(folder: Path, machine: dict[str, Any], row: dict[str, Any]) -> None:
    """Put a model's row into the record of its device; what was measured earlier of others stays in it.

    Args:
        folder: of the results; made where it is missing.
        machine: what the numbers depend on.
        row: from :func:`delta_lora.suite.bench.peers.measure`.
    """
    record = page.add(folder, PREFIX, machine, [row], lambda row: row["model"])
    page.write(folder, PREFIX, record, markdown(record))


def markdown(record: dict[str, Any]) -> str:
    """The record as a table for people."""
    machine = record["environment"]
    lines = [
        f"# Training beside its peers: {machine['device']}",
        "",
        f"LoRA of rank 4 on E2E, {machine['batch_size']} examples a step, torch {machine['torch']}, transformers "
        f"{machine['transformers']}, peft {machine['peft']}, loralib {machine['loralib']}, {machine['threads']} CPU "
        "thread(s). Each side is a training in a process of its own, and they step in turn, never two at once "
        "(`python scripts/bench.py --peers`). A step is all of it: data, collation, both passes, optimizer, callbacks; "
        f"processor time on a CPU, wall time on a GPU. All train on the same {ROWS:,} rows, which are as long as all "
        "of E2E's. The seconds are those of a token in the measured steps, times the padded tokens that a step of an "
        "epoch has. × ours is the ratio of such seconds, in brackets 95 % of it over resampled steps: once to batches "
        "by length (`task.train.group_by_length=true`), once to random order, as at paper scale. PEFT + Trainer is "
        "what their documentation says: dynamic padding, random order, their defaults, bf16 by autocast. loralib pads "
        "every row to 512 tokens and has logits at all of them, as microsoft/LoRA trains, in float32 also beside our "
        "bf16; on a CPU its eight rows go one by one and their gradients add up. A model by name has random weights, "
        "and random tokens in E2E's lengths.",
        "",
        "| model and rows | tokens an example | precision | side | steps | padded tokens: measured | in an epoch "
        "| a step (s) | × ours, by length | × ours, random order |",
        "| --- | ---: | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in record["rows"]:
        for precision in ("fp32", "bf16"):
            for side, found in row.get(precision, {}).items():
                by_length, random = (
                    f"{times:.2f} ({low:.2f}–{high:.2f})"
                    for times, low, high in (found["ratio"], found["ratio_random"])
                )
                lines.append(
                    f"| {row['model']} | {row['tokens']:.0f} | {precision} | {side} | {found['steps']} "
                    f"| {mean(found['step_tokens']):.0f} | {found['epoch_tokens']:.0f} | {found['seconds']:.3f} "
                    f"| {by_length} | {random} |"
                )
    return "\n".join(lines) + "\n"
