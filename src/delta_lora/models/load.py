"""Models and tokenizers: from the hub, from a folder, or made by the project; GPT-2 with its projections split."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from omegaconf import DictConfig
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BartConfig,
    GPT2Config,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    RobertaConfig,
)

from delta_lora.errors import UserError
from delta_lora.hub import from_hub
from delta_lora.models.checkpoint import MEND, check_checkpoint
from delta_lora.models.folder import local_digest, local_folder
from delta_lora.models.gpt2 import one_kernel_gelu, split_attention
from delta_lora.models.hub import cached_folder, hub_files
from delta_lora.models.package import package_checkpoint, package_of
from delta_lora.models.settings import dropout_fields

CLASSES = {
    "causal": AutoModelForCausalLM,
    "seq2seq": AutoModelForSeq2SeqLM,
    "classification": AutoModelForSequenceClassification,
}

# The paper's models as published, by their name on the hub: their sizes are known without a network.
PUBLISHED: dict[str, Callable[[], PretrainedConfig]] = {
    "openai-community/gpt2-medium": lambda: GPT2Config(n_embd=1024, n_layer=24, n_head=16),
    "FacebookAI/roberta-base": lambda: RobertaConfig(vocab_size=50265, max_position_embeddings=514, type_vocab_size=1),
    "facebook/bart-large": BartConfig,
}


def source(model: DictConfig, cache_dir: Path) -> dict[str, Any]:
    """Where a model comes from, as the first arguments of ``from_pretrained``: a folder, checked, no code of its own.

    Args:
        model: the ``model`` configuration group; ``path`` null means a package's model, or a tiny one that the project
            makes (fetched, or pretrained, at first use, then cached).

    Raises:
        UserError: ``path`` looks like a folder and is none, or :func:`check_checkpoint` refuses it.
    """
    folder = checkpoint_folder(model, cache_dir)
    check_checkpoint(folder)
    return {"pretrained_model_name_or_path": str(folder), "trust_remote_code": False}


def checkpoint_folder(model: DictConfig, cache_dir: Path) -> Path:
    """The folder of a model's checkpoint: made here, from a package, the user's own, or in the hub's cache."""
    if (package := package_of(model)) is not None:
        return package_checkpoint(model, package, cache_dir)
    if model.path is None:
        from delta_lora.tiny import models as tiny

        return tiny.checkpoint(model.name, cache_dir / "tiny-models")
    if (folder := local_folder(model)) is not None:
        return folder
    if Path(str(model.path)).is_absolute() or str(model.path).startswith((".", "~")):
        raise UserError(f"model.path={model.path} is no folder; give a folder with a checkpoint or a hub name")
    return from_hub(hub_files(model))


def load_config(model: DictConfig, cache_dir: Path, **overrides: Any) -> PretrainedConfig:
    """The model's Transformers configuration, with fields overridden."""
    return guarded(model, AutoConfig.from_pretrained, **source(model, cache_dir), **overrides)


def check_config(model: DictConfig, cache_dir: Path, dropouts: Mapping[str, float]) -> PretrainedConfig:
    """The model's Transformers configuration with the task's dropout probabilities, held against its settings.

    Args:
        model: the ``model`` configuration group.
        cache_dir: where tiny models are made.
        dropouts: ``task.train.dropouts``, by names that all models share.

    Raises:
        UserError: ``model.hidden_size`` is not the model's, or ``model.dropouts`` names a field that it has none of.
    """
    config, fields = load_config(model, cache_dir), dropout_fields(model, dropouts)
    width = config.get_text_config().hidden_size
    if width != model.hidden_size:
        raise UserError(f"model.hidden_size={model.hidden_size}, but {model.name} has {width}; correct it")
    unknown = [name for name in fields if not hasattr(config, name)]
    if unknown:
        raise UserError(
            f"model.dropouts names {', '.join(unknown)}, and the {config.model_type} configuration has no such field; "
            "correct it"
        )
    config.update(fields)
    return config


