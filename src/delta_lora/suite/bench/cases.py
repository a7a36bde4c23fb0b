"""What the benchmark measures: models of full size under each method, and batches as long as E2E's."""

from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor

from delta_lora.methods.base import Method, Schedule
from delta_lora.models.load import PUBLISHED, random_model
from delta_lora.models.settings import ModelSettings
from delta_lora.settings import checked
from delta_lora.suite.config.cell import model_spec
from delta_lora.suite.config.compose import CONFIGS
from delta_lora.suite.plan.timing import Session

BASELINE = "lora"
METHODS: dict[str, list[str]] = {
    "full": ["method=full"],
    "ft-qv": ["method=ft-qv"],
    "lora": ["method=lora", "method.dropout=0"],
    "dylora": ["method=dylora", "method.dropout=0"],
    "adalora": ["method=adalora", "method.dropout=0"],
    "delta-lora (literal)": ["method=delta-lora", "method.literal=true"],
    "delta-lora (folded)": ["method=delta-lora"],
}
# The name on the hub, and the task whose settings the method is composed with.
MODELS: dict[str, tuple[str, str]] = {
    "gpt2-medium": ("openai-community/gpt2-medium", "e2e"),
    "roberta-base": ("FacebookAI/roberta-base", "glue/mnli"),
    "bart-large": ("facebook/bart-large", "xsum"),
}
DROPOUTS = ("resid_pdrop", "embd_pdrop", "attn_pdrop", "dropout", "hidden_dropout_prob", "attention_probs_dropout_prob")


def start(model_name: str, method_name: str, device: str) -> Session:
    """A model of full size under one method, ready to be stepped."""
    path, task = MODELS[model_name]
    overrides = [f"model={model_name}", f"task={task}", *METHODS[method_name]]
    with initialize_config_dir(str(CONFIGS), version_base=None):
        config = compose("train", overrides=overrides)
    method: Method = instantiate(OmegaConf.create(OmegaConf.to_container(config.method, resolve=True))).at_full_cost()
    torch.manual_seed(0)
    network = PUBLISHED[path]()
    dropouts = {name: 0.0 for name in DROPOUTS if hasattr(network, name)}
    plain: Any = random_model(config.model.kind, network, **dropouts, num_labels=3)
    spec = model_spec(checked(ModelSettings, config.model, "model"))
    prepared = method.prepare(plain.to(device), spec, Schedule(total_steps=1000, warmup_steps=0))
    return Session(prepared, method, bf16=device == "cuda")


def batches(model_name: str, count: int, size: int, device: str) -> list[dict[str, Tensor]]:
    """Random tokens in E2E's lengths (mean 55, 99th percentile 86, at most 117), padded to the longest of the batch."""
    generator = torch.Generator().manual_seed(1)
    made = []
    for _ in range(count):
        lengths = (55 + 13 * torch.randn(size, generator=generator)).long().clamp(20, 117)
        mask = (torch.arange(int(lengths.max())) < lengths[:, None]).long()
        tokens = torch.randint(5, 50000, mask.shape, generator=generator)
        labels = tokens.masked_fill(mask == 0, -100)
        if model_name == "roberta-base":
            labels = torch.randint(3, (size,), generator=generator)
        batch = {"input_ids": tokens, "attention_mask": mask, "labels": labels}
        made.append({name: tensor.to(device) for name, tensor in batch.items()})
    return made
