"""Rows put together from several files."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mirip.features.cache.rows import BLOCK_ROWS, Rows


class Gathering:
    """Which rows of which files make up the rows of `keys`.

    Args:
        keys: (N,) S64, sorted, distinct.
    """

    def __init__(self, keys: NDArray[np.bytes_]) -> None:
        self.keys = keys
        self._sources: list[Rows] = []
        self._source = np.full(len(keys), -1, dtype=np.int32)
        self._row = np.zeros(len(keys), dtype=np.int64)

    def add(self, rows: Rows) -> None:
        """Take from `rows` what no earlier file had."""
        if not len(self.keys):
            return
        place = np.minimum(np.searchsorted(self.keys, rows.keys), len(self.keys) - 1)
        taken = np.flatnonzero((self.keys[place] == rows.keys) & (self._source[place] < 0))
        self._source[place[taken]] = len(self._sources)
        self._row[place[taken]] = taken
        self._sources.append(rows)

    @property
    def dim(self) -> int:
        """D, the width of the rows; at least one file was added."""
        return int(self._sources[0].features.shape[1])

    @property
    def missing(self) -> NDArray[np.bytes_]:
        """The keys, (M,) S64, that no file has."""
        return self.keys[self._source < 0]

    def blocks(self) -> Iterator[NDArray[np.floating]]:
        """Yield the rows of `keys` in their order, a block at a time; none may be missing."""
        dtype = self._sources[0].features.dtype
        for start in range(0, len(self.keys), BLOCK_ROWS):
            source, row = (values[start : start + BLOCK_ROWS] for values in (self._source, self._row))
            block = np.empty((len(source), self.dim), dtype=dtype)
            for number in np.unique(source):
                from_this = source == number
                block[from_this] = self._sources[number].features[row[from_this]]
            yield block
