"""Miniature pretrained models: made at first use, kept in a cache, loadable as any other Transformers checkpoint."""

import json
import logging
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import torch
from filelock import Timeout
from rich.progress import Progress

from delta_lora.errors import UserError
from delta_lora.files import locked, sha256_of
from delta_lora.tiny import architectures, pretrain
from delta_lora.tiny.pretrain import Recipe

_LOG = logging.getLogger(__name__)
_MANIFEST = "pretraining.json"

_RECIPES = (
    Recipe("gpt2-tiny", version=7, batch_size=16, length=128),
    Recipe("bart-tiny", version=3, layers=2, steps=500, length=128, bpe_documents=20_000, seconds=40),
    Recipe("roberta-tiny", version=2, vocabulary=1536, steps=0, seconds=5),
)
MODELS: dict[str, Recipe] = {recipe.name: recipe for recipe in _RECIPES}


def checkpoint(name: str, cache_dir: Path, recipe: Recipe | None = None) -> Path:
    """The folder of a stock Transformers checkpoint of the miniature model ``name``, made if it is not there.

    The folder has ``config.json``, ``model.safetensors`` and the tokenizer's files, and appears by rename when it is
    complete. Of several processes that ask at once, one makes it and the others wait. A folder whose files are not
    those that were written (by SHA-256) is set aside and made again.

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
    folder = Path(cache_dir) / f"{name}-{recipe.key}"
    if _is_complete(folder):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder.with_name(f".{folder.name}.lock")
    try:
        lock = locked(path, timeout=0)
    except Timeout:
        _LOG.warning("%s is being made by another process; waiting for it", name)
        lock = locked(path)
    try:
        if not _is_complete(folder):
            _make(recipe, folder)
    finally:
        lock.release()
    return folder


def _make(recipe: Recipe, folder: Path) -> None:
    if folder.exists():
        damaged = folder.with_name(f"{folder.name}.damaged-{time.time_ns()}")
        folder.replace(damaged)
        _LOG.warning("%s is incomplete or damaged: kept as %s, made again", folder, damaged.name)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as parent:
        start, temporary = time.monotonic(), Path(parent) / folder.name
        loss = _pretrain(recipe, temporary, folder.parent)
        files = {path.name: sha256_of(path) for path in sorted(temporary.iterdir())}
        manifest = {"recipe": asdict(recipe), "loss": loss, "files": files, "seconds": round(time.monotonic() - start)}
        (temporary / _MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        temporary.replace(folder)


def _is_complete(folder: Path) -> bool:
    try:
        files = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))["files"]
        return all(sha256_of(folder / name) == digest for name, digest in files.items())
    except (OSError, ValueError, KeyError):
        return False


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
