"""Files of vectors that were made elsewhere, Parquet or .npz, as blocks of names and vectors."""

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mirip.errors import DataError

HASH_NAMES = ("image_sha256", "sha256")
PATH_NAMES = ("image_path", "filename")
VECTOR_NAMES = ("features", "embedding", "embeddings", "vector", "vectors")
_BLOCK_ROWS = 8192

Block = tuple[list[str], NDArray[np.floating]]


@dataclass(frozen=True)
class VectorFile:
    """An open file of vectors.

    Attributes:
        path: the file.
        n_rows: N.
        key_name: the column that names the images; one of HASH_NAMES (preferred) or PATH_NAMES.
        blocks: all rows in the file's order, as names and (n, D) floats; D is the same within a block.
    """

    path: Path
    n_rows: int
    key_name: str
    blocks: Iterator[Block]


def open_vector_file(path: Path | str) -> VectorFile:
    """Open a file of vectors; its rows are read as `blocks` is consumed.

    Raises:
        DataError: the file is missing, damaged, of another kind, or lacks names or vectors. Consuming `blocks` raises
            it too, for a row that has no name or no vector of floats.
    """
    path = Path(path)
    openers = {".parquet": _open_parquet, ".npz": _open_npz}
    if path.suffix not in openers:
        raise DataError(f"{path} is neither .parquet nor .npz", "save the vectors as one of these")
    if not path.is_file():
        raise DataError(f"{path} is not found", "give the file that holds the vectors")
    try:
        return openers[path.suffix](path)
    except (OSError, ValueError, EOFError, pa.ArrowException, zipfile.BadZipFile, zlib.error) as error:
        raise _damaged(path, error) from None


def _open_parquet(path: Path) -> VectorFile:
    file = pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)  # one large row group is not read at once
    key_name, vector_name = _names(path, file.schema_arrow.names)
    return VectorFile(path, file.metadata.num_rows, key_name, _parquet_blocks(path, file, key_name, vector_name))


def _parquet_blocks(path: Path, file: Any, key_name: str, vector_name: str) -> Iterator[Block]:
    try:
        for batch in file.iter_batches(batch_size=_BLOCK_ROWS, columns=[key_name, vector_name]):
            if not batch.num_rows:
                continue
            keys = batch.column(key_name)
            if not _is_text(keys.type):
                raise DataError(f"the column {key_name} of {path} holds {keys.type}, not text", "save text")
            yield (
                _checked_keys(path, key_name, keys.to_pylist()),
                _vectors(path, vector_name, batch.column(vector_name)),
            )
    except (OSError, pa.ArrowException) as error:
        raise _damaged(path, error) from None


def _is_text(kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _vectors(path: Path, name: str, column: Any) -> NDArray[np.floating]:
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    kind = column.type
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if not is_list or not pa.types.is_floating(kind.value_type):
        raise DataError(
            f"the column {name} of {path} holds {kind}, not lists of floats", "save each vector as one list"
        )
    values = column.flatten()
    if column.null_count or values.null_count:
        raise DataError(f"the column {name} of {path} has empty places", "leave out the rows without a vector")
    widths = pc.unique(pc.list_value_length(column)).to_pylist()
    if len(widths) > 1:
        raise different_widths(path, *sorted(widths)[:2])
    vectors: NDArray[np.floating] = values.to_numpy(zero_copy_only=False).reshape(len(column), widths[0])
    return vectors


def _open_npz(path: Path) -> VectorFile:
    if not zipfile.is_zipfile(path):
        raise ValueError("it is no .npz file")
    with np.load(path, allow_pickle=False) as arrays:
        key_name, vector_name = _names(path, arrays.files)
        keys, vectors = _array(path, arrays, key_name, "str"), _array(path, arrays, vector_name, "float")
    if keys.dtype.kind not in "US" or keys.ndim != 1:
        raise DataError(f"{key_name} of {path} has type {keys.dtype} and shape {keys.shape}", "save a list of texts")
    if vectors.dtype.kind != "f" or vectors.ndim != 2 or len(vectors) != len(keys):
        raise DataError(
            f"{vector_name} of {path} has type {vectors.dtype} and shape {vectors.shape}, and there are {len(keys)} "
            f"{key_name}",
            "save floats of shape (N, D), a row for each name",
        )
    return VectorFile(path, len(keys), key_name, _npz_blocks(path, key_name, keys, vectors))


def _array(path: Path, arrays: Any, name: str, kind: str) -> NDArray[Any]:
    """Read an array of an .npz file; one of Python objects, such as a column of pandas, is refused unread."""
    try:
        array: NDArray[Any] = arrays[name]
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise DataError(
            f"{name} of {path} is an array of Python objects, which could run code when it is read",
            f"save it with .astype({kind})",
        ) from None
    return array


def _npz_blocks(path: Path, key_name: str, keys: NDArray[Any], vectors: NDArray[np.floating]) -> Iterator[Block]:
    for start in range(0, len(keys), _BLOCK_ROWS):
        names = keys[start : start + _BLOCK_ROWS]
        if names.dtype.kind == "S":
            try:
                names = np.char.decode(names, "utf-8")
            except UnicodeDecodeError:
                raise DataError(f"{key_name} of {path} holds bytes that are no UTF-8", "save names as text") from None
        yield _checked_keys(path, key_name, names.tolist()), vectors[start : start + _BLOCK_ROWS]


def _names(path: Path, there: Sequence[str]) -> tuple[str, str]:
    """Choose the column of names and the one of vectors."""
    keys = [name for name in (*HASH_NAMES, *PATH_NAMES) if name in there]
    vectors = [name for name in VECTOR_NAMES if name in there]
    if not keys:
        raise DataError(
            f"{path} names no images", f"it needs {' or '.join((*HASH_NAMES, *PATH_NAMES))}, and has {', '.join(there)}"
        )
    if len(vectors) != 1:
        has = f"has {' and '.join(vectors)}" if vectors else f"has {', '.join(there)}"
        raise DataError(f"{path} {has}", f"it needs just one of {', '.join(VECTOR_NAMES)}")
    return keys[0], vectors[0]


def _checked_keys(path: Path, key_name: str, keys: list[str | None]) -> list[str]:
    if not all(keys):
        raise DataError(f"{key_name} of {path} has empty places", "leave out the rows without a name")
    return [str(key) for key in keys]


def different_widths(path: Path, one: int, other: int) -> DataError:
    """Return the error to raise where vectors of a file are not equally wide."""
    return DataError(f"{path} has vectors of {one} and of {other} numbers", "all must be of one model")


def _damaged(path: Path, error: Exception) -> DataError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return DataError(f"{path} cannot be read ({reason})", "save the vectors again")
