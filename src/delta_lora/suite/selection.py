"""Which epoch counts: the best on the validation set, for tasks whose paper and predecessors select so (GLUE)."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from delta_lora.suite.config import Cell
from delta_lora.suite.records import write_text
from delta_lora.suite.start import START
from delta_lora.tasks.base import Item


class BestEpoch(TrainerCallback):
    """Scores the model after every epoch and keeps the best one's predictions and adapter (LoRA's convention for GLUE).

    Args:
        cell: the run; ``task.metrics[0]`` decides.
        items: the scored items.
        encoded: the same, tokenized.
        folder: where the best epoch so far lies; it survives an interruption.
    """

    trainer: Trainer

    def __init__(self, cell: Cell, items: Sequence[Item], encoded: list[dict[str, Any]], folder: Path) -> None:
        self.cell = cell
        self.items = items
        self.encoded = encoded
        self.folder = folder

    def epochs(self) -> dict[str, dict[str, float]]:
        """The metrics of every epoch that was scored, by epoch."""
        path = self.folder / "epochs.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def best(self) -> dict[str, Any]:
        """``{"epoch", "metrics", "predictions"}`` of the best epoch so far (the first of equals)."""
        return json.loads((self.folder / "best.json").read_text(encoding="utf-8"))

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
        epochs, epoch, first = self.epochs(), str(round(state.epoch or 0)), self.cell.config.task.metrics[0]
        if epoch in epochs:
            return
        predictions = self.predict()
        metrics = self.cell.task.score(self.items, predictions)
        self.trainer.log({f"eval_{name}": value for name, value in metrics.items()})
        if all(metrics[first] > earlier[first] for earlier in epochs.values()):
            shutil.rmtree(self.folder / "adapter", ignore_errors=True)
            self.cell.method.export(self.folder / "adapter")
            if self.cell.config.task.save_start:
                self.cell.method.save_start(self.folder / START)
            found = {"epoch": int(epoch), "metrics": metrics, "predictions": predictions}
            write_text(self.folder / "best.json", json.dumps(found))
        write_text(self.folder / "epochs.json", json.dumps({**epochs, epoch: metrics}))

    def predict(self) -> list[str]:
        """The class, or the number, that the model gives each item; batches of similar length."""
        model: Any = self.trainer.model
        training = model.training
        model.eval()
        order = sorted(range(len(self.encoded)), key=lambda i: (len(self.encoded[i]["input_ids"]), i))
        size = self.cell.config.task.evaluation_batch_size
        outputs: dict[int, str] = {}
        with torch.inference_mode(), self.trainer.autocast_smart_context_manager():
            for start in range(0, len(order), size):
                batch = order[start : start + size]
                collated: Any = self.trainer.data_collator([self.encoded[i] for i in batch])
                logits = model(**collated.to(model.device)).logits.float().cpu()
                values = logits.squeeze(-1) if logits.shape[-1] == 1 else logits.argmax(-1)
                outputs |= {i: repr(value) for i, value in zip(batch, values.tolist(), strict=True)}
        model.train(training)
        return [outputs[i] for i in range(len(self.encoded))]
