"""Delta-LoRA under DistributedDataParallel: two gloo processes on the CPU."""

import contextlib
import gc
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.models import llama_config
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, distributed, multiprocessing
from torch.nn.parallel import DistributedDataParallel
from transformers import LlamaForCausalLM

from delta_lora import DeltaLora

STEPS, K = 10, 3


def fresh_model() -> PeftModel:
    torch.manual_seed(0)
    options = LoraConfig(r=4, lora_alpha=16, target_modules=["q_proj", "v_proj"])
    return get_peft_model(LlamaForCausalLM(llama_config()).double(), options, autocast_adapter_dtype=False)


def batches() -> Tensor:
    """(steps, accumulation, process, sequence, token)."""
    return torch.randint(53, (STEPS, 2, 2, 3, 9), generator=torch.Generator().manual_seed(7))


def train(model: Any, delta: DeltaLora, parts: list[int]) -> None:
    """Two accumulated micro-batches a step; ``parts`` are the processes whose batches this one sees."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=1e-2, weight_decay=0.1)
    for step in batches():
        for index, micro in enumerate(step):
            tokens = torch.cat([micro[part] for part in parts])
            hold = index == 0 and isinstance(model, DistributedDataParallel)
            with model.no_sync() if hold else contextlib.nullcontext():
                (model(input_ids=tokens, labels=tokens).loss / 2).backward()
        torch.nn.utils.clip_grad_norm_(trainable, 0.1)
        optimizer.step()
        delta.step()
        optimizer.zero_grad()


def work(rank: int, port: int, anchor: Any, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    train_wrapped(rank, anchor, folder)
    gc.collect()  # a wrapper that outlives the group waits for gloo's thread, which waits for the GIL (pytorch#56297)
    distributed.destroy_process_group()


def train_wrapped(rank: int, anchor: Any, folder: str) -> None:
    wrapped = DistributedDataParallel(fresh_model())
    delta = DeltaLora(wrapped, 2.0, K, anchor=anchor)
    train(wrapped, delta, [rank])
    assert delta.belongs_to(wrapped.module)
    torch.save((wrapped.module.state_dict(), delta.state_dict()), Path(folder) / f"{rank}.pt")


@pytest.mark.parametrize("anchor", ["fold", "branch"])
def test_two_processes_end_with_the_same_weights_as_one(anchor: str, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    multiprocessing.spawn(work, args=(port, anchor, str(tmp_path)), nprocs=2)
    (first, anchors), (second, others) = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    assert all(torch.equal(entry["B"], others["layers"][name]["B"]) for name, entry in anchors["layers"].items())

    alone = fresh_model()
    delta = DeltaLora(alone, 2.0, K, anchor=anchor)
    train(alone, delta, [0, 1])
    assert delta.anchored
    for name, tensor in alone.state_dict().items():
        torch.testing.assert_close(first[name], tensor, rtol=0, atol=1e-9)