def load_tokenizer(model: DictConfig, cache_dir: Path) -> PreTrainedTokenizerBase:
    """The model's tokenizer; where it has no padding token, as GPT-2's, its end-of-text token is taken for it.

    Raises:
        UserError: it lacks a token that the model's kind needs (the end of a text, for one that generates; padding),
            or has tokens that the model has no embedding for.
    """
    tokenizer = guarded(model, AutoTokenizer.from_pretrained, **source(model, cache_dir))
    if model.kind != "classification" and tokenizer.eos_token is None:
        raise UserError(f"the tokenizer of {model.name} has no eos_token, which ends a text; use another checkpoint")
    config = load_config(model, cache_dir).get_text_config()
    if len(tokenizer) > config.vocab_size:
        raise UserError(
            f"the tokenizer of {model.name} has {len(tokenizer)} tokens, the model {config.vocab_size}: they do not "
            "belong together"
        )
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise UserError(f"the tokenizer of {model.name} has no pad_token and no eos_token; use another checkpoint")
        tokenizer.pad_token = tokenizer.eos_token
    if getattr(config, "type_vocab_size", 2) < 2:  # one segment: the model has no embedding for a second
        tokenizer.model_input_names = [name for name in tokenizer.model_input_names if name != "token_type_ids"]
    return tokenizer


def load_model(model: DictConfig, cache_dir: Path, dropouts: Mapping[str, float], **overrides: Any) -> PreTrainedModel:
    """The model in float32 with the task's dropout probabilities, GPT-2's fused projection split in three.

    Only safetensors weights are read, and all that the model has but its head must be in them.

    Args:
        model: the ``model`` configuration group.
        cache_dir: where tiny models are made.
        dropouts: ``task.train.dropouts``, as for :func:`check_config`.
        overrides: further fields of the Transformers configuration (``num_labels`` …).
    """
    import torch

    check_config(model, cache_dir, dropouts)
    loaded, found = guarded(
        model,
        CLASSES[model.kind].from_pretrained,
        **source(model, cache_dir),
        **dropout_fields(model, dropouts),
        **overrides,
        dtype=torch.float32,
        use_safetensors=True,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # told below, in one line
    )
    check_loaded(model, loaded, found)
    if model.path is not None:
        loaded.name_or_path = loaded.config.name_or_path = str(model.path)  # what an adapter names as its base
    return split_attention(one_kernel_gelu(loaded)) if loaded.config.model_type == "gpt2" else loaded


def check_loaded(model: DictConfig, loaded: PreTrainedModel, found: Mapping[str, Any]) -> None:
    """Everything but a new head came from the checkpoint: Transformers would draw the rest at random.

    Raises:
        UserError: it did not.
    """
    absent = [*found["missing_keys"], *(name for name, *_ in found["mismatched_keys"])]
    needed = {name for name, _ in loaded.named_parameters() if not set(name.split(".")) & set(model.head_modules)}
    if lacking := sorted(needed.intersection(absent)):
        raise UserError(
            f"the weights of {model.name} do not fit its config.json: {len(lacking)} tensors are missing or of another "
            f"size, for one {lacking[0]}; use a checkpoint whose files belong together"
        )


def random_model(kind: str, config: PretrainedConfig, **overrides: Any) -> PreTrainedModel:
    """A model of this architecture with random weights, GPT-2's fused projection split in three.

    Args:
        kind: "causal", "seq2seq" or "classification".
        config: its Transformers configuration, such as one of `PUBLISHED`.
        overrides: fields of it to set (dropout probabilities, ``num_labels`` …).
    """
    config.update(overrides)
    model = CLASSES[kind].from_config(config)
    return split_attention(one_kernel_gelu(model)) if config.model_type == "gpt2" else model


def resolved_revision(model: DictConfig) -> str | None:
    """Where a model's weights came from: the hub's commit, the package and its version, or the digest of a folder.

    None for a tiny model.
    """
    if (package := package_of(model)) is not None:
        return f"{package.name} {package.version}"
    if model.path is None:
        return None
    if (digest := local_digest(model)) is not None:
        return f"local, {digest}"
    found = cached_folder(model)
    return None if found is None else found.name


def guarded(model: DictConfig, call: Any, **arguments: Any) -> Any:
    """Call a ``from_pretrained`` and turn what it says of the files that it was given into a UserError.

    The files are whole (:func:`check_checkpoint`), but what they say can still be nonsense: an unknown ``model_type``,
    a size that is no number. Transformers has no exception of its own for that.
    """
    try:
        return call(**arguments)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ZeroDivisionError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"could not load model {model.name} from {arguments['pretrained_model_name_or_path']}: {reason}; {MEND}"
        ) from error
