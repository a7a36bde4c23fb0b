"""Generated data sets in the layouts of the original releases, so that one reader serves both."""

import io
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from delta_lora.errors import UserError
from delta_lora.files import write_whole
from delta_lora.tiny import e2e, glue, webnlg, xsum


def _parquet(tables: Callable[[random.Random], dict[str, dict[str, Any]]], rng: random.Random) -> dict[str, bytes]:
    """One file a split, with its table's columns. The settings that decide its bytes are all fixed."""
    files = {}
    for split, columns in tables(rng).items():
        buffer, table = io.BytesIO(), pyarrow.table(columns)
        pyarrow.parquet.write_table(
            table, buffer, row_group_size=len(table), version="2.6", data_page_version="1.0", use_dictionary=False,
            compression="none", write_statistics=False, store_schema=False,
        )  # fmt: skip
        files[f"{split}-00000-of-00001.parquet"] = buffer.getvalue()
    return files


# task → its folder in data_dir, its generator, and the generator's version: raise it when the output changes
_GENERATORS: dict[str, tuple[str, Callable[[random.Random], dict[str, bytes]], int]] = {
    "e2e": ("e2e", e2e.files, 4),
    "webnlg": ("webnlg_challenge_2017", webnlg.files, 3),
    "xsum": ("xsum", partial(_parquet, xsum.tables), 3),
    **{f"glue/{name}": (f"glue/{name}", partial(_parquet, partial(glue.tables, name)), 2) for name in glue.TASKS},
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
    """The version of the generator of ``task``: part of what names its data, and of the keys of the runs on them."""
    return _generator(task)[2]


def _generator(task: str) -> tuple[str, Callable[[random.Random], dict[str, bytes]], int]:
    if task not in _GENERATORS:
        raise UserError(f"no generated data set for task {task!r}; there is one for {', '.join(TASKS)}")
    return _GENERATORS[task]
