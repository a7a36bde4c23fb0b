"""Full-size models, random weights, on the CPU: the paper-scale path without the paper's knowledge (make test-slow)."""

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from delta_lora.suite.cell import run_cell


@pytest.mark.slow
def test_gpt2_medium_trains_three_steps_and_decodes_two_inputs(
    composed: Callable[..., DictConfig], gpt2_checkpoint: Path, tmp_path: Path
) -> None:
    """From a checkpoint folder in the hub's layout, with the counts of the paper's Table 1."""
    import torch
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    folder = tmp_path / "gpt2-medium"
    tokenizer = AutoTokenizer.from_pretrained(gpt2_checkpoint)
    tokenizer.save_pretrained(folder)
    size = {"n_embd": 1024, "n_layer": 24, "n_head": 16, "bos_token_id": 0, "eos_token_id": 0}
    GPT2LMHeadModel(GPT2Config(**size)).save_pretrained(folder)

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
