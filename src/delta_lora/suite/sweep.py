"""A sweep (``-m``): a failing cell does not stop the others; at the end the failures are listed."""

import json
import sys
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from delta_lora.errors import UserError
from delta_lora.suite.records import write_text


class SweepCallback(Callback):
    """Tells the process that started a sweep in which folder its jobs note their failures."""

    folder: ClassVar[Path | None] = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Stop where no cell could run; keep the sweep's folder, whose name has a time in it."""
        from delta_lora.suite import ranks
        from delta_lora.suite.config import check_device

        if ranks.count() > 1:
            code = ranks.fail(
                "error: torchrun is for one run; start a sweep (-m) without it, with JOBS= or a launcher", 2
            )
            raise SystemExit(code)
        try:
            if "submitit" not in str(config.hydra.launcher._target_):  # a login node need not have what its jobs need
                check_device(config)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(2) from None  # Hydra turns other exceptions of a callback into warnings
        SweepCallback.folder = Path(config.hydra.sweep.dir)


def in_sweep() -> bool:
    """Whether this is a job of a sweep (it may run in another process than the sweep itself)."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def note_failure(message: str, mistake: bool) -> None:
    """Leave a failed job's overrides and error in the sweep's folder."""
    hydra = HydraConfig.get()
    failure = {"overrides": " ".join(hydra.overrides.task), "error": message, "mistake": mistake}
    write_text(Path(hydra.sweep.dir) / f"failed-{hydra.job.num}.json", json.dumps(failure))


def failures() -> list[dict[str, Any]]:
    """The failed jobs of this process's sweep, in the order of their numbers; none where there was no sweep."""
    if SweepCallback.folder is None:
        return []
    paths = sorted(SweepCallback.folder.glob("failed-*.json"), key=lambda path: int(path.stem.split("-")[1]))
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]
