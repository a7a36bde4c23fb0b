"""Parquet data sets: the files of a split, checked and read."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from delta_lora.errors import UserError

if TYPE_CHECKING:  # pandas and pyarrow are loaded where a file is read
    import pandas as pd

LABEL = "label"  # the column with numbers


def local_files(folder: Path, split: str) -> list[Path]:
    """The parts of one split, in the hub's own naming: ``<split>-00000-of-00001.parquet``."""
    return sorted(folder.glob(f"{split}-*.parquet"))


def check_local(folder: Path, splits: Sequence[str], columns: Sequence[str]) -> None:
    """A local folder has every split, and each file the columns.

    Raises:
        UserError: the first file or column that is missing, or a file that is no parquet.
    """
    for split in splits:
        files = local_files(folder, split)
        if not files:
            raise UserError(
                f"data_dir has no {split} split: looked for {folder}/{split}-*.parquet; point data_dir or "
                "DELTA_LORA_DATA at a folder in the layout of docs/data.md, or unset it to download"
            )
        for path in files:
            read(path, columns)


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
                raise UserError(
                    f"{path}: the column {name} must hold {'numbers' if name == LABEL else 'text'} in every row, it is "
                    f"{column.type} with {column.null_count} empty rows"
                )
        return table.replace_schema_metadata(None).to_pandas()  # what pandas has noted of itself is not needed
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as parquet ({' '.join(str(error).split())})") from error


def read_split(files: Sequence[Path], columns: Sequence[str]) -> "pd.DataFrame":
    """All parts of a split, one after the other.

    Raises:
        UserError: as :func:`read`, or there is no file, or no row in them.
    """
    import pandas as pd

    if not files:
        raise UserError("a split that the task reads has no file; correct its names in the task's configuration")
    table = pd.concat([read(path, columns) for path in files], ignore_index=True)
    if table.empty:
        raise UserError(f"{files[0].parent} has no row in {', '.join(path.name for path in files)}")
    return table
