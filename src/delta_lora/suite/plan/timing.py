"""A few optimizer steps and test batches of a cell, timed where no run here has recorded them (`make plan`)."""

import math
import time
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from transformers import (
    DataCollatorWithPadding,
    PreTrainedModel,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_callback import CallbackHandler, DefaultFlowCallback

from delta_lora.errors import UserError
from delta_lora.methods.base import Method
from delta_lora.models.load import PUBLISHED, load_model, random_model
from delta_lora.models.settings import dropout_fields
from delta_lora.suite.config.cell import Cell
from delta_lora.suite.plan.prefetch import model_here
from delta_lora.suite.plan.sample import Sample
from delta_lora.suite.plan.speeds import Speeds, plain_config, test_work, training_work
from delta_lora.suite.run.decoding import decode
from delta_lora.suite.run.precision import training_in, uses_bf16
from delta_lora.suite.run.targets import at_targets

WARM_UP, STEPS, BATCHES = 2, 8, 2  # optimizer steps before the timed ones, timed ones, timed batches of test inputs


class Session:
    """One model under one method, trained step by step as the suite's trainer does it.

    Args:
        model: on its device, prepared by the method.
        method: the method.
        bf16: whether autocast computes in bfloat16.
    """

    def __init__(self, model: nn.Module, method: Method, *, bf16: bool) -> None:
        self.model = model.train()
        self.device = next(model.parameters()).device
        self.bf16 = bf16
        trainable = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trainable, lr=1e-5, fused=True)
        scheduler = torch.optim.lr_scheduler.ConstantLR(self.optimizer, factor=1.0)
        self.arguments = TrainingArguments("unused", report_to="none", use_cpu=self.device.type == "cpu")
        self.state, self.control = TrainerState(), TrainerControl()
        callbacks = [DefaultFlowCallback, *method.callbacks()]
        self.events = CallbackHandler(callbacks, self.model, None, self.optimizer, scheduler)
        self.events.on_train_begin(self.arguments, self.state, self.control)

    def step(self, *micro_batches: dict[str, Tensor]) -> float:
        """One optimizer step as the Trainer does it, gradients summed over the micro-batches; in seconds."""
        self.wait()
        start = time.perf_counter()
        self.events.on_step_begin(self.arguments, self.state, self.control)
        own: Any = self.model
        for batch in micro_batches:
            on_device = {name: tensor.to(self.device) for name, tensor in batch.items()}
            with at_targets(own, on_device) as given, self.autocast():
                loss = self.model(**given).loss
            (loss / len(micro_batches)).backward()
        self.events.on_pre_optimizer_step(self.arguments, self.state, self.control)
        self.optimizer.step()
        self.events.on_optimizer_step(self.arguments, self.state, self.control)
        self.optimizer.zero_grad()
        self.wait()
        self.state.global_step += 1
        return time.perf_counter() - start

    def autocast(self) -> torch.autocast:
        """What the model computes in."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def wait(self) -> None:
        """Let the GPU finish."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def time_cell(cell: Cell, sample: Sample, speeds: Speeds) -> None:
    """Time a few optimizer steps of a cell, and some batches of its test inputs where nothing knows how long they take.

    The weights are random where the model's own are not here. An untrained model never ends a text, so a timed
    decoding, up to ``max_new_tokens`` each, is the longest that it can be. A method is timed with all of
    it at work.

    Raises:
        UserError: the model is not here, and its size is not known.
    """
    config = cell.config
    method = cell.method.at_full_cost()
    torch.manual_seed(0)
    on_device: Any = model_for(cell).to("cuda" if torch.cuda.is_available() else "cpu")  # type: ignore[arg-type]
    bf16 = uses_bf16(config.task.train.precision)
    session = Session(method.prepare(on_device, cell.spec, cell.schedule), method, bf16=bf16)
    with training_in(session.model, method, cell.spec, bf16=bf16):
        timed = [session.step(*micro) for micro in sample.steps(cell, session.model, WARM_UP + STEPS)][WARM_UP:]
    examples = cell.schedule.total_steps * config.task.train.batch_size
    seconds = examples * sum(timed) / len(timed) / config.task.train.batch_size
    if not cell.task.generates:
        seconds += math.ceil(examples / cell.task.train_size()) * classifying_seconds(session, sample, config)
    elif speeds.test_seconds(cell) is None:
        speeds.keep(test_work(plain_config(cell)), decoding_seconds(cell, method.merge(), sample))
    speeds.keep(training_work(plain_config(cell)), examples / seconds)


def classifying_seconds(session: Session, sample: Sample, config: DictConfig) -> float:
    """Seconds to predict the whole test set once."""
    chosen, count = sample.test_batches(config.task.evaluation_batch_size, BATCHES)
    collate: Any = DataCollatorWithPadding(sample.tokenizer)
    session.model.eval()
    session.wait()
    start = time.perf_counter()
    with torch.inference_mode(), session.autocast():
        for batch in chosen:
            session.model(**collate(batch).to(session.device)).logits.float().cpu()
    return (time.perf_counter() - start) / len(chosen) * count


def decoding_seconds(cell: Cell, model: PreTrainedModel, sample: Sample) -> float:
    """Seconds to decode the whole test set."""
    task = cell.config.task
    chosen, count = sample.test_batches(task.decode.batch_size, BATCHES)
    start = time.perf_counter()
    for batch in chosen:
        decode(model, sample.tokenizer, batch, task)
    return (time.perf_counter() - start) / len(chosen) * count


def model_for(cell: Cell) -> PreTrainedModel:
    """The cell's model without asking a network: as it is here, else with random weights.

    Raises:
        UserError: it is not here and is none of the paper's.
    """
    group, dropouts, settings = cell.config.model, cell.config.task.train.dropouts, cell.task.model_settings()
    if model_here(group, cell.cache_dir):
        return load_model(group, cell.cache_dir, dropouts, **settings)
    if group.path in PUBLISHED:
        return random_model(group.kind, PUBLISHED[group.path](), **dropout_fields(group, dropouts), **settings)
    raise UserError(f"model {group.name} is not here, and its size is not known; `make prefetch` gets it")
