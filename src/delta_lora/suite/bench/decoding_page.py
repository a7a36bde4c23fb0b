"""The record of what decoding costs and its page: results/bench/decode-<device>.json and .md."""

from pathlib import Path
from typing import Any

from delta_lora.suite.bench import page
from delta_lora.suite.bench.decoding import ROWS


def keep(folder: Path, machine: dict[str, Any], row: dict[str, Any]) -> None:
    """Put a model's row into the record of its device; models measured earlier stay in it.

    Args:
        folder: of the results; made where it is missing.
        machine: what the numbers depend on.
        row: from :func:`delta_lora.suite.bench.decoding.measure`.
    """
    record = page.add(folder, "decode-", machine, [row], lambda row: row["model"])
    page.write(folder, "decode-", record, markdown(record))


def markdown(record: dict[str, Any]) -> str:
    """The record as a table for people."""
    machine = record["environment"]
    lines = [
        f"# Decoding: {machine['device']}",
        "",
        f"E2E's beam search (10 beams, at most 64 tokens), torch {machine['torch']}, transformers "
        f"{machine['transformers']}, {machine['threads']} CPU thread(s). Seconds are of an input: processor time on a "
        "CPU, wall time on a GPU. `generate` is Transformers', with the same settings and batches, in turn with ours "
        "and in the precision of ours; in bf16 a second ratio is to `generate` in float32, its default. "
        f"microsoft/LoRA decodes each of E2E's {ROWS:,} rows by itself and ends no input early; a sample of inputs "
        "went its way in float32 (our emulation, without its padding of prompts to 512 tokens), and the ratio is "
        "extrapolated to its rows against our distinct inputs. Other texts: of that sample, how many of ours differ "
        "from it. Random weights never end a text.",
        "",
        "| model | inputs | tokens a text | ours fp32 (s) | × `generate` | other texts | ours bf16 (s) | × `generate` "
        "in bf16 | × `generate` in fp32 | other texts | microsoft/LoRA's way (s) | × ours | peak memory, ours (GB) "
        "| `generate` (GB) |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in record["rows"]:
        full, half, original, memory = row["fp32"], row["bf16"], row["original"], row["peak_memory_bytes"]
        others = [f"{each['other_texts']} of {original['inputs']}" for each in (full, half)]
        lines.append(
            f"| {row['model']} | {row['inputs']}{'' if row['real_inputs'] else ' (random tokens)'} "
            f"| {row['mean_length']:.0f} | {full['ours']:.2f} | {full['ratio']:.2f} | {others[0]} "
            f"| {half['ours']:.2f} | {half['ratio']:.2f} | {full['generate'] / half['ours']:.2f} | {others[1]} "
            f"| {original['seconds']:.2f} | {original['ratio']:.0f} "
            f"| {memory['ours'] / 1e9:.2f} | {memory['generate'] / 1e9:.2f} |"
        )
    return "\n".join(lines) + "\n"
