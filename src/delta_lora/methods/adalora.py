"""AdaLoRA (Zhang et al. 2023, arXiv 2303.10512), from PEFT: rank where the loss is sensitive."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import AdaLoraConfig, PeftModel
from peft.tuners.adalora import AdaLoraLayer
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from delta_lora.errors import UserError
from delta_lora.files import whole
from delta_lora.methods import checks
from delta_lora.methods.base import ModelSpec, Schedule, read_tensors, setting
from delta_lora.methods.peft_method import ADAPTER, PeftMethod
from delta_lora.updates import LowRankUpdate

STATE_FILE = "adalora_state.safetensors"


@dataclass(kw_only=True, eq=False)
class AdaLora(PeftMethod):
    """ΔW = (α/r₀) P Λ Q with P (d, r₀), Λ diagonal, Q (r₀, c), r₀ = ``init_rank``.

    For ``warmup_fraction`` of the steps all triplets stay; then the budget falls cubically to ``target_rank``
    a layer on average (every ``interval_fraction`` of the steps, Λ's entries of least smoothed sensitivity
    become zero); the last ``final_fraction`` of the steps trains what is left. ``orthogonality`` weighs the
    mean over all P and Q of ‖PᵀP − I‖ and ‖QQᵀ − I‖ in the loss.
    """

    init_rank: int
    target_rank: int
    alpha: float
    dropout: float = 0.1
    warmup_fraction: float = setting(delays=True, default=0.1)
    final_fraction: float = 0.5
    interval_fraction: float = 0.0015
    orthogonality: float = 0.1
    beta1: float = 0.85
    beta2: float = 0.85

    def validate(self, largest_rank: int, total_steps: int) -> None:
        """Check the arguments.

        Raises:
            UserError: ranks out of order or too large, a schedule without room to prune in ``total_steps``,
                other values out of range.
        """
        super().validate(largest_rank, total_steps)
        why = "the smallest dimension of the adapted layers"
        checks.integer("init_rank", self.init_rank, 2, largest_rank, why)
        checks.integer("target_rank", self.target_rank, 1, self.init_rank - 1, "below method.init_rank")
        checks.number("alpha", self.alpha, 0, ends="(]")
        checks.number("dropout", self.dropout, 0, 1, "[)")
        checks.number("warmup_fraction", self.warmup_fraction, 0, 1, "[)")
        checks.number("final_fraction", self.final_fraction, 0, 1, "()")
        checks.number("interval_fraction", self.interval_fraction, 0, 1)
        checks.number("orthogonality", self.orthogonality, 0)
        checks.number("beta1", self.beta1, 0, 1, "()")
        checks.number("beta2", self.beta2, 0, 1, "()")
        tinit, tfinal, _ = self.steps(total_steps)
        if tinit >= total_steps - tfinal:
            raise UserError(
                f"adalora has no step left to prune in: of {total_steps} steps, {tinit} warm up "
                f"(method.warmup_fraction={self.warmup_fraction:g}) and {tfinal} are final "
                f"(method.final_fraction={self.final_fraction:g}); lower one or train longer"
            )

    def steps(self, total_steps: int) -> tuple[int, int, int]:
        """The fractions in optimizer steps of a run of ``total_steps``: PEFT's (tinit, tfinal, deltaT)."""
        return (
            int(self.warmup_fraction * total_steps),
            math.ceil(self.final_fraction * total_steps),
            max(1, round(self.interval_fraction * total_steps)),
        )

    def prepare(self, model: PreTrainedModel, spec: ModelSpec, schedule: Schedule) -> nn.Module:
        """Return ``model`` wrapped by PEFT, its allocator set up for ``schedule.total_steps``."""
        tinit, tfinal, interval = self.steps(schedule.total_steps)
        config = AdaLoraConfig(
            init_r=self.init_rank,
            target_r=self.target_rank,
            lora_alpha=self.alpha,  # type: ignore[arg-type]
            lora_dropout=self.dropout,
            total_step=schedule.total_steps,
            tinit=tinit,
            tfinal=tfinal,
            deltaT=interval,
            beta1=self.beta1,
            beta2=self.beta2,
            orth_reg_weight=0.0,  # the callback adds it, see AdaLoraCallback
        )
        prepared = self.attach(model, spec, config)
        for layer in self.adapted_layers().values():
            # A constant, which PEFT makes trainable when the base model is on another device than the CPU.
            assert isinstance(layer, AdaLoraLayer)
            layer.ranknum["default"].requires_grad_(False)
        return prepared

    def callbacks(self) -> list[TrainerCallback]:
        """The callback that prunes, regularises, and saves and restores the allocator."""
        return [AdaLoraCallback(self.peft_model, self.orthogonality)]

    def rank_limit(self) -> int | None:
        """``init_rank``: a layer may keep all its triplets while others lose theirs."""
        return self.init_rank

    def branches(self) -> dict[str, LowRankUpdate]:
        """P and ΛQ of each layer without the pruned triplets (one zero triplet where all are pruned)."""
        found = {}
        for name, layer in self.adapted_layers().items():
            assert isinstance(layer, AdaLoraLayer)
            e = layer.lora_E[ADAPTER].detach()
            kept = e.view(-1).nonzero().view(-1)
            if not len(kept):
                kept = torch.zeros(1, dtype=torch.long, device=e.device)
            factor_a: Any = layer.lora_A[ADAPTER]  # a bare parameter here, unlike in LoRA's layers
            factor_b: Any = layer.lora_B[ADAPTER]
            scale = layer.scaling[ADAPTER] / (layer.ranknum[ADAPTER].item() + 1e-5)
            found[name] = LowRankUpdate(factor_b.detach()[:, kept] * scale, (factor_a.detach() * e)[kept])
        return found


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
