"""Weights & Biases: curves, the configuration and the tables' metrics of a run. No run fails because it does."""

import contextlib
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from delta_lora.errors import redacted
from delta_lora.suite.config.cell import Cell
from delta_lora.suite.config.compose import in_sweep
from delta_lora.suite.machine import ranks

log = logging.getLogger(__name__)


class Tracker(TrainerCallback):
    """Sends a run to W&B where the configuration asks for it; after its first failure it only warns.

    A server that does not answer costs the run at most ``logger.init_timeout`` seconds at its start and
    ``logger.finish_timeout`` seconds at its end; in between W&B's own process sends what is logged. Of several
    processes of one run, rank 0 alone sends.

    Args:
        cell: the run; ``logger.mode`` auto means online where a key is known, else offline. Offline data go to
            ``<results>/wandb``: ``wandb sync results/wandb/offline-run-*`` uploads them later.
    """

    def __init__(self, cell: Cell) -> None:
        self.run: Any = None
        config = cell.config
        if config.logger.name == "none" or not ranks.is_main():
            return
        with self.forgiving("start"):
            mode = config.logger.mode
            if mode == "auto":
                mode = os.environ.get("WANDB_MODE") or ("online" if has_key() else "offline")
            if mode == "disabled" or is_disabled():
                return
            os.environ.setdefault("WANDB_SILENT", "true")
            # W&B's reports on itself go to servers of their own; without internet they hold up the end of the process.
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
            logging.raiseExceptions = False  # W&B's own log on a full disk: a traceback for every line of it
            import wandb

            self.run = wandb.init(
                project=config.logger.project,
                group=group_of(config),
                job_type=config.method.name,
                tags=[config.scale.name, config.task.name, config.model.name],
                name=f"{config.task.name}-{config.method.name}-{cell.key[:6]}",
                id=cell.key,
                resume="allow" if mode == "online" else None,
                mode=mode,
                dir=cell.results_dir,
                config=OmegaConf.to_container(config),  # type: ignore[arg-type]
                settings=wandb.Settings(
                    init_timeout=config.logger.init_timeout,
                    finish_timeout=config.logger.finish_timeout,
                    finish_timeout_raises=True,
                    silent=True,
                    console="off",
                ),
            )

    @contextlib.contextmanager
    def forgiving(self, what: str) -> Any:
        """Run a W&B call; a failure is a warning and ends the tracking of this run."""
        try:
            yield
        except Exception as error:
            reason = redacted(" ".join(str(error).split()))
            log.warning("W&B could not %s (%s); this run goes on without it", what, reason)
            self.run = None

    def call(self, what: str, function: Callable[[Any], Any]) -> None:
        """Apply ``function`` to the W&B run, where there is one."""
        if self.run is not None:
            with self.forgiving(what):
                function(self.run)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Send the Trainer's logs (loss, learning rate, examples/s, peak memory)."""
        curves = {f"train/{name}": value for name, value in (logs or {}).items()}
        self.call("log", lambda run: run.log({**curves, "train/global_step": state.global_step}))

    def finish(self, summary: Mapping[str, float]) -> None:
        """Put metrics and parameter counts into the run's summary and close it."""
        started = self.run
        self.call("write the summary", lambda run: run.summary.update(dict(summary)))
        self.call("finish", lambda run: run.finish())
        if started is not None:  # only now has W&B, a process of its own, written all that it will
            with self.forgiving("find its folder"):
                self.check_disk(started)

    def check_disk(self, run: Any) -> None:
        """Say that W&B's folder takes no more, which W&B itself keeps in a log there."""
        if shutil.disk_usage(run.settings.wandb_dir).free == 0:
            log.warning(
                "W&B cannot write to %s, the disk is full; it has only a part of this run", run.settings.wandb_dir
            )


def group_of(config: DictConfig) -> str:
    """What a sweep's runs share: ``tiny-table7``, ``tiny-figure3``, the sweep's time; a single run's is its task."""
    for kind in ("table", "figure"):
        if config.get(kind):
            return f"{config.scale.name}-{kind}{config[kind].number}"
    if in_sweep():
        return f"{config.scale.name}-sweep-{Path(HydraConfig.get().sweep.dir).name}"
    return f"{config.scale.name}-{config.task.name}"


def is_disabled() -> bool:
    """Whether ``WANDB_DISABLED`` is set, by which people keep their data at home, whatever else is asked for."""
    return os.environ.get("WANDB_DISABLED", "").strip().lower() not in ("", "0", "false", "no", "off")


def has_key() -> bool:
    """Whether a W&B key is in the environment or in the netrc file that ``wandb login`` writes."""
    from requests.utils import get_netrc_auth

    server = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")
    return bool(os.environ.get("WANDB_API_KEY") or get_netrc_auth(server))
