"""A hand-written training loop under DistributedDataParallel, in a module that its processes can import."""

import contextlib
import gc
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, distributed
from torch.nn.parallel import DistributedDataParallel
from transformers import LlamaForCausalLM

from delta_lora import DeltaLora
from helpers.models import llama_config

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
