"""Delta-LoRA for ``transformers.Trainer``."""

import warnings
from pathlib import Path
from typing import Any

from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from delta_lora import state as state_file
from delta_lora.delta import DeltaLora
from delta_lora.errors import UserError
from delta_lora.layers import Anchor

STATE_FILE = "delta_lora.safetensors"
NOT_EXPORTED = """An adapter_model.safetensors in this folder holds the factors A and B alone. Delta-LoRA also moved the
base weights W: over the original model, A and B are not the trained model.

The whole of it, for stock PEFT, is written by callback.delta.export(folder), with the DeltaLoraCallback of the
training. From a checkpoint, first resume the training, with a new DeltaLoraCallback of the same settings.
"""


class DeltaLoraCallback(TrainerCallback, ExportableState):
    """Runs :class:`DeltaLora` inside ``transformers.Trainer``: steps, checkpoints, resuming, the best
    checkpoint.

    ::

        callback = DeltaLoraCallback(update_ratio=2.0, start_steps=500)
        Trainer(peft_model, …, callbacks=[callback]).train()
        callback.delta.export("adapter")

    Every checkpoint folder also gets ``delta_lora.safetensors`` (:meth:`DeltaLora.state_dict`). A checkpoint
    is for resuming; its ``adapter_model.safetensors`` holds A and B alone, as does what ``trainer.save_model()``
    writes: the movement of W is missing. For use elsewhere, export. As long as nothing is exported, the end of training
    warns of it, and ``delta_lora_not_exported.txt`` says so in the checkpoints and in ``output_dir``.

    Args:
        update_ratio, start_steps, literal, adapter_name, anchor: as for :class:`DeltaLora`.
        resume_from: the checkpoint folder that training resumes from, where it is not in ``output_dir``.
        remind: whether to warn, and to leave that file; False where your program exports by itself.

    Attributes:
        delta: the :class:`DeltaLora` at work, from the beginning of training on; ``None`` before.
    """

    def __init__(
        self,
        update_ratio: float,
        start_steps: int,
        *,
        literal: bool = False,
        adapter_name: str | None = None,
        anchor: Anchor = "auto",
        resume_from: str | Path | None = None,
        remind: bool = True,
    ) -> None:
        self.delta: DeltaLora | None = None
        self._settings = state_file.Settings(update_ratio, start_steps, literal)  # a wrong value is told at once
        self._arguments: dict[str, Any] = {
            "update_ratio": update_ratio,
            "start_steps": start_steps,
            "literal": literal,
            "adapter_name": adapter_name,
            "anchor": anchor,
        }
        self._resume_from = resume_from
        self._remind = remind

    def attach(self, model: nn.Module) -> DeltaLora:
        """The :class:`DeltaLora` of this model, made at the first call; else training does that when it begins.

        Raises:
            UserError: Delta-LoRA does not fit the model.
        """
        if self.delta is None or not self.delta.belongs_to(model):
            if self.delta is not None:
                self.delta.detach()
            self.delta = self.make(model)
        return self.delta

    def make(self, model: nn.Module) -> DeltaLora:
        """A new :class:`DeltaLora` of this model with the callback's arguments."""
        return DeltaLora(model, **self._arguments)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Attach to the model; continue from the checkpoint if the Trainer does; warn if W will never move.

        Raises:
            UserError: the checkpoint has no Delta-LoRA state, or that of another run.
        """
        delta = self.attach(kwargs["model"])
        if not delta.anchored:
            delta.restore()  # counts from 0 again, where an earlier training ended before the anchor
        if state.global_step > 0:
            folder = Path(self._resume_from or args.resume_from_checkpoint or _folder(args, state))
            self._load(folder, _recorded_digest(state))
        reason = self._settings.plain_lora(state.max_steps)
        if reason and state.max_steps > 0 and state.is_world_process_zero:
            warnings.warn(f"this training {reason}", stacklevel=2)

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Count the step, unless the GradScaler skipped it."""
        if not getattr(kwargs.get("optimizer"), "step_was_skipped", False):
            self._running().step()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Add the state to the checkpoint that the Trainer has just written."""
        if args.should_save:
            folder = _folder(args, state)
            state_file.write(self._running().state_dict(), folder / STATE_FILE)
            self._leave_note(folder)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Where the Trainer has loaded the best checkpoint's A and B, take its anchor too; warn of what is missing."""
        if args.load_best_model_at_end and state.best_model_checkpoint is not None:
            self._load(Path(state.best_model_checkpoint), None)
        if self._half_saved() and state.is_world_process_zero:
            warnings.warn(
                "Delta-LoRA: what the Trainer saves is A and B alone, without the movement of W, and nothing is"
                " exported yet; write the whole adapter with callback.delta.export(folder)",
                stacklevel=2,
            )
            if args.should_save and Path(str(args.output_dir)).is_dir():
                self._leave_note(Path(str(args.output_dir)))

    def state(self) -> dict[str, Any]:
        """What ``trainer_state.json`` records: the arguments and a digest of the state saved beside it."""
        digest = state_file.digest(self.delta.state_dict()) if self.delta else None
        return {"args": {**self._arguments, "remind": self._remind}, "attributes": {}, "digest": digest}

    def _half_saved(self) -> bool:
        """Whether W has moved, and no export of it is there."""
        delta = self._running()
        return self._remind and delta.anchored and delta.exported_at != delta.steps

    def _leave_note(self, folder: Path) -> None:
        if self._half_saved():
            (folder / state_file.NOTE).write_text(NOT_EXPORTED, encoding="utf-8")

    def _load(self, folder: Path, digest: str | None) -> None:
        path = folder / STATE_FILE
        if not path.is_file():
            raise UserError(
                f"{path} is missing, so Delta-LoRA cannot resume exactly; use a checkpoint written with"
                " DeltaLoraCallback, and resume_from=… where it is not in output_dir"
            )
        loaded = state_file.read(path)
        if digest is not None and state_file.digest(loaded) != digest:
            raise UserError(
                f"{path} belongs to another run than the checkpoint that the Trainer resumes: give that"
                " folder as"
                " DeltaLoraCallback(resume_from=…)"
            )
        self._running().load_state_dict(loaded)

    def _running(self) -> DeltaLora:
        if self.delta is None:
            raise UserError("DeltaLoraCallback has no model yet: it attaches when Trainer.train() begins")
        return self.delta


def _folder(args: TrainingArguments, state: TrainerState) -> Path:
    """The Trainer's folder for the current step; a hyper-parameter search puts it one level down."""
    name = f"checkpoint-{state.global_step}"
    folder = Path(str(args.output_dir)) / name
    if state.is_hyper_param_search and not folder.is_dir():
        below = sorted(Path(str(args.output_dir)).glob(f"*/{name}"), key=lambda path: path.stat().st_mtime)
        folder = below[-1] if below else folder
    return folder


def _recorded_digest(state: TrainerState) -> str | None:
    """The digest in the ``trainer_state.json`` that training resumes from.

    With several of these callbacks, one per adapter, it is not recorded which is whose.
    """
    recorded: Any = state.stateful_callbacks
    ours = recorded.get("DeltaLoraCallback") if isinstance(recorded, dict) else None
    return ours.get("digest") if isinstance(ours, dict) else None
