"""Generated data sets in the layouts of the original releases, so that one reader serves both."""

import random
from collections.abc import Callable
from pathlib import Path

from delta_lora.errors import UserError
from delta_lora.files import write_whole
from delta_lora.tiny import e2e, glue, webnlg, xsum

# task → its folder in data_dir, its generator, and the generator's version: raise it when the output changes
_GENERATORS: dict[str, tuple[str, Callable[[random.Random], dict[str, bytes]], int]] = {
    "e2e": ("e2e", e2e.files, 2),
    "webnlg": ("webnlg_challenge_2017", webnlg.files, 2),
    "xsum": ("xsum", xsum.files, 2),
    **{f"glue/{name}": (f"glue/{name}", glue.generator(name), 1) for name in glue.TASKS},
}
TASKS = tuple(_GENERATORS)


def write(task: str, directory: Path, seed: int = 0) -> None:
    """Write the generated data set of ``task`` under ``directory``, in the layout of the original release.

    The same ``task`` and ``seed`` give the same bytes on every machine for one :func:`version`. Each file is placed by
    rename, so a reader never sees half of one.

    Args:
        task: one of ``TASKS``.
        directory: the data directory; the task's own folder (``e2e/`` …) is made in it.
        seed: of the generator; another seed is another data set.

    Raises:
        UserError: ``task`` has no generator.
    """
    folder, generate, _ = _generator(task)
    for name, content in sorted(generate(random.Random(f"{task}/{seed}")).items()):
        write_whole(Path(directory) / folder / name, content)


def version(task: str) -> int:
    """The version of the generator of ``task``: part of what names its data, and of the keys of the runs on them.

    Raises:
        UserError: ``task`` has no generator.
    """
    return _generator(task)[2]


def _generator(task: str) -> tuple[str, Callable[[random.Random], dict[str, bytes]], int]:
    if task not in _GENERATORS:
        raise UserError(f"no generated data set for task {task!r}; there is one for {', '.join(TASKS)}")
    return _GENERATORS[task]
