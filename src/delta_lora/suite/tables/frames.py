"""The rendered CSV files as data frames: what figures and notebooks are made from."""

from io import StringIO

import pandas as pd


def read_csv(text: str) -> pd.DataFrame:
    """A rendered file, every cell the text as written: "" where there is nothing."""
    return pd.read_csv(StringIO(text), dtype=str, keep_default_na=False)


def numbers(frame: pd.DataFrame, column: str) -> pd.Series:
    """A column as floats, NaN where it is empty or has no number."""
    return pd.to_numeric(frame[column], errors="coerce").astype(float)
