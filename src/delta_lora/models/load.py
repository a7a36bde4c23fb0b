"""Models and tokenizers: from the hub, from a folder, or made by the project; GPT-2 with its projections split."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from delta_lora.errors import UserError
from delta_lora.models.gpt2 import split_attention

CLASSES = {
    "causal": AutoModelForCausalLM,
    "seq2seq": AutoModelForSeq2SeqLM,
    "classification": AutoModelForSequenceClassification,
}


# What a model is loaded from; a repository may hold the same weights for other frameworks too.
FILES = (
    "config.json",
    "generation_config.json",
    "model*.safetensors*",
    "tokenizer*.json",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
)


def source(model: DictConfig, cache_dir: Path) -> dict[str, Any]:
    """Where a model comes from, as the first arguments of ``from_pretrained``.

    Args:
        model: the ``model`` configuration group; ``path`` null means a tiny model that the project makes
            (pretrained at first use, then cached).

    Raises:
        UserError: ``path`` looks like a folder and is none.
    """
    if model.path is None:
        from delta_lora.tiny import models as tiny

        return {"pretrained_model_name_or_path": str(tiny.checkpoint(model.name, cache_dir / "tiny-models"))}
    path = Path(str(model.path)).expanduser()
    if path.is_dir():
        return {"pretrained_model_name_or_path": str(path)}
    if path.is_absolute() or str(model.path).startswith((".", "~")):
        raise UserError(f"model.path={model.path} is no folder; give a folder with a checkpoint or a hub name")
    return {"pretrained_model_name_or_path": model.path, "revision": model.revision}


def load_config(model: DictConfig, cache_dir: Path, **overrides: Any) -> PretrainedConfig:
    """The model's Transformers configuration, with fields overridden."""
    return guarded(model, AutoConfig.from_pretrained, **source(model, cache_dir), **overrides)


def load_tokenizer(model: DictConfig, cache_dir: Path) -> PreTrainedTokenizerBase:
    """The model's tokenizer; GPT-2's has no padding token and gets its end-of-text token for it."""
    tokenizer = guarded(model, AutoTokenizer.from_pretrained, **source(model, cache_dir))
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(model: DictConfig, cache_dir: Path, dropouts: Mapping[str, float], **overrides: Any) -> PreTrainedModel:
    """The model in float32 with the task's dropout probabilities, GPT-2's fused projection split in three.

    Only safetensors weights are read.

    Args:
        model: the ``model`` configuration group.
        cache_dir: where tiny models are made.
        dropouts: Transformers' names (``resid_pdrop``, ``dropout`` …) → probability.
        overrides: further fields of the Transformers configuration (``num_labels`` …).
    """
    import torch

    config = load_config(model, cache_dir)
    if config.hidden_size != model.hidden_size:
        raise UserError(f"model.hidden_size={model.hidden_size}, but {model.name} has {config.hidden_size}; correct it")
    unknown = [name for name in dropouts if not hasattr(config, name)]
    if unknown:
        raise UserError(
            f"task.train.dropouts names {', '.join(unknown)}, which the {config.model_type} configuration has not"
        )
    loaded = guarded(
        model,
        CLASSES[model.kind].from_pretrained,
        **source(model, cache_dir),
        **dropouts,
        **overrides,
        dtype=torch.float32,
        use_safetensors=True,
    )
    return split_attention(loaded) if loaded.config.model_type == "gpt2" else loaded


def resolved_revision(model: DictConfig) -> str | None:
    """The commit that the hub's name resolved to when the model was loaded; None for a folder or a tiny model."""
    from huggingface_hub import try_to_load_from_cache

    if model.path is None or Path(str(model.path)).expanduser().is_dir():
        return None
    found = try_to_load_from_cache(model.path, "config.json", revision=model.revision)
    return Path(found).parent.name if isinstance(found, str) else None


def guarded(model: DictConfig, call: Any, **arguments: Any) -> Any:
    """Call a ``from_pretrained`` and turn what a user can mend into a UserError."""
    try:
        return call(**arguments)
    except OSError as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"could not load model {model.name} from {arguments['pretrained_model_name_or_path']}: {reason}; "
            "without internet, set model.path to a folder with its checkpoint or HF_HOME to a filled hub cache"
        ) from error
