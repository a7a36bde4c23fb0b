"""A model in a folder of the user's: where it is, and what its files hold, which is part of a run's key."""

from pathlib import Path
from typing import Any

from delta_lora.errors import UserError
from delta_lora.files import digest_of, known_sha256
from delta_lora.places import place

# What Transformers reads of a checkpoint's folder: configurations, safetensors, and every kind of tokenizer.
READ = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "*.tiktoken")


def local_folder(model: Any) -> Path | None:
    """The folder that ``model.path`` names; None where it is null, a hub name, or no folder that is here.

    Args:
        model: :class:`delta_lora.models.settings.ModelSettings`, or the ``model`` configuration group.
    """
    if model.path is None:
        return None
    path = place("model.path", model.path)
    try:
        return path if path.is_dir() else None
    except OSError:  # a name that no file system takes
        return None


def local_digest(model: Any) -> str | None:
    """A digest of the names and contents of what is read of a model's folder; None where it has none.

    A file is read once a process while it keeps its size and time.

    Raises:
        UserError: one of them cannot be read.
    """
    folder = local_folder(model)
    if folder is None:
        return None
    try:
        files = {path.name for pattern in READ for path in folder.glob(pattern) if not path.is_dir()}
        return digest_of({name: known_sha256(folder / name) for name in files})
    except OSError as error:
        raise UserError(f"model.path={model.path} cannot be read ({error}); give a folder with a checkpoint") from error
