"""Time, memory and checkpoint size of every method on one model, each in turn with PEFT's LoRA."""

import gc
from statistics import median, quantiles
from typing import Any

from delta_lora.suite.bench.cases import BASELINE, METHODS, batches, start
from delta_lora.suite.bench.child import Case, in_own_process

WARM_UP = 3  # the first steps allocate, and take the anchor


def measure(model_name: str, device: str, batch_size: int, steps: int) -> list[dict[str, Any]]:
    """All methods on one model, each against LoRA in turn."""
    data = batches(model_name, steps + WARM_UP, batch_size, device)
    baseline = start(model_name, BASELINE, device)
    rows, baseline_times = [], []
    for method_name in METHODS:
        session = baseline if method_name == BASELINE else start(model_name, method_name, device)
        pairs = []
        for batch in data:
            lora = baseline.step(batch)
            pairs.append((lora, session.step(batch) if session is not baseline else lora))
        pairs = pairs[WARM_UP:]
        baseline_times += [lora for lora, _ in pairs]
        ratios = [own / lora for lora, own in pairs]
        row: dict[str, Any] = {
            "model": model_name,
            "method": method_name,
            "step_seconds": median(own for _, own in pairs),
            "step_ratio": median(ratios),
            "step_ratio_quartiles": quantiles(ratios, n=4)[::2] if len(ratios) > 1 else [ratios[0]] * 2,
        }
        del session
        gc.collect()
        rows.append(row | in_own_process(Case(model_name, method_name, device, batch_size)))
        print(f"{model_name:<14}{method_name:<24}{row['step_seconds']:8.3f} s  × {row['step_ratio']:.3f}", flush=True)
    lora_row = next(row for row in rows if row["method"] == BASELINE)
    lora_row["step_seconds"] = median(baseline_times)
    for row in rows:
        row["examples_per_second"] = batch_size / row["step_seconds"]
        row["peak_memory_ratio"] = row["peak_memory_bytes"] / lora_row["peak_memory_bytes"]
        row["checkpoint_ratio"] = row["checkpoint_bytes"] / lora_row["checkpoint_bytes"]
    return rows
