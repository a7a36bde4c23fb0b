"""Answer from a finished run: the stock model, the run's adapter, stock PEFT, the run's own decoding settings.

    python scripts/generate.py RUN "name : The Vaults | Type : pub | price : more than £30"

RUN is a folder of results/runs, or the first digits of its key.
"""

import argparse
import logging
import sys
from pathlib import Path

from delta_lora.errors import UserError
from delta_lora.places import place
from delta_lora.streams import replace_unprintable
from delta_lora.suite.cli import guard


def find_run(name: str, results_dir: Path) -> Path:
    """The folder of a finished run, from its path or the beginning of its key.

    Raises:
        UserError: there is none, or several.
    """
    if (place("RUN", name) / "run.json").is_file():
        return place("RUN", name)
    found = sorted(path.parent for path in (results_dir / "runs").glob(f"{name}*/run.json"))
    if len(found) != 1:
        what = f"{len(found)} finished runs begin with it" if found else "no finished run begins with it"
        raise UserError(
            f"RUN must be a run's folder or the beginning of its key, got {name!r}: {what} in {results_dir / 'runs'}"
        )
    return found[0]


def main(run_name: str, inputs: list[str], results_dir: Path) -> None:
    """Print one text per input."""
    from omegaconf import OmegaConf
    from peft import PeftModel

    from delta_lora.models.checkpoint import check_safetensors
    from delta_lora.models.load import CLASSES, load_tokenizer, source
    from delta_lora.suite.config.settings import make_task
    from delta_lora.suite.machine.quiet import quiet_libraries
    from delta_lora.suite.records.records import read_run
    from delta_lora.suite.run.decoding import decode
    from delta_lora.tasks.generation import GenerationTask

    quiet_libraries()
    folder = find_run(run_name, results_dir)
    run = read_run(folder)
    if run is None:
        raise UserError(f"{folder} holds no intact record; run its cell again")
    config = OmegaConf.create(run.config)
    if config.model.kind == "classification":
        raise UserError(f"{folder} is a run of {config.task.name}, which classifies; give a run that generates text")
    if not (folder / "adapter").is_dir():
        raise UserError(
            f"{folder} has no adapter/: committed records have no weights, and {config.method.name} may be a method "
            "that exports none; give a run of LoRA or its kin that was trained here (results/runs)"
        )
    cache_dir = place("cache_dir", config.cache_dir)
    check_safetensors(folder / "adapter", "adapter_model", "adapter_model*.bin")
    stock = CLASSES[config.model.kind].from_pretrained(**source(config.model, cache_dir), use_safetensors=True)
    model = PeftModel.from_pretrained(stock, str(folder / "adapter")).merge_and_unload()
    tokenizer = load_tokenizer(config.model, cache_dir)
    task = make_task(config)
    assert isinstance(task, GenerationTask)
    for text in decode(model, tokenizer, [task.written(text) for text in inputs], config.task):
        print(text)


if __name__ == "__main__":
    replace_unprintable()
    logging.basicConfig(format="warning: %(message)s", level=logging.WARNING)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("inputs", nargs="+", metavar="INPUT")
    parser.add_argument("--results-dir", default="results")
    given = parser.parse_args()
    sys.exit(guard(lambda: main(given.run, given.inputs, place("--results-dir", given.results_dir))))
