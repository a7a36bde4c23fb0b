"""Time, memory and checkpoint size of every method, each measured in turn with PEFT's LoRA.

    python scripts/bench.py --device cpu --model gpt2-medium
    python scripts/bench.py --device cuda --model all
    python scripts/bench.py --score --data FOLDER     # where the time of E2E's metrics goes, beside the official code

The models have their full size and random weights; batches have the lengths of E2E examples. A step of LoRA and a step
of the method alternate on the same batch (A B A B …), so that a noisy machine disturbs both alike; the ratio is the
median over these pairs. Peak memory is that of a process that does nothing else (allocated memory on a GPU; on the CPU
the resident set, with glibc told to return what is freed, since holes in its heap differ by several per cent from run
to run). Checkpoint bytes are all that a resumed run needs: what the method saves, and the
optimizer's state. No method has dropout here. Delta-LoRA and AdaLoRA are at work from the first step on.
Results: results/bench/<device>.json and .md; models measured earlier on the same device stay in them.

    python scripts/bench.py --decode --model smollm2-135m
    python scripts/bench.py --decode --model CHECKPOINT --data FOLDER --inputs 32

measures decoding instead: our beam search against Transformers' `generate` in turn, and against microsoft/LoRA's way on
a sample of inputs (results/bench/decode-<device>.json and .md). A model by name (gpt2-medium, smollm2-135m) has random
weights, which never end a text; a checkpoint's folder that was tuned on E2E, with E2E's data, shows what is usual.

    python scripts/bench.py --peers --model smollm2-135m
    python scripts/bench.py --peers --model CHECKPOINT --data FOLDER

measures training beside what people use instead: PEFT with `transformers.Trainer`, and loralib as microsoft/LoRA
trains, each a whole training in its own process, in turn with ours (results/bench/peers-<device>.json and .md).
"""

import argparse
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from delta_lora.errors import RunError, UserError
from delta_lora.places import place, variable
from delta_lora.streams import replace_unprintable
from delta_lora.suite.bench import costs, decoding, decoding_page, page, peers, peers_page, scoring
from delta_lora.suite.bench.cases import MODELS

ROOT = Path(__file__).resolve().parents[1]


def main(arguments: Sequence[str] | None = None) -> None:
    replace_unprintable()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument(
        "--model", default="all", help=f"{', '.join(MODELS)} or all; with --decode and --peers also a folder"
    )
    parser.add_argument("--decode", action="store_true", help="measure decoding")
    parser.add_argument("--peers", action="store_true", help="measure training beside PEFT's and loralib's")
    parser.add_argument("--inputs", type=int, default=32, help="with --decode: how many of E2E's test inputs")
    parser.add_argument("--sample", type=int, default=4, help="with --decode: of them, in microsoft/LoRA's way")
    parser.add_argument("--steps", type=int, help="timed steps of each method (default: 12 on the CPU, 50 on a GPU)")
    parser.add_argument("--batch-size", type=int, help="examples a step (default: 2 on the CPU, 8 on a GPU)")
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "bench", help="folder of the results")
    parser.add_argument("--score", action="store_true", help="measure scoring instead: results/bench/score.md")
    parser.add_argument("--data", default=variable("DELTA_LORA_DATA", "."), help="data folder ($DELTA_LORA_DATA)")
    options = parser.parse_args(arguments)
    if options.score:
        score(options.data, options.output, parser)
        return
    steps, batch_size = (12, 2) if options.device == "cpu" else (50, 8)  # the paper's batch size where it is affordable
    steps = steps if options.steps is None else options.steps
    batch_size = batch_size if options.batch_size is None else options.batch_size
    if min(steps, batch_size) < 1:
        parser.error("--steps and --batch-size must be at least 1")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda needs a CUDA GPU and none was found; use --device cpu")
    if options.decode:
        decode(parser, options)
        return
    if options.peers:
        train_in_turn(parser, options, steps)
        return
    if options.model not in (*MODELS, "all"):
        parser.error(
            f"--model {options.model}: choose from {', '.join(MODELS)}, all; a folder is for --decode and --peers"
        )
    for name in MODELS if options.model == "all" else [options.model]:
        rows = costs.measure(name, options.device, batch_size, steps)
        page.keep(options.output, page.environment(options.device, batch_size, steps), rows)


def score(data: str, output: Path, parser: argparse.ArgumentParser) -> None:
    """Print, and keep as score.md, the time of each stage of E2E's scoring."""
    try:
        hypotheses, references = scoring.held_out(place("--data", data) / "e2e")
    except UserError as error:
        parser.error(str(error))
    text = scoring.markdown(scoring.measure(hypotheses, references), len(hypotheses), sum(map(len, references)))
    output.mkdir(parents=True, exist_ok=True)
    (output / "score.md").write_text(text, encoding="utf-8")
    print(text, end="")


def decode(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Measure decoding and keep what was measured."""
    if min(options.inputs, options.sample) < 1 or options.sample > options.inputs:
        parser.error("--inputs and --sample must be at least 1, and --sample at most --inputs")
    data = options.data if (place("--data", options.data) / "e2e").is_dir() else None
    for name in decoding.SHAPES if options.model == "all" else [options.model]:
        case = decoding.DecodeCase(name, data, options.inputs, options.sample, options.device)
        try:
            row = decoding.measure(case)
        except UserError as error:
            parser.error(str(error))
        decoding_page.keep(options.output, page.environment(options.device, 16, 0), row)


def train_in_turn(parser: argparse.ArgumentParser, options: argparse.Namespace, steps: int) -> None:
    """Measure training beside its peers and keep what was measured."""
    if options.batch_size is not None:
        parser.error("--peers takes E2E's batch size of 8: leave --batch-size out")
    data = None if options.data == "." else options.data
    try:
        loralib = {"loralib": version("loralib")}
        for name in decoding.SHAPES if options.model == "all" else [options.model]:
            row = peers.measure(name, options.device, data, steps)
            peers_page.keep(options.output, page.environment(options.device, 8, steps) | loralib, row)
    except PackageNotFoundError:
        parser.error("--peers needs the package loralib, and it is not installed: pip install -r requirements.lock")
    except UserError as error:
        parser.error(str(error))
    except RunError as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
