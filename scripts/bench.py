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
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from delta_lora.errors import UserError
from delta_lora.places import place, variable
from delta_lora.streams import replace_unprintable
from delta_lora.suite.bench import costs, page, scoring
from delta_lora.suite.bench.cases import MODELS

ROOT = Path(__file__).resolve().parents[1]


def main(arguments: Sequence[str] | None = None) -> None:
    replace_unprintable()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--model", choices=[*MODELS, "all"], default="all")
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


if __name__ == "__main__":
    main()
