"""Time, memory and checkpoint size of every method, each measured in turn with PEFT's LoRA.

    python scripts/bench.py --device cpu --model gpt2-medium
    python scripts/bench.py --device cuda --model all

The models have their full size and random weights; batches have the lengths of E2E examples. A step of LoRA and a step
of the method alternate on the same batch (A B A B …), so that a noisy machine disturbs both alike; the ratio is the
median over these pairs. Peak memory is that of a process that does nothing else (allocated memory on a GPU; on the CPU
the resident set, with glibc told to return what is freed, since holes in its heap differ by several per cent from run
to run). Checkpoint bytes are all that a resumed run needs: what the method saves, and the
optimizer's state. No method has dropout here. Delta-LoRA and AdaLoRA are at work from the first step on.
Results: results/bench/<device>.json and .md; models measured earlier on the same device stay in them.
"""

import argparse
import gc
import json
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor

import delta_lora.suite  # noqa: F401 (first: it keeps PEFT's import quiet)
from delta_lora.methods.base import Method, Schedule
from delta_lora.models.load import PUBLISHED, random_model
from delta_lora.models.settings import ModelSettings
from delta_lora.settings import checked
from delta_lora.streams import replace_unprintable
from delta_lora.suite.config.cell import model_spec
from delta_lora.suite.plan.timing import Session

ROOT = Path(__file__).resolve().parents[1]
BASELINE = "lora"
METHODS: dict[str, list[str]] = {
    "full": ["method=full"],
    "ft-qv": ["method=ft-qv"],
    "lora": ["method=lora", "method.dropout=0"],
    "dylora": ["method=dylora", "method.dropout=0"],
    "adalora": ["method=adalora", "method.dropout=0"],
    "delta-lora (literal)": ["method=delta-lora", "method.literal=true"],
    "delta-lora (folded)": ["method=delta-lora"],
}
# The name on the hub, and the task whose settings the method is composed with.
MODELS: dict[str, tuple[str, str]] = {
    "gpt2-medium": ("openai-community/gpt2-medium", "e2e"),
    "roberta-base": ("FacebookAI/roberta-base", "glue/mnli"),
    "bart-large": ("facebook/bart-large", "xsum"),
}
DROPOUTS = ("resid_pdrop", "embd_pdrop", "attn_pdrop", "dropout", "hidden_dropout_prob", "attention_probs_dropout_prob")


def start(model_name: str, method_name: str, device: str) -> Session:
    """A model of full size under one method, ready to be stepped."""
    path, task = MODELS[model_name]
    overrides = [f"model={model_name}", f"task={task}", *METHODS[method_name]]
    with initialize_config_dir(str(ROOT / "configs"), version_base=None):
        config = compose("train", overrides=overrides)
    method: Method = instantiate(OmegaConf.create(OmegaConf.to_container(config.method, resolve=True))).at_full_cost()
    torch.manual_seed(0)
    network = PUBLISHED[path]()
    dropouts = {name: 0.0 for name in DROPOUTS if hasattr(network, name)}
    plain = random_model(config.model.kind, network, **dropouts, num_labels=3)
    return Session(
        plain,
        method,
        model_spec(checked(ModelSettings, config.model, "model")),
        Schedule(total_steps=1000, warmup_steps=0),
        device,
    )


def checkpoint_bytes(session: Session) -> int:
    """Bytes of everything that a checkpoint to resume from holds."""
    from peft import PeftModel, get_peft_model_state_dict  # after the suite, which keeps its imports quiet

    adapter = isinstance(session.model, PeftModel)
    weights = get_peft_model_state_dict(session.model, save_embedding_layers=False) if adapter else None
    tensors = list((weights or dict(session.model.named_parameters())).values())
    for state in session.optimizer.state.values():
        tensors += [value for value in state.values() if isinstance(value, Tensor)]
    folder = Path(str(session.arguments.output_dir)) / f"checkpoint-{session.state.global_step}"
    folder.mkdir(parents=True)
    session.events.on_save(session.arguments, session.state, session.control)  # what the method's callback adds
    return sum(tensor.nbytes for tensor in tensors) + sum(path.stat().st_size for path in folder.iterdir())


def batches(model_name: str, count: int, size: int, device: str) -> list[dict[str, Tensor]]:
    """Random tokens in E2E's lengths (mean 55, 99th percentile 86, at most 117), padded to the longest of the batch."""
    generator = torch.Generator().manual_seed(1)
    made = []
    for _ in range(count):
        lengths = (55 + 13 * torch.randn(size, generator=generator)).long().clamp(20, 117)
        mask = (torch.arange(int(lengths.max())) < lengths[:, None]).long()
        tokens = torch.randint(5, 50000, mask.shape, generator=generator)
        labels = tokens.masked_fill(mask == 0, -100)
        if model_name == "roberta-base":
            labels = torch.randint(3, (size,), generator=generator)
        batch = {"input_ids": tokens, "attention_mask": mask, "labels": labels}
        made.append({name: tensor.to(device) for name, tensor in batch.items()})
    return made


def footprint(model_name: str, method_name: str, options: argparse.Namespace) -> dict[str, int]:
    """Peak memory and checkpoint size, to be run in a process of its own."""
    session = start(model_name, method_name, options.device)
    for batch in batches(model_name, 3, options.batch_size, options.device):
        session.step(batch)
    peak = torch.cuda.max_memory_allocated() if options.device == "cuda" else peak_resident_bytes()
    return {"peak_memory_bytes": peak, "checkpoint_bytes": checkpoint_bytes(session)}


