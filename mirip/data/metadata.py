"""The metadata table: one row an image, with a path, a tier and whatever else the user keeps."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from mirip.errors import MetadataError

_PARQUET_MAGIC = b"PAR1"
_TEXT_COLUMNS = ("image_path", "filename", "tier")
_NOTHING = ["", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "<NA>", "NULL", "null", "None"]


def read_metadata(path: Path | str) -> pd.DataFrame:
    """Read a metadata table from CSV (UTF-8, with or without a byte order mark) or Parquet.

    Args:
        path: the file. Its content decides the format: Parquet files start with `PAR1`.

    Returns:
        The table in its own order, with `image_path` and `tier` as str without white space at the ends ("" where
        empty) and the other columns as read. Without `image_path`, the column `filename` takes its name.

    Raises:
        MetadataError: the file is missing, empty, not UTF-8, malformed, or lacks a column.
    """
    path = Path(path)
    table = _read_table(path)
    table.columns = pd.Index([str(name).strip() for name in table.columns])
    if not table.columns.is_unique:
        twice = ", ".join(dict.fromkeys(table.columns[table.columns.duplicated()]))
        raise MetadataError(f"{path} has more than one column named {twice}", "rename or remove one")
    if "image_path" not in table and "filename" in table:
        table = table.rename(columns={"filename": "image_path"})
    for column, accepted in (("image_path", "image_path (or filename)"), ("tier", "tier")):
        if column not in table:
            raise MetadataError(f"{path} has no column {accepted}; its columns are: {', '.join(table.columns)}")
        table[column] = table[column].map(_text)
    if table.empty:
        raise MetadataError(f"{path} has a header but no rows", "list at least one image a line")
    return table


def require_columns(metadata: pd.DataFrame, names: Iterable[str], parameter: str) -> None:
    """Check that the columns that a parameter names are there.

    Args:
        metadata: the table.
        names: column names.
        parameter: the parameter that names them, e.g. "data.group".

    Raises:
        MetadataError: a column is not in the table.
    """
    for name in names:
        if name not in metadata:
            there = ", ".join(metadata.columns)
            raise MetadataError(f"{parameter} names the column {name!r}, which the metadata lacks; it has: {there}")


def column_text(column: pd.Series) -> pd.Series:
    """Return a column as str without white space at the ends, "" for a missing value, `7` for the float 7.0.

    An integer column with holes is read as float; its values must not change their names for that.
    """
    return column.map(_text)


def _read_table(path: Path) -> pd.DataFrame:
    try:
        with path.open("rb") as stream:
            is_parquet = stream.read(4) == _PARQUET_MAGIC
        if is_parquet:
            return pd.read_parquet(path)
        header = pd.read_csv(path, encoding="utf-8-sig", nrows=0).columns
        text = [name for name in header if name.strip() in _TEXT_COLUMNS]
        return pd.read_csv(
            path,
            encoding="utf-8-sig",
            low_memory=False,
            dtype=dict.fromkeys(text, "str"),
            # A tier or a file may well be called "NA"; elsewhere that means nothing is known.
            keep_default_na=False,
            na_values=dict.fromkeys(header.drop(text), _NOTHING),
        )
    except FileNotFoundError:
        raise MetadataError(f"{path} is not found", "set data.metadata to your CSV or Parquet file") from None
    except IsADirectoryError:
        raise MetadataError(f"{path} is a folder", "set data.metadata to a CSV or Parquet file") from None
    except UnicodeDecodeError as error:
        raise MetadataError(
            f"{path} is not UTF-8 text (byte {error.object[error.start]:#04x})", "save it as CSV with UTF-8 encoding"
        ) from None
    except pd.errors.EmptyDataError:
        raise MetadataError(f"{path} is empty", "give it a header with image_path and tier") from None
    except (pd.errors.ParserError, ValueError, OSError) as error:
        raise MetadataError(f"{path} cannot be read as CSV or Parquet: {' '.join(str(error).split())}") from None


def _text(value: object) -> str:
    if value is None or value is pd.NA or value is pd.NaT:
        return ""
    if isinstance(value, float):
        if value != value:
            return ""
        return str(int(value)) if value.is_integer() else str(value)
    return str(value).strip()
