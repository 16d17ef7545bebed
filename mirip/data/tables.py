"""Tables that stages write: Parquet for each other, CSV for people; whole, with deterministic bytes, clear errors."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mirip.errors import DataError
from mirip.files import write_bytes, write_text


def write_table(path: Path | str, table: pd.DataFrame) -> None:
    """Write a table as Parquet, atomically; equal tables give equal bytes.

    Raises:
        DataError: a column holds values of mixed types, which Parquet cannot store.
    """
    try:
        arrow = pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(None)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise DataError(
            f"{path} cannot be written, a metadata column mixes types ({' '.join(str(error).split())})",
            "give all values of a column one type",
        ) from None
    buffer = io.BytesIO()
    pq.write_table(arrow, buffer, compression="zstd")
    write_bytes(path, buffer.getvalue())


def write_csv(path: Path | str, table: pd.DataFrame, *, digits: int = 6) -> None:
    """Write a table as CSV, atomically, floats with so many significant digits."""
    write_text(path, table.to_csv(index=False, float_format=f"%.{digits}g", lineterminator="\n"))


# Columns that are text whatever they hold: an id of digits keeps its zeros, a tier named 1 stays a name.
_TEXTS = ("tier", "better", "worse", "model", "member", "shortcut", "column", "image_path", "name", "id", "other_id")


def read_csv(path: Path, columns: Sequence[str], command: str) -> pd.DataFrame:
    """Read a CSV file that a stage wrote; a tier named NA or null stays a name.

    Args:
        path: the file.
        columns: columns that it must have.
        command: what makes the file, for the message.

    Raises:
        DataError: the file is missing, damaged, or lacks a column.
    """
    texts = dict.fromkeys(_TEXTS, str)
    return _read(lambda: pd.read_csv(path, dtype=texts, keep_default_na=False, na_values=[""]), path, columns, command)


def read_table(path: Path | str, columns: Sequence[str], command: str) -> pd.DataFrame:
    """Read a Parquet file that a stage wrote.

    Args:
        path: the file.
        columns: columns that it must have.
        command: what makes the file, for the message.

    Raises:
        DataError: the file is missing, damaged, or lacks a column.
    """
    return _read(lambda: pd.read_parquet(path), path, columns, command)


def _read(read: Callable[[], pd.DataFrame], path: Path | str, columns: Sequence[str], command: str) -> pd.DataFrame:
    advice = f"run `{command}`"
    try:
        table = read()
    except FileNotFoundError:
        raise DataError(f"{path} is not found", advice) from None
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path} is damaged ({' '.join(str(error).split())})", advice) from None
    if lacking := [name for name in columns if name not in table]:
        raise DataError(f"{path} lacks the columns {', '.join(lacking)}", advice)
    return table
