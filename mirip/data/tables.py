"""Tables that stages write: Parquet for each other, CSV for people; whole, with deterministic bytes, clear errors."""

from collections.abc import Callable, Container, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mirip.errors import DataError
from mirip.files import atomic_path, write_text

Read = TypeVar("Read", bound=Container[str])


def write_table(path: Path | str, table: pd.DataFrame) -> None:
    """Write a table as Parquet, atomically; equal tables give equal bytes.

    Raises:
        DataError: a column holds values of mixed types, which Parquet cannot store.
    """
    write_tables(path, [table])


def write_tables(path: Path | str, tables: Iterable[pd.DataFrame]) -> None:
    """Write tables of the same columns, one or more, below each other as `write_table` does, each as a row group.

    Only one of them has to be in memory at a time.

    Raises:
        DataError: a column holds values of mixed types, which Parquet cannot store.
    """
    with atomic_path(path) as temporary, ExitStack() as opened:
        writer = None
        for table in tables:
            arrow = _as_arrow(path, table)
            if writer is None:
                writer = opened.enter_context(pq.ParquetWriter(temporary, arrow.schema, compression="zstd"))
            writer.write_table(arrow)


def _as_arrow(path: Path | str, table: pd.DataFrame) -> pa.Table:
    try:
        return pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(None)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise DataError(
            f"{path} cannot be written, a metadata column mixes types ({' '.join(str(error).split())})",
            "give all values of a column one type",
        ) from None


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
    return checked_read(
        lambda: pd.read_csv(path, dtype=texts, keep_default_na=False, na_values=[""]), path, columns, command
    )


def read_table(path: Path | str, columns: Sequence[str], command: str) -> pd.DataFrame:
    """Read a Parquet file that a stage wrote.

    Args:
        path: the file.
        columns: columns that it must have.
        command: what makes the file, for the message.

    Raises:
        DataError: the file is missing, damaged, or lacks a column.
    """
    return checked_read(lambda: pd.read_parquet(path), path, columns, command)


def checked_read(read: Callable[[], Read], path: Path | str, columns: Sequence[str], command: str) -> Read:
    """Return what `read` returns of a file that a stage wrote: a table, or the names of its columns.

    Args:
        read: reads the file, with pandas or Arrow.
        path: the file.
        columns: columns that it must have.
        command: what makes the file, for the message.

    Raises:
        DataError: the file is missing, damaged, or lacks a column.
    """
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
