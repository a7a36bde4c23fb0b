"""AdaLoRA inside the Trainer: PEFT's allocator, the orthogonality term, and the allocator's state in checkpoints."""

from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from delta_lora.errors import UserError
from delta_lora.files import whole
from delta_lora.methods.base import read_tensors

STATE_FILE = "adalora_state.safetensors"


class AdaLoraCallback(TrainerCallback):
    """Calls PEFT's allocator after each optimizer step while the gradients are there, as PEFT asks.

    The allocator's state (smoothed sensitivity and uncertainty, current mask, steps done) goes into every
    checkpoint folder, so that a resumed run prunes as an undisturbed one. A step that a gradient scaler skips
    is no step.

    The orthogonality term's gradient is added once per optimizer step. PEFT's own term is added to the loss
    of every forward pass, so that its weight would grow with the number of micro-batches and of processes.
    """

    def __init__(self, model: PeftModel, orthogonality: float) -> None:
        self.tuner: Any = model.base_model
        self.allocator = self.tuner.rankallocator
        self.config: Any = model.peft_config["default"]
        self.step = 0
        self.rank_pattern: dict[str, list[bool]] | None = None
        factors = {n: p for n, p in model.named_parameters() if ".lora_A." in n or ".lora_B." in n}
        self._due: set[str] = set()
        if orthogonality:
            for name, parameter in factors.items():
                parameter.register_hook(self._regulariser(name, parameter, orthogonality / len(factors)))
        self._names = set(factors)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Restore the allocator when the run goes on from a checkpoint."""
        if state.global_step:
            folder = args.resume_from_checkpoint or f"{args.output_dir}/checkpoint-{state.global_step}"
            self._load(Path(folder) / STATE_FILE)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Ask for the orthogonality term once in this step."""
        self._due = set(self._names)

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Update the sensitivities and, when it is due, the mask."""
        if getattr(kwargs["optimizer"], "step_was_skipped", False):
            return
        self.step += 1
        # With a pattern in its configuration PEFT saves pruned tensors, which no optimizer state fits.
        self.config.rank_pattern = self.rank_pattern
        self.tuner.update_and_allocate(self.step)
        self.rank_pattern, self.config.rank_pattern = self.config.rank_pattern, None

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Write the allocator's state into the checkpoint folder just made."""
        if state.is_world_process_zero:
            self._save(Path(str(args.output_dir)) / f"checkpoint-{state.global_step}" / STATE_FILE)

    def _regulariser(self, name: str, parameter: nn.Parameter, weight: float) -> Any:
        def add(grad: Tensor) -> Tensor | None:
            if name not in self._due:
                return None
            self._due.discard(name)
            with torch.no_grad():
                p = parameter if ".lora_A." in name else parameter.T
                gap = p @ p.T - torch.eye(len(p), device=p.device, dtype=p.dtype)
                term = (2 * weight / gap.norm().clamp_min(1e-12)) * (gap @ p)  # ∇‖p pᵀ − I‖
                return grad + (term if ".lora_A." in name else term.T)

        return add

    def _save(self, path: Path) -> None:
        tensors = {"step": torch.tensor(self.step)}
        for kind in ("ipt", "exp_avg_ipt", "exp_avg_unc"):
            tensors |= {f"{kind}/{n}": t for n, t in getattr(self.allocator, kind).items()}
        for name, mask in (self.rank_pattern or {}).items():
            tensors[f"rank_pattern/{name}"] = torch.tensor(mask)
        with whole(path) as temporary:
            save_file({n: t.detach().cpu().contiguous() for n, t in tensors.items()}, temporary)

    def _load(self, path: Path) -> None:
        if not path.is_file():
            raise UserError(f"cannot resume adalora: {path} is missing; delete that checkpoint to start earlier")
        tensors = read_tensors(path)
        self.step = int(tensors.pop("step"))
        groups: dict[str, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            kind, _, name = key.partition("/")
            groups.setdefault(kind, {})[name] = tensor
        device = next(self.tuner.parameters()).device
        for kind in ("ipt", "exp_avg_ipt", "exp_avg_unc"):
            setattr(self.allocator, kind, {n: t.to(device) for n, t in groups.get(kind, {}).items()})
        pattern = {name: mask.tolist() for name, mask in groups.get("rank_pattern", {}).items()}
        self.rank_pattern = pattern or None
