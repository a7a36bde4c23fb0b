"""Miniature pretrained models: made at first use, kept in a cache, loadable as any other Transformers checkpoint."""

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress

from delta_lora.errors import UserError
from delta_lora.folders import made_once
from delta_lora.tiny import architectures, pretrain
from delta_lora.tiny.recipes import MODELS, Recipe

_LOG = logging.getLogger(__name__)
_MANIFEST = "pretraining.json"


def checkpoint(name: str, cache_dir: Path, recipe: Recipe | None = None) -> Path:
    """The folder of a stock Transformers checkpoint of the miniature model ``name``, made if it is not there.

    The folder has ``config.json``, ``model.safetensors`` and the tokenizer's files, and is whole
    (:func:`delta_lora.folders.made_once`).

    Args:
        name: one of ``MODELS``.
        cache_dir: where checkpoints are kept, as ``NAME-KEY``.
        recipe: in place of the model's own (tests pretrain for a few steps).

    Raises:
        UserError: ``name`` is no miniature model.
    """
    if name not in MODELS:
        raise UserError(f"no miniature model {name!r}; there are {', '.join(MODELS)}")
    recipe = recipe or MODELS[name]
    return made_once(
        Path(cache_dir) / f"{name}-{recipe.key}", _MANIFEST, lambda folder: _make(recipe, folder, cache_dir)
    )


def _make(recipe: Recipe, folder: Path, cache_dir: Path) -> dict[str, Any]:
    return {"recipe": asdict(recipe), "loss": _pretrain(recipe, folder, cache_dir)}


def _pretrain(recipe: Recipe, folder: Path, cache_dir: Path) -> float | None:
    """Train the tokenizer and the model of ``recipe`` and save both to ``folder``; returns the last loss, if any."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]), Progress(transient=True) as progress:
        torch.set_num_threads(1)  # so that the weights do not depend on how many cores a machine has
        torch.manual_seed(recipe.seed)
        try:
            model, tokenizer, batches = architectures.STARTS[recipe.name](recipe)
            _LOG.warning("Making %s: once, about %d s; kept in %s", recipe.name, recipe.seconds, cache_dir)
            task = progress.add_task(f"pretraining {recipe.name}", total=recipe.steps)
            loss = pretrain.train(model, batches, recipe, lambda: progress.advance(task))
        finally:
            torch.set_num_threads(threads)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return loss
