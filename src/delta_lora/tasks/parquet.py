"""Parquet data sets: the files of a split, checked and read."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from delta_lora.errors import UserError
from delta_lora.tasks.settings import HubFileSettings, TaskSettings

if TYPE_CHECKING:  # pandas and pyarrow are loaded where a file is read
    import pandas as pd

LABEL = "label"  # the column with numbers


def local_files(folder: Path, split: str) -> list[Path]:
    """The parts of one split, in the hub's own naming: ``<split>-00000-of-00001.parquet``."""
    return sorted(folder.glob(f"{split}-*.parquet"))


def check_local(folder: Path, splits: Sequence[str]) -> None:
    """A local folder has every split.

    Raises:
        UserError: the first that is missing.
    """
    for split in splits:
        if not local_files(folder, split):
            raise UserError(
                f"data_dir has no {split} split: looked for {folder}/{split}-*.parquet; point data_dir or "
                "DELTA_LORA_DATA at a folder in the layout of docs/data.md, or unset it to download"
            )


class EmptyTexts(NamedTuple):
    """How many texts of a split's columns may be empty: where it is the whole release's, which has ``rows`` rows."""

    rows: int
    columns: Mapping[str, int]


def empty_texts(settings: TaskSettings, split: str) -> EmptyTexts:
    """What the task's configuration says of the release."""
    files = settings.files
    found = files.empty.get(split, {}) if isinstance(files, HubFileSettings) else {}
    return EmptyTexts(settings.train_examples if split == "train" else settings.test_examples, found)


def read(path: Path, columns: Sequence[str]) -> "pd.DataFrame":
    """The columns of one file.

    Raises:
        UserError: it is no parquet file, lacks a column, or has one of another kind: `LABEL` holds numbers, all others
            text, and no cell is empty.
    """
    import pyarrow
    import pyarrow.parquet
    from pyarrow import types

    numbers, texts = (types.is_integer, types.is_floating), (types.is_string, types.is_large_string)
    try:
        file = pyarrow.parquet.ParquetFile(path, page_checksum_verification=True)
        present = file.schema_arrow.names
        missing = [name for name in columns if present.count(name) != 1]
        if missing:
            raise UserError(f"{path} has no column {', '.join(missing)}; its columns are {', '.join(present)}")
        table = file.read(columns=list(columns))
        table.validate(full=True)  # text that is UTF-8, offsets within it
        for name in columns:
            column = table[name]
            good = numbers if name == LABEL else texts
            if not any(is_kind(column.type) for is_kind in good) or column.null_count:
                first = f", the first is row {column.is_null().index(True).as_py()}" if column.null_count else ""
                raise UserError(
                    f"{path}: the column {name} must hold {'numbers' if name == LABEL else 'text'} in every row, it is "
                    f"{column.type} with {column.null_count} empty rows{first}"
                )
        return table.replace_schema_metadata(None).to_pandas()  # what pandas has noted of itself is not needed
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as parquet ({' '.join(str(error).split())})") from error


def read_split(files: Sequence[Path], columns: Sequence[str], allowed: EmptyTexts) -> "pd.DataFrame":
    """All parts of a split, one after the other.

    Raises:
        UserError: as :func:`read`, or there is no file, no row in them, or a text that is empty and not ``allowed``.
    """
    import pandas as pd

    if not files:
        raise UserError("a split that the task reads has no file; correct its names in the task's configuration")
    parts = [read(path, columns) for path in files]
    table = pd.concat(parts, ignore_index=True)
    if table.empty:
        raise UserError(f"{files[0].parent} has no row in {', '.join(path.name for path in files)}")
    for name in (name for name in columns if name != LABEL):
        empty = [
            (path, row)
            for path, part in zip(files, parts, strict=True)
            for row in (part[name].str.strip() == "").to_numpy().nonzero()[0]
        ]
        if len(empty) > (allowed.columns.get(name, 0) if len(table) == allowed.rows else 0):
            path, row = empty[0]
            raise UserError(f"{path}, row {row}: the {name} is empty; remove the row or replace the file")
    return table
