"""Miniature models with random weights, and a short real Trainer run, for the tests of the methods."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    GPT2LMHeadModel,
    PreTrainedModel,
    RobertaConfig,
    RobertaForSequenceClassification,
    Trainer,
    TrainingArguments,
)

from delta_lora.methods.base import Method, ModelSpec, Schedule
from delta_lora.models.gpt2 import split_attention
from helpers.models import bart_config, gpt2_config, gpt2_medium_config, roberta_config

GPT2 = ModelSpec("gpt2", "causal", ("q_proj", "v_proj"), ("wte", "wpe"))
ROBERTA = ModelSpec(
    "roberta",
    "classification",
    ("query", "value"),
    ("word_embeddings", "position_embeddings"),
    ("classifier",),
)
BART = ModelSpec("bart", "seq2seq", ("q_proj", "v_proj"), ("shared", "embed_positions"))
SPECS = {"gpt2": GPT2, "roberta": ROBERTA, "bart": BART}
VOCABULARY = 50
SCHEDULE = Schedule(total_steps=100, warmup_steps=0)


def real_model(family: str) -> PreTrainedModel:
    """gpt2-medium, roberta-base or bart-large from its published configuration, without its weights."""
    with torch.device("meta"):
        if family == "gpt2":
            return split_attention(GPT2LMHeadModel(gpt2_medium_config()))
        if family == "roberta":
            return RobertaForSequenceClassification(
                RobertaConfig(vocab_size=50265, max_position_embeddings=514, type_vocab_size=1, num_labels=2)
            )
        return BartForConditionalGeneration(BartConfig())


def stock_model(family: str, seed: int = 0) -> PreTrainedModel:
    """Two layers, width 32, no dropout, stock; with weights of size 0.2, so that logits differ clearly."""
    torch.manual_seed(seed)
    if family == "gpt2":
        config: Any = gpt2_config(
            vocab_size=VOCABULARY, n_head=2, bos_token_id=0, eos_token_id=0, initializer_range=0.2
        )
        return GPT2LMHeadModel(config).eval()
    if family == "roberta":
        config = roberta_config(vocab_size=VOCABULARY, max_position_embeddings=40, initializer_range=0.2)
        config.update({"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0})
        return RobertaForSequenceClassification(config).eval()
    config = bart_config(vocab_size=VOCABULARY, max_position_embeddings=40, init_std=0.2, dropout=0.0)
    return BartForConditionalGeneration(config).eval()


def model_for(family: str, seed: int = 0) -> PreTrainedModel:
    """:func:`stock_model` as the suite loads it: GPT-2 with its projection split."""
    model = stock_model(family, seed)
    return split_attention(model) if family == "gpt2" else model


def examples(family: str = "gpt2", count: int = 64) -> list[dict[str, Tensor]]:
    """Random token sequences of equal length with labels to learn by heart."""
    generator = torch.Generator().manual_seed(5)
    tokens = torch.randint(4, VOCABULARY, (count, 12), generator=generator)
    labels = torch.randint(3, (count,), generator=generator) if family == "roberta" else tokens
    return [{"input_ids": x, "labels": y} for x, y in zip(tokens, labels, strict=True)]


def logits(model: Any, family: str = "gpt2") -> Tensor:
    """Logits on four of the examples, in evaluation mode."""
    model.eval()
    batch = torch.stack([example["input_ids"] for example in examples(family)[:4]])
    extra = {"decoder_input_ids": batch} if family == "bart" else {}
    with torch.no_grad():
        return model(input_ids=batch, **extra).logits


def trainer_for(method: Method, family: str, folder: Path, steps: int, **arguments: Any) -> Trainer:
    """A real Trainer around a freshly prepared miniature model."""
    model = method.prepare(model_for(family), SPECS[family], Schedule(steps, 0))
    settings: dict[str, Any] = {
        "per_device_train_batch_size": 8,
        "learning_rate": 1e-2,
        "weight_decay": 0.1,
        "max_grad_norm": 0.0,
        "save_strategy": "no",
        "seed": 3,
    } | arguments
    return Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(folder), max_steps=steps, use_cpu=True, report_to=[], disable_tqdm=True, **settings
        ),
        train_dataset=examples(family),
        callbacks=method.callbacks(),
    )


def factors_of(model: torch.nn.Module) -> dict[str, Tensor]:
    """Copies of everything trainable, by name."""
    return {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
