"""Thumbnails: a small JPEG of each distinct image. They lie on disk while they are gathered, and are read singly."""

import tempfile
import weakref
from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from mirip.data.tables import checked_read, write_tables

_COLUMNS = ["image_sha256", "jpeg"]
_COMMAND = "dvc repro prepare"
_ROWS_AT_ONCE = 4096  # of a row group: whoever wants one thumbnail reads so many


class Thumbnails:
    """Thumbnails by the sha256 of their images, gathered in a file without a name; memory holds 80 bytes of each.

    Args:
        folder: where that file is; None: the system's folder for temporary files.
    """

    def __init__(self, folder: Path | None = None) -> None:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - it is open as long as this object lives
        weakref.finalize(self, self._file.close)
        self._keys, self._ends = bytearray(), array("Q", [0])

    def add(self, sha256: str, jpeg: bytes) -> None:
        """Keep one; another one of the same image is as good."""
        self._file.write(jpeg)
        self._keys += sha256.encode()
        self._ends.append(self._ends[-1] + len(jpeg))

    def __len__(self) -> int:
        return len(self._places()[0])

    def tables(self) -> Iterator[pd.DataFrame]:
        """Yield all as tables of image_sha256 and jpeg (bytes), sorted and each image once; at least one table."""
        keys, places = self._places()
        for start in range(0, max(len(keys), 1), _ROWS_AT_ONCE):
            some = slice(start, start + _ROWS_AT_ONCE)
            jpegs = [self._jpeg(place) for place in places[some]]
            yield pd.DataFrame(
                {
                    "image_sha256": pd.Series(keys[some].astype(str), dtype="str"),
                    "jpeg": pd.Series(jpegs, dtype=object),
                }
            )

    def write(self, path: Path) -> None:
        """Write all as Parquet, atomically; equal thumbnails give equal bytes, in whatever order they came."""
        write_tables(path, self.tables())

    def _places(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the distinct keys, sorted, and where each was added."""
        return np.unique(np.frombuffer(bytes(self._keys), dtype="S64"), return_index=True)

    def _jpeg(self, place: int) -> bytes:
        self._file.seek(self._ends[place])
        return self._file.read(self._ends[place + 1] - self._ends[place])


class StoredThumbnails:
    """The thumbnails of a file, of which only those are read that are asked for.

    Args:
        path: what `Thumbnails.write` wrote.

    Raises:
        DataError: the file is missing, damaged or lacks a column; so does `get`, if it finds that out.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._found = path, path.resolve()
        checked_read(lambda: pq.read_schema(path).names, path, _COLUMNS, _COMMAND)

    def get(self, sha256: str) -> bytes | None:
        """Return the JPEG of an image, None if it has none."""
        found = checked_read(
            lambda: pd.read_parquet(self._found, columns=_COLUMNS, filters=[("image_sha256", "==", sha256)]),
            self._path,
            _COLUMNS,
            _COMMAND,
        )
        return None if found.empty else found["jpeg"].iloc[0]
