"""Which epoch counts: the best on the validation set, for tasks whose paper and predecessors select so (GLUE).

Every epoch's predictions are kept: a table says what that choice adds to a score (:mod:`delta_lora.metrics.epochs`).
"""

import logging
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from delta_lora.files import sha256_of
from delta_lora.suite.config.cell import Cell
from delta_lora.suite.config.init_from import START
from delta_lora.suite.machine import ranks
from delta_lora.suite.records.records import intact, read_sealed, set_aside, write_sealed
from delta_lora.suite.run.inputs import Inputs
from delta_lora.suite.run.precision import check_numbers
from delta_lora.suite.run.progress import Progress

log = logging.getLogger(__name__)


class BestEpoch(TrainerCallback):
    """Scores the model after every epoch and keeps the best one's predictions and adapter (LoRA's convention for GLUE).

    Args:
        cell: the run; its task's own metric decides, wherever it stands in ``task.metrics``.
        trainer: of the run; the best epoch so far lies beside its checkpoints, and survives an interruption.
        inputs: with the scored items.
    """

    def __init__(self, cell: Cell, trainer: Trainer, inputs: Inputs) -> None:
        self.cell = cell
        self.trainer = trainer
        self.items = inputs.items
        self.encoded = cell.task.encode_test(inputs.items, inputs.tokenizer)
        self.metric = cell.task.selection_metric() or cell.task.settings.metrics[0]
        self.checkpoints = Path(str(trainer.args.output_dir))
        self.folder = self.checkpoints / "best"

    def kept(self) -> dict[str, Any]:
        """What is known so far, written whole or not at all after every epoch.

        ``epochs``: the ``metrics`` (with the one that decides) and ``predictions`` (parted by spaces) of every epoch
        that was scored, by epoch.
        ``best``: ``epoch`` and ``files`` (SHA-256 by path below the folder) of the best of them, the first of equals.
        """
        return read_sealed(self.folder / "epochs.json") or {"epochs": {}}

    def best(self) -> tuple[dict[str, Any], Path]:
        """The best epoch so far, and the folder with its adapter and what another task's run can start from."""
        best = self.kept()["best"]
        return best, self.folder / f"epoch-{best['epoch']}"

    def intact(self) -> bool:
        """Whether everything that was kept of the epochs is as it was written."""
        try:
            files = self.kept().get("best", {"files": {}})["files"]
        except ValueError:
            return False
        return all(intact(self.folder / name, digest) for name, digest in files.items())

    @ranks.on_main
    def set_damaged_aside(self) -> None:
        """Where what was kept of the best epoch has changed, start again: its model is nowhere else."""
        if not self.intact():
            aside = set_aside(self.checkpoints)
            log.warning(
                "%s: the best epoch's files are damaged: kept in %s, training starts again", self.cell.name, aside
            )

    @ranks.on_main
    def copy_to(self, folder: Path) -> tuple[int, list[dict[str, Any]]]:
        """Copy the best epoch's adapter, and what another run can start from, into the run's folder.

        Returns:
            The best epoch, and its predictions as lines, each with those after every epoch in ``by_epoch``.
        """
        best, kept = self.best()
        if (kept / "adapter").is_dir():
            shutil.copytree(kept / "adapter", folder / "adapter", dirs_exist_ok=True)
        if self.cell.config.task.save_start:
            shutil.copy2(kept / START, folder / START)
        epochs = sorted(self.kept()["epochs"].items(), key=lambda pair: int(pair[0]))
        after = {int(epoch): scored["predictions"].split() for epoch, scored in epochs}
        lines = self.cell.task.lines(self.items, after[best["epoch"]])
        by_item = zip(*after.values(), strict=True)
        return best["epoch"], [line | {"by_epoch": list(item)} for line, item in zip(lines, by_item, strict=True)]

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Score an epoch whose checkpoint was written but whose scores were not, before the interruption."""
        if state.global_step > 0 and state.epoch == round(state.epoch or 0):
            self.on_epoch_end(args, state, control)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Predict, score, and keep what is better than every epoch before."""
        if control.should_training_stop and state.global_step < state.max_steps:
            return  # interrupted within the epoch
        kept = ranks.on_main(self.kept)()
        epoch = str(round(state.epoch or 0))
        if epoch in kept["epochs"]:
            return
        predictions = self.predict()
        scores = self.cell.task.scorer(self.cell.task.lines(self.items, predictions)).score()
        metrics = self.cell.task.columns_of(scores) | {self.metric: float(scores[self.metric])}
        self.trainer.log({f"eval_{name}": value for name, value in metrics.items()})
        if not ranks.is_main():
            return
        if all(metrics[self.metric] > earlier["metrics"][self.metric] for earlier in kept["epochs"].values()):
            kept["best"] = {"epoch": int(epoch), "files": self.keep(f"epoch-{epoch}")}
        kept["epochs"][epoch] = {"metrics": metrics, "predictions": " ".join(predictions)}
        write_sealed(self.folder / "epochs.json", kept)
        for path in self.folder.glob("epoch-*"):  # an earlier best is whole until another one is on record
            if path != self.best()[1]:
                shutil.rmtree(path)

    def keep(self, name: str) -> dict[str, str]:
        """Write the model's adapter, and what another task's run can start from, below ``name``; their SHA-256."""
        self.cell.method.export(self.folder / name / "adapter")
        if self.cell.config.task.save_start:
            self.cell.method.save_start(self.folder / name / START)
        written = [path for path in sorted((self.folder / name).rglob("*")) if path.is_file()]
        return {path.relative_to(self.folder).as_posix(): sha256_of(path) for path in written}

    def predict(self) -> list[str]:
        """The class, or the number, that the model gives each item; the processes share the batches."""
        model: Any = self.trainer.model
        training = model.training
        model.eval()
        order = sorted(range(len(self.encoded)), key=lambda i: (len(self.encoded[i]["input_ids"]), i))
        size = self.cell.config.task.evaluation_batch_size
        outputs: dict[int, str] = {}
        progress = Progress(self.cell.name, len(self.encoded))
        with torch.inference_mode(), self.trainer.autocast_smart_context_manager():
            for start in range(size * ranks.rank(), len(order), size * ranks.count()):
                batch = order[start : start + size]
                collated: Any = self.trainer.data_collator([self.encoded[i] for i in batch])
                logits = model(**collated.to(model.device)).logits.float().cpu()
                check_numbers(logits)
                values = logits.squeeze(-1) if logits.shape[-1] == 1 else logits.argmax(-1)
                outputs |= {i: repr(value) for i, value in zip(batch, values.tolist(), strict=True)}
                progress.inputs("evaluating", min(len(outputs) * ranks.count(), len(self.encoded)))
        model.train(training)
        everyones = {i: text for part in ranks.gather(outputs) for i, text in part.items()}
        return [everyones[i] for i in range(len(self.encoded))]
