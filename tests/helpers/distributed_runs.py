"""Cells run one after the other, alone or in the processes of torchrun, noting what each step saw.

PYTHONPATH=tests torchrun --nproc-per-node=2 tests/helpers/distributed_runs.py JOBS.json FOLDER
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from omegaconf import OmegaConf
from transformers import Trainer

from delta_lora.errors import Interrupted
from delta_lora.suite.cli import together
from delta_lora.suite.machine import ranks
from delta_lora.suite.run import decoding
from delta_lora.suite.run.recipe import run_cell
from delta_lora.tasks.e2e import E2E
from helpers.runs import Bleu

TRAINING_STEP = Trainer.training_step
GENERATE = decoding.generate


def perform(job: dict[str, Any], folder: Path) -> None:
    """Run ``job["config"]``; leave in ``folder`` the examples of each step that this process saw, and how it ended.

    ``terminate``, ``kill``, ``no_memory``: ``[step, rank, …]``, what happens to these processes in that step. ``echo``:
    each text is its own prompt, since those of a model with random weights are all alike.
    """
    seen: dict[int, list[list[int]]] = {}

    def due(event: str, step: int) -> bool:
        when, *whom = job.get(event, [-1])
        return step == when and ranks.rank() in whom

    def step(self: Any, model: Any, inputs: Any, *rest: Any) -> Any:
        now = self.state.global_step
        if due("terminate", now):
            os.kill(os.getpid(), signal.SIGTERM)
        if due("kill", now):
            os.kill(os.getpid(), signal.SIGKILL)
        if due("no_memory", now):
            raise torch.OutOfMemoryError("CUDA out of memory")
        counts = bool(inputs["labels"].ne(-100).any()) and (not self.shares or self.shares[0] > 0)
        rows = zip(inputs["input_ids"].tolist(), inputs["attention_mask"].tolist(), strict=True)
        tokens = [[token for token, real in zip(*row, strict=True) if real] for row in rows]
        seen.setdefault(now, []).extend(tokens if counts else [])
        return TRAINING_STEP(self, model, inputs, *rest)

    def generate(model: Any, tokenizer: Any, prompts: list[list[int]], *rest: Any) -> list[list[int]]:
        return prompts if job.get("echo") else GENERATE(model, tokenizer, prompts, *rest)

    ended = ""
    with (
        patch.object(decoding, "generate", generate),
        patch.object(Trainer, "training_step", step),
        patch.object(E2E, "resampler", lambda _, lines: Bleu(lines)),
    ):
        try:
            run_cell(OmegaConf.create(job["config"]))
        except Interrupted as error:
            ended = str(error)
    note = {"seen": seen, "ended": ended}
    (folder / f"{job['name']}.{ranks.rank()}.json").write_text(json.dumps(note))


def main() -> None:
    for job in json.loads(Path(sys.argv[1]).read_text()):
        perform(job, Path(sys.argv[2]))


if __name__ == "__main__":
    sys.exit(together(main))
