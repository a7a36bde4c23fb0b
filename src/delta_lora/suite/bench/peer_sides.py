"""Whole trainings on the same rows: ours, PEFT's with ``transformers.Trainer``, loralib's as microsoft/LoRA trains."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from hydra import compose
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainingArguments,
)
from transformers.trainer_callback import PrinterCallback

from delta_lora.errors import UserError
from delta_lora.models.gpt2 import one_kernel_gelu, split_attention
from delta_lora.places import place
from delta_lora.suite.bench.cases import DROPOUTS
from delta_lora.suite.bench.decoding import SHAPES
from delta_lora.suite.bench.gate import Gate, Gated
from delta_lora.suite.bench.original_training import LENGTH, train_as_the_original, with_loralib
from delta_lora.suite.config.cell import Cell, build_cell
from delta_lora.suite.config.compose import composing
from delta_lora.suite.plan.sample import word_tokenizer
from delta_lora.suite.run.inputs import Inputs
from delta_lora.suite.run.progress import TrainingProgress
from delta_lora.suite.run.training import make_trainer, train
from delta_lora.tasks.generation import IGNORED

Rows = list[dict[str, list[int]]]
# By architecture: our model group, and the projections that PEFT adapts (GPT-2's is query, key and value in one).
ARCHITECTURES = {"gpt2": ("gpt2-medium", ["c_attn"]), "llama": ("smollm2-135m", ["q_proj", "v_proj"])}


@dataclass(frozen=True)
class PeerCase:
    """What all sides train: a model (a name of `SHAPES`, with random weights, or a checkpoint's folder), and how."""

    model: str
    device: str
    precision: str  # fp32 | bf16; loralib's is fp32
    steps: int  # of ours and PEFT's
    slow_steps: int  # of loralib's


def e2e_cell(case: PeerCase, *overrides: str, data: str | None = None) -> Cell:
    """E2E by LoRA with the task's settings, but so few steps without warm-up, composed for this model.

    Args:
        case: the model, and the precision.
        overrides: as on the command line.
        data: the folder of the data sets, where their rows are read.
    """
    group, _ = ARCHITECTURES[configuration(case.model).model_type]
    settings = [f"model={group}", "task=e2e", "method=lora", "logger=none", "scale.require_gpu=false"]
    settings += [
        f"task.train.max_steps={case.steps}",
        "task.train.warmup_steps=0",
        f"task.train.precision={case.precision}",
    ]
    settings += [f"data_dir={'null' if data is None else place('--data', data)}", *overrides]
    with composing():
        return build_cell(compose("train", settings))


def configuration(model: str) -> PretrainedConfig:
    """The model's, without dropout: the task has none but in the branch.

    Raises:
        UserError: there is no such model, or it is no GPT-2 or Llama that has room for microsoft/LoRA's 512 tokens.
    """
    if model in SHAPES:
        config = SHAPES[model]()
    elif (folder := place("--model", model)).is_dir():
        config = AutoConfig.from_pretrained(folder)
    else:
        raise UserError(f"--model {model}: give {', '.join(SHAPES)} or the folder of a checkpoint")
    if config.model_type not in ARCHITECTURES:
        raise UserError(f"--model {model} is a {config.model_type} model; give one of {', '.join(ARCHITECTURES)}")
    if config.max_position_embeddings < LENGTH:
        raise UserError(
            f"--model {model} has room for {config.max_position_embeddings} tokens, and microsoft/LoRA pads to {LENGTH}"
        )
    config.update({name: 0.0 for name in DROPOUTS if hasattr(config, name)})
    return config


def pretrained(case: PeerCase, **options: Any) -> PreTrainedModel:
    """The model in float32 as Transformers makes it, on its device."""
    config = configuration(case.model)
    torch.manual_seed(0)
    if case.model in SHAPES:
        model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32, **options)
    else:
        model = AutoModelForCausalLM.from_pretrained(
            place("--model", case.model), config=config, dtype=torch.float32, **options
        )
    return model.to(case.device)


def tokenizer_of(model: str) -> PreTrainedTokenizerBase:
    """The checkpoint's tokenizer with a token to pad with; for a model by name one that can only pad."""
    if model in SHAPES:
        return word_tokenizer()
    tokenizer = AutoTokenizer.from_pretrained(place("--model", model))
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def ours(gate: Gate, case: PeerCase, rows: Rows, grouped: bool) -> None:
    """The first steps of a run of this suite, by the code of every run.

    Args:
        gate: each optimizer step goes through it.
        case: what is trained.
        rows: as many as the steps need, or more.
        grouped: batches of similar length (``task.train.group_by_length``), or random ones as at paper scale.
    """
    cell = e2e_cell(
        case,
        f"task.max_train_examples={len(rows)}",
        f"task.train.group_by_length={str(grouped).lower()}",
    )
    model = pretrained(case)
    if model.config.model_type == "gpt2":
        model = split_attention(one_kernel_gelu(model))
    prepared = cell.method.prepare(model, cell.spec, cell.schedule)
    with TemporaryDirectory() as folder:
        inputs = Inputs(tokenizer_of(case.model), rows, [])
        trainer = make_trainer(cell, prepared, inputs, Path(folder), cell.train.batch_size)
        callbacks = [*cell.method.callbacks(), TrainingProgress(cell.name, trainer.effective_batch), Gated(gate)]
        train(cell, trainer, callbacks)


def peft(gate: Gate, case: PeerCase, rows: Rows) -> None:
    """A training as PEFT's and Transformers' documentation has it: dynamic padding, random order, their defaults.

    Args:
        gate: each optimizer step goes through it.
        case: what is trained.
        rows: as many as the steps need, or more.
    """
    from peft import LoraConfig, get_peft_model  # after the suite, which keeps its imports quiet

    settings = e2e_cell(case).config
    base = pretrained(case)
    _, targets = ARCHITECTURES[base.config.model_type]
    model = get_peft_model(
        base,
        LoraConfig(
            task_type="CAUSAL_LM",
            r=settings.method.rank,
            lora_alpha=settings.method.alpha,
            lora_dropout=settings.method.dropout,
            target_modules=targets,
            fan_in_fan_out=base.config.model_type == "gpt2",
        ),
    )
    with TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=settings.task.train.batch_size,
            max_steps=case.steps,
            learning_rate=settings.task.train.learning_rate,
            weight_decay=settings.task.train.weight_decay,
            bf16=case.precision == "bf16",
            use_cpu=case.device == "cpu",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        collator = DataCollatorForSeq2Seq(tokenizer_of(case.model), label_pad_token_id=IGNORED)
        data: Any = rows
        trainer = Trainer(model, arguments, data_collator=collator, train_dataset=data, callbacks=[Gated(gate)])
        trainer.remove_callback(PrinterCallback)
        trainer.train()


def loralib(gate: Gate, case: PeerCase, rows: Rows) -> None:
    """A training in microsoft/LoRA's way (:func:`train_as_the_original`), whatever the case's precision in float32.

    On the CPU one row at a time, its gradients accumulated: eight at once take some 30 GB with gpt2-medium.

    Args:
        gate: each optimizer step goes through it.
        case: what is trained.
        rows: as many as the steps need, or more.
    """
    settings = e2e_cell(case).config
    model, own, size = pretrained(case, attn_implementation="eager"), settings.method, settings.task.train.batch_size
    with_loralib(model, r=own.rank, lora_alpha=own.alpha, lora_dropout=own.dropout)
    micro = 1 if case.device == "cpu" else size
    train_as_the_original(gate, model, rows[: case.slow_steps * size], micro, size // micro)
