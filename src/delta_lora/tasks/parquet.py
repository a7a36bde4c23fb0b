"""Parquet data sets: from a local folder, or from the hub through its client (its cache, its offline mode)."""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import pandas as pd

from delta_lora.errors import UserError
from delta_lora.tasks.base import sha256_of
from delta_lora.tasks.files import HubFiles


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


def read(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """The columns of one file.

    Raises:
        UserError: it is no parquet file, or lacks a column.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        present = pyarrow.parquet.read_schema(path).names
        missing = [name for name in columns if name not in present]
        if missing:
            raise UserError(f"{path} has no column {', '.join(missing)}; its columns are {', '.join(present)}")
        return pd.read_parquet(path, columns=list(columns))
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path} cannot be read as parquet ({' '.join(str(error).split())})") from error


def read_split(files: Sequence[Path], columns: Sequence[str]) -> pd.DataFrame:
    """All parts of a split, one after the other."""
    return pd.concat([read(path, columns) for path in files], ignore_index=True)


def from_hub(files: HubFiles) -> Path:
    """The snapshot folder with the files; downloaded by the hub's client, or found in its cache.

    Raises:
        UserError: the hub cannot be reached and the cache has no such snapshot.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(
                files.repository,
                repo_type=files.kind,
                revision=files.revision,
                allow_patterns=list(files.patterns),
            )
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(
            f"could not load {files.repository} at {files.revision} from the hub: {' '.join(str(error).split())}; on "
            "a machine without internet, set data_dir or DELTA_LORA_DATA (docs/data.md), or HF_HOME to a filled cache"
        ) from error


def digest(files: Sequence[Path]) -> str:
    """SHA-256 over the files' own, in order."""
    return sha256("".join(sha256_of(path) for path in files).encode()).hexdigest()
