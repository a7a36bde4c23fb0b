"""Miniature pretrained models: made at first use, kept in a cache, loadable as any other Transformers checkpoint."""

import json
import logging
import shutil
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


MODELS: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("gpt2-tiny", version=6, batch_size=16, length=128),
        Recipe("bart-tiny", version=3, layers=2, steps=500, length=128, seconds=40),
        Recipe("roberta-tiny", version=2, vocabulary=1536, steps=0, bpe_documents=5000, seconds=5),
    )
}


def checkpoint(name: str, cache_dir: Path, recipe: Recipe | None = None) -> Path:
    """The folder of a stock Transformers checkpoint of the miniature model ``name``, made if it is not there.

    The folder has ``config.json``, ``model.safetensors`` and the tokenizer's files, and appears by rename when it is
    complete. Of several processes that ask at once, one makes it and the others wait. A folder whose files are not
    those that were written (by size and SHA-256) is set aside and made again.

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
    cache_dir = Path(cache_dir)
    folder = cache_dir / f"{name}-{recipe.key}"
    if _is_complete(folder):
        return folder
    cache_dir.mkdir(parents=True, exist_ok=True)
    path = cache_dir / f".{folder.name}.lock"
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
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        started = time.monotonic()
        loss = _pretrain(recipe, temporary)
        files = {path.name: sha256_of(path) for path in sorted(temporary.iterdir())}
        seconds = round(time.monotonic() - started, 1)
        manifest = {"recipe": asdict(recipe), "loss": loss, "seconds": seconds, "files": files}
        (temporary / _MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        temporary.chmod(0o755)
        temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _is_complete(folder: Path) -> bool:
    try:
        files = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))["files"]
        return all(sha256_of(folder / name) == digest for name, digest in files.items())
    except (OSError, ValueError, KeyError):
        return False


def _pretrain(recipe: Recipe, folder: Path) -> float | None:
    """Train the tokenizer and the model of ``recipe`` and save both to ``folder``; returns the last loss, if any."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]), Progress(transient=True) as progress:
        torch.set_num_threads(1)  # so that the weights do not depend on how many cores a machine has
        torch.manual_seed(recipe.seed)
        try:
            model, tokenizer, batches = architectures.STARTS[recipe.name](recipe)
            millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
            _LOG.warning(
                "Making %s (%.1f M parameters): once, about %d s; kept in %s",
                recipe.name, millions, recipe.seconds, folder.parent,
            )  # fmt: skip
            task = progress.add_task(f"pretraining {recipe.name}", total=recipe.steps)
            loss = pretrain.train(model, batches, recipe.steps, recipe.learning_rate, lambda: progress.advance(task))
        finally:
            torch.set_num_threads(threads)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return loss
