"""Checkpoints that can be trusted: each is closed with checksums, and only whole ones are resumed from."""

import json
import logging
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from delta_lora.files import sha256_of, write_whole
from delta_lora.suite.machine import ranks
from delta_lora.suite.records.records import intact, set_aside

SEAL = "seal.json"
log = logging.getLogger(__name__)


class Seal(TrainerCallback):
    """Closes every checkpoint with the SHA-256 of its files; one that was cut off has no seal, or a broken one."""

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Log with every checkpoint: a logged loss is a mean since the last log, and a resumed run saw none of it."""
        if control.should_save:
            control.should_log = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Seal the checkpoint that was just written, by all processes of the run."""
        self.seal(args, state)

    @ranks.on_main
    def seal(self, args: TrainingArguments, state: TrainerState) -> None:
        """Write the checksums."""
        folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != SEAL]
        digests = {path.relative_to(folder).as_posix(): sha256_of(path) for path in files}
        write_whole(folder / SEAL, json.dumps(digests))


def last_intact_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint whose seal holds; newer ones that were cut off or damaged are reported and set aside."""
    found = (path for path in folder.glob("checkpoint-*") if path.is_dir() and path.name.split("-")[1].isdecimal())
    checkpoints = {int(path.name.split("-")[1]): path for path in found}
    for step in sorted(checkpoints, reverse=True):
        path = checkpoints[step]
        try:
            digests = json.loads((path / SEAL).read_text(encoding="utf-8"))
            if all(intact(path / name, digest) for name, digest in digests.items()):
                return path
        except (OSError, ValueError, AttributeError):
            pass
        aside = set_aside(path)
        log.warning("%s is incomplete or damaged: kept as %s, the run goes on from before it", path, aside.name)
    return None