def peak_resident_bytes() -> int:
    """Largest resident set of this process so far."""
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage would also count the parent's size at the fork
        line = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measure(model_name: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """All methods on one model, each against LoRA in turn."""
    data = batches(model_name, options.steps + 3, options.batch_size, options.device)
    baseline = start(model_name, BASELINE, options.device)
    rows, baseline_times = [], []
    for method_name in METHODS:
        session = baseline if method_name == BASELINE else start(model_name, method_name, options.device)
        pairs = []
        for batch in data:
            lora = baseline.step(batch)
            pairs.append((lora, session.step(batch) if session is not baseline else lora))
        pairs = pairs[3:]  # the first steps allocate, and take the anchor
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
        rows.append(row | in_own_process(model_name, method_name, options))
        print(f"{model_name:<14}{method_name:<24}{row['step_seconds']:8.3f} s  × {row['step_ratio']:.3f}", flush=True)
    lora_row = next(row for row in rows if row["method"] == BASELINE)
    lora_row["step_seconds"] = median(baseline_times)
    for row in rows:
        row["examples_per_second"] = options.batch_size / row["step_seconds"]
        row["peak_memory_ratio"] = row["peak_memory_bytes"] / lora_row["peak_memory_bytes"]
        row["checkpoint_ratio"] = row["checkpoint_bytes"] / lora_row["checkpoint_bytes"]
    return rows


def in_own_process(model_name: str, method_name: str, options: argparse.Namespace) -> dict[str, int]:
    """:func:`footprint`, in a fresh process; its answer is the line that starts as JSON, whatever else is printed."""
    command = [sys.executable, __file__, "--footprint", method_name, "--model", model_name]
    command += ["--device", options.device, "--batch-size", str(options.batch_size)]
    variables = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=variables)
    measured: list[dict[str, int]] = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return measured[-1]


def markdown(record: dict[str, Any]) -> str:
    """The record as a table for people."""
    machine = record["environment"]
    lines = [
        f"# Benchmark: {machine['device']}",
        "",
        f"Batch size {machine['batch_size']}, {machine['steps']} steps each, torch {machine['torch']}, "
        f"peft {machine['peft']}, {machine['threads']} CPU thread(s). × is the ratio to PEFT's LoRA, measured in turn "
        "with it; in brackets the quartiles over the steps. Compare the ratios: the seconds of different rows also "
        "carry what else the machine did at the time. Models of full size with random weights "
        "(`python scripts/bench.py --help` says how).",
        "",
        "| model | method | step (s) | × LoRA | examples/s | peak memory (GB) | × LoRA | checkpoint (MB) | × LoRA |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in record["rows"]:
        low, high = row["step_ratio_quartiles"]
        lines.append(
            f"| {row['model']} | {row['method']} | {row['step_seconds']:.3f} | {row['step_ratio']:.2f} "
            f"({low:.2f}–{high:.2f}) | {row['examples_per_second']:.2f} | {row['peak_memory_bytes'] / 1e9:.2f} "
            f"| {row['peak_memory_ratio']:.2f} | {row['checkpoint_bytes'] / 1e6:.1f} | {row['checkpoint_ratio']:.2f} |"
        )
    return "\n".join(lines) + "\n"


def environment(options: argparse.Namespace) -> dict[str, Any]:
    """What the numbers depend on."""
    name = torch.cuda.get_device_name() if options.device == "cuda" else f"CPU, {platform.machine()}"
    return {
        "device": name,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "batch_size": options.batch_size,
        "steps": options.steps,
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "transformers", "peft")},
    }


def main(arguments: Sequence[str] | None = None) -> None:
    replace_unprintable()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--model", choices=[*MODELS, "all"], default="all")
    parser.add_argument("--steps", type=int, help="timed steps of each method (default: 12 on the CPU, 50 on a GPU)")
    parser.add_argument("--batch-size", type=int, help="examples a step (default: 2 on the CPU, 8 on a GPU)")
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "bench", help="folder of the results")
    parser.add_argument("--footprint", choices=METHODS, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    steps, batch_size = (12, 2) if options.device == "cpu" else (50, 8)  # the paper's batch size where it is affordable
    options.steps = steps if options.steps is None else options.steps
    options.batch_size = batch_size if options.batch_size is None else options.batch_size
    if min(options.steps, options.batch_size) < 1:
        parser.error("--steps and --batch-size must be at least 1")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda needs a CUDA GPU and none was found; use --device cpu")
    if options.footprint:
        print(json.dumps(footprint(options.model, options.footprint, options)))
        return
    names = list(MODELS) if options.model == "all" else [options.model]
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / f"{options.device}.json"
    kept = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.is_file() else []
    for name in names:
        measured = measure(name, options)
        kept = [row for row in kept if row["model"] != name] + measured
        kept.sort(key=lambda row: list(MODELS).index(row["model"]))  # a model measured again keeps its place
        record = {"environment": environment(options), "rows": kept}
        path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        path.with_suffix(".md").write_text(markdown(record), encoding="utf-8")


if __name__ == "__main__":
    main()
