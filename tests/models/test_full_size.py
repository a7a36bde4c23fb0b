"""Full-size models, random weights, on the CPU: the paper-scale path without the paper's knowledge (make test-slow)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.models import gpt2_medium_config
from omegaconf import DictConfig
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from delta_lora.suite.run.recipe import run_cell

SHORT = [
    "scale=paper",
    "scale.require_gpu=false",
    "task.source=generated",
    "task.init_from=null",
    "task.max_train_examples=8",
    "task.max_test_examples=2",
    "task.train.batch_size=4",
    "task.train.micro_batch_size=2",
    "task.train.max_steps=2",
    "task.train.warmup_steps=0",
    "task.train.max_length=64",
    "method.start_steps=0",
]


def checkpoint(folder: Path, small: Path, build: Callable[[PreTrainedTokenizerBase], Any]) -> Path:
    """A full-size model with random weights beside a small tokenizer, as a hub snapshot has them."""
    import torch

    tokenizer = AutoTokenizer.from_pretrained(small)
    tokenizer.add_special_tokens({"pad_token": "<pad>", "sep_token": "</s>", "cls_token": "<s>"})
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    build(tokenizer).save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_bart_large_trains_two_steps_and_summarises_two_documents(
    composed: Callable[..., DictConfig], gpt2_checkpoint: Path, tmp_path: Path
) -> None:
    """Encoder self-, decoder self- and cross-attention: 36 × 2 weights (the parameter column of Table 3)."""
    from transformers import BartConfig, BartForConditionalGeneration

    def build(tokenizer: PreTrainedTokenizerBase) -> Any:
        marks = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
        return BartForConditionalGeneration(BartConfig(**marks, decoder_start_token_id=tokenizer.eos_token_id))

    path = checkpoint(tmp_path / "bart-large", gpt2_checkpoint, build)
    run = run_cell(
        composed(
            "model=bart-large",
            f"model.path={path}",
            "task=xsum",
            *[setting for setting in SHORT if "init_from" not in setting],
            "task.decode.beam_size=2",
            "task.decode.max_new_tokens=4",
        )
    )
    assert run.train["steps"] == 2
    assert run.counts == {"trainable": 589_824, "extra_updatable": 75_497_472, "head": 0}
    assert len(run.predictions()) == 2
    assert (run.path / "adapter" / "adapter_model.safetensors").stat().st_size < 10_000_000


@pytest.mark.slow
def test_roberta_base_trains_two_steps_on_two_labels(
    composed: Callable[..., DictConfig], gpt2_checkpoint: Path, tmp_path: Path
) -> None:
    """From the released architecture with its masked-LM head, which a classification head takes the place of."""
    from transformers import RobertaConfig, RobertaForMaskedLM

    def build(tokenizer: PreTrainedTokenizerBase) -> Any:
        return RobertaForMaskedLM(RobertaConfig(vocab_size=50265, max_position_embeddings=514, type_vocab_size=1))

    path = checkpoint(tmp_path / "roberta-base", gpt2_checkpoint, build)
    run = run_cell(
        composed("model=roberta-base", f"model.path={path}", "task=glue/rte", *SHORT, "task.train.warmup_ratio=null")
    )
    assert run.train["steps"] == 2
    assert run.counts == {"trainable": 294_912, "extra_updatable": 14_155_776, "head": 592_130}
    assert len(run.predictions()) == 2


@pytest.mark.slow
def test_gpt2_medium_trains_three_steps_and_decodes_two_inputs(
    composed: Callable[..., DictConfig], gpt2_checkpoint: Path, tmp_path: Path
) -> None:
    """From a checkpoint folder in the hub's layout, with the counts of the paper's Table 1."""
    import torch
    from transformers import AutoTokenizer, GPT2LMHeadModel

    torch.manual_seed(0)
    folder = tmp_path / "gpt2-medium"
    tokenizer = AutoTokenizer.from_pretrained(gpt2_checkpoint)
    tokenizer.save_pretrained(folder)
    GPT2LMHeadModel(gpt2_medium_config(bos_token_id=0, eos_token_id=0)).save_pretrained(folder)

    run = run_cell(
        composed(
            "model=gpt2-medium",
            f"model.path={folder}",
            "scale=paper",
            "scale.require_gpu=false",
            "task.source=generated",
            "task.max_train_examples=24",
            "task.train_examples=3200",
            "task.max_test_examples=2",
            "task.train.max_steps=3",
            "task.train.warmup_steps=0",
            "task.decode.max_new_tokens=4",
            "method.start_steps=0",
        )
    )
    assert run.train["steps"] == 3
    assert run.counts == {"trainable": 393_216, "extra_updatable": 50_331_648, "head": 0}
    assert len(run.predictions()) == 2
    assert (run.path / "adapter" / "adapter_model.safetensors").stat().st_size < 10_000_000
