"""Generated data sets in the layouts of the original releases, so that one reader serves both."""

import os
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

from delta_lora.errors import UserError
from delta_lora.tiny import e2e, webnlg

DATA_VERSION = 2  # part of what names a generated data set: raise it when any generator's output changes
_GENERATORS: dict[str, tuple[str, Callable[[random.Random], dict[str, bytes]]]] = {
    "e2e": ("e2e", e2e.files),
    "webnlg": ("webnlg_challenge_2017", webnlg.files),
}
TASKS = tuple(_GENERATORS)


def write(task: str, directory: Path, seed: int = 0) -> None:
    """Write the generated data set of ``task`` under ``directory``, in the layout of the original release.

    The same ``task`` and ``seed`` give the same bytes on every machine for one ``DATA_VERSION``. Each file is placed by
    rename, so a reader never sees half of one.

    Args:
        task: one of ``TASKS``.
        directory: the data directory; the task's own folder (``e2e/`` …) is made in it.
        seed: of the generator; another seed is another data set.

    Raises:
        UserError: ``task`` has no generator.
    """
    if task not in _GENERATORS:
        raise UserError(f"no generated data set for task {task!r}; there is one for {', '.join(TASKS)}")
    folder, generate = _GENERATORS[task]
    for name, content in sorted(generate(random.Random(f"{task}/{seed}")).items()):
        place(Path(directory) / folder / name, content)


def place(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``, complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    Path(temporary).chmod(0o644)
    Path(temporary).replace(path)
