"""The one trainer: ``transformers.Trainer`` with the paper's settings and an order of data that survives a resume."""

import json
import logging
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Sampler
from transformers import (
    DataCollatorForSeq2Seq,
    DataCollatorWithPadding,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_pt_utils import get_length_grouped_indices

from delta_lora.suite.config import Cell
from delta_lora.suite.records import intact, write_text
from delta_lora.tasks.base import Item, sha256_of

SEAL = "seal.json"
log = logging.getLogger(__name__)


class EpochSampler(Sampler[int]):
    """Indices of one epoch, in an order that depends on the seed and the epoch alone.

    Transformers' length-grouped sampler draws from torch's global generator, so a run resumed in its second epoch
    would see another order than the undisturbed run.

    Args:
        lengths: tokens of every example.
        batch_size: the effective one; examples of similar length are put into the same batch.
        seed: of the run.
        epoch: tells which epoch begins.
        grouped: False: a plain shuffle.
    """

    def __init__(self, lengths: list[int], batch_size: int, seed: int, epoch: Callable[[], int], grouped: bool) -> None:
        self.lengths = lengths
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = epoch
        self.grouped = grouped

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator()
        generator.manual_seed(self.seed * 1_000_003 + self.epoch())
        if self.grouped:
            return iter(get_length_grouped_indices(self.lengths, self.batch_size, generator=generator))
        return iter(torch.randperm(len(self.lengths), generator=generator).tolist())


class SuiteTrainer(Trainer):
    """Trainer with :class:`EpochSampler`, and with examples/s and peak memory in its logs."""

    def __init__(self, *args: Any, seed: int, grouped: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.order_seed = seed
        self.grouped = grouped
        self.clock = (time.perf_counter(), 0)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        effective = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        examples: Any = self.train_dataset
        steps = -(-len(examples) // effective)
        return EpochSampler(
            [len(example["input_ids"]) for example in examples],
            effective,
            self.order_seed,
            lambda: self.state.global_step // steps,
            self.grouped,
        )

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add examples/s since the last log and the peak memory in bytes."""
        now, (then, step) = time.perf_counter(), self.clock
        if self.state.global_step > step:
            effective = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
            logs["examples_per_second"] = (self.state.global_step - step) * effective / (now - then)
            self.clock = (now, self.state.global_step)
        logs["peak_memory_bytes"] = peak_memory()
        super().log(logs, start_time)


def train(
    cell: Cell,
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    examples: list[dict[str, Any]],
    callbacks: list[TrainerCallback],
    folder: Path,
    evaluation: "BestEpoch | None" = None,
) -> dict[str, Any]:
    """Train, from the last checkpoint where there is one.

    Args:
        cell: the run.
        model: prepared by the method.
        tokenizer: for padding.
        examples: from ``task.train_examples``.
        callbacks: the method's and the tracker's.
        folder: for checkpoints.
        evaluation: scores every epoch and keeps the best (classification); None keeps the last.

    Returns:
        What the record says of the training: steps, seconds, examples_per_second, peak_memory_bytes, final_loss and
        the log history.
    """
    settings = cell.config.task.train
    torch.manual_seed(cell.config.seed)
    trainer = SuiteTrainer(
        model=model,
        args=training_arguments(cell, folder),
        train_dataset=examples,
        data_collator=(
            DataCollatorWithPadding(tokenizer)
            if cell.spec.kind == "classification"
            else DataCollatorForSeq2Seq(tokenizer, model=None, label_pad_token_id=-100)
        ),
        processing_class=tokenizer,
        callbacks=callbacks,
        seed=cell.config.seed,
        grouped=settings.group_by_length,
    )
    if evaluation is not None:
        evaluation.trainer = trainer
        trainer.add_callback(evaluation)
    trainer.remove_callback(PrinterCallback)  # the suite prints its own lines
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    # RoBERTa's and BART's losses are means of the micro-batch, so the Trainer has to average over the micro-batches.
    trainer.model_accepts_loss_kwargs = cell.spec.kind == "causal"
    trainer.add_callback(Seal())  # last: it covers what the callbacks before it have added to a checkpoint
    checkpoint = last_intact_checkpoint(folder)
    if checkpoint is not None:
        log.warning("%s: going on from %s", cell.name, checkpoint)
    result = trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return {
        "steps": trainer.state.global_step,
        "seconds": round(result.metrics["train_runtime"], 2),
        "examples_per_second": round(result.metrics["train_samples_per_second"], 2),
        "peak_memory_bytes": peak_memory(),
        "final_loss": losses[-1] if losses else result.training_loss,
        "log_history": trainer.state.log_history,
    }


class Seal(TrainerCallback):
    """Closes every checkpoint with the SHA-256 of its files; one that was cut off has no seal, or a broken one."""

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Seal the checkpoint that was just written."""
        folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != SEAL]
        digests = {path.relative_to(folder).as_posix(): sha256_of(path) for path in files}
        write_text(folder / SEAL, json.dumps(digests))


def last_intact_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint whose seal holds; newer ones that were cut off or damaged are reported and set aside."""
    checkpoints = {int(path.name.split("-")[1]): path for path in folder.glob("checkpoint-*") if path.is_dir()}
    for step in sorted(checkpoints, reverse=True):
        path = checkpoints[step]
        try:
            digests = json.loads((path / SEAL).read_text(encoding="utf-8"))
            if all(intact(path / name, digest) for name, digest in digests.items()):
                return path
        except (OSError, ValueError, AttributeError):
            pass
        log.warning("%s is incomplete or damaged: set aside, the run goes on from before it", path)
        path.rename(path.with_name(f"damaged-{time.time_ns()}-{path.name}"))
    return None


class BestEpoch(TrainerCallback):
    """Scores the model after every epoch and keeps the best one's predictions and adapter (LoRA's convention for GLUE).

    Args:
        cell: the run; ``task.metrics[0]`` decides.
        items: the scored items.
        encoded: the same, tokenized.
        folder: where the best epoch so far lies; it survives an interruption.
    """

    trainer: "SuiteTrainer"

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
        epochs, epoch, first = self.epochs(), str(round(state.epoch or 0)), self.cell.config.task.metrics[0]
        if epoch in epochs:
            return
        predictions = self.predict()
        metrics = self.cell.task.score(self.items, predictions)
        self.trainer.log({f"eval_{name}": value for name, value in metrics.items()})
        if all(metrics[first] > earlier[first] for earlier in epochs.values()):
            shutil.rmtree(self.folder / "adapter", ignore_errors=True)
            self.cell.method.export(self.folder / "adapter")
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


def training_arguments(cell: Cell, folder: Path) -> TrainingArguments:
    """The paper's settings as the Trainer's: AdamW (0.9, 0.999, 1e-8), linear schedule with warm-up."""
    settings = cell.config.task.train
    cuda = torch.cuda.is_available()
    micro = settings.micro_batch_size or settings.batch_size
    bf16 = settings.precision == "bf16" or (
        settings.precision == "auto" and cuda and torch.cuda.is_bf16_supported(including_emulation=False)
    )
    return TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=settings.batch_size // micro,
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps or -1,
        learning_rate=cell.method.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=cell.schedule.warmup_steps,
        weight_decay=settings.weight_decay,
        label_smoothing_factor=settings.label_smoothing,
        max_grad_norm=settings.max_grad_norm,
        adam_beta1=0.9,
        adam_beta2=0.999,
        adam_epsilon=1e-8,
        optim="adamw_torch_fused",
        bf16=bf16,
        use_cpu=not cuda,
        save_strategy="steps",
        save_steps=settings.save_steps,
        save_total_limit=2,
        logging_steps=settings.logging_steps,
        seed=cell.config.seed,
        remove_unused_columns=False,
        report_to=[],
        disable_tqdm=not sys.stderr.isatty(),
        dataloader_pin_memory=cuda,
    )


def peak_memory() -> int:
    """Peak memory in bytes: the GPU's allocator where there is one, else the process's resident size."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
