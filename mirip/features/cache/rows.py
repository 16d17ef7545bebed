"""Rows of features as an HDF5 file that checks itself: the format of the features files and of the store's shards.

Three datasets, `image_sha256` (N,) S64 sorted, `features` (N, D) and `row_crc32` (N,), all contiguous, and root
attributes, among them two hashes of the content; see `checksums` for which one protects what. Equal content gives equal
bytes. A file is written once, whole, and never changed.
"""

import errno
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mirip.errors import CacheError, SchemaError
from mirip.features.cache.checksums import CRC_DTYPE, KEY_DTYPE, content_digest, hashing, quick_hash, row_checksums
from mirip.files import atomic_path

SCHEMA_VERSION = 2
_FEATURE_DTYPES = (np.dtype(np.float16), np.dtype(np.float32))
BLOCK_ROWS = 16_384
_READ_BYTES = 4 << 20  # small enough that a block is still in the processor's cache when it is hashed
_OVERHEAD_BYTES = 65_536  # more than what HDF5 adds to keys, rows and checksums
# The advice on a damaged file.
DAMAGED = "see `mirip cache verify`, then remove it and run `dvc repro extract`"
_REQUIRED = {
    "schema_version": np.integer, "fingerprint": str, "recipe": str, "dim": np.integer, "content_digest": str,
    "content_xxh3": str,
}  # fmt: skip


@dataclass(frozen=True)
class Rows:
    """The content of one file.

    Attributes:
        path: where it was read.
        keys: (N,) S64, sha256 of each image's bytes in hexadecimal, sorted, distinct.
        features: (N, D) float16 or float32, mapped from disk.
        crc32: (N,) uint32, of each key and its row, as they were written.
        offset: where the features begin in the file, in bytes.
        attributes: the file's root attributes.
    """

    path: Path
    keys: NDArray[np.bytes_]
    features: NDArray[np.floating]
    crc32: NDArray[np.uint32]
    offset: int
    attributes: dict[str, Any]

    def check_digest(self) -> None:
        """Raise CacheError where the content is not what was written, by both of its hashes."""
        quick = quick_hash(self.keys)
        self._compare("content_digest", content_digest(self.keys, hashing(blocks_of(self.features), quick)))
        self._compare("content_xxh3", quick.hexdigest())

    def load(self) -> NDArray[np.floating]:
        """Read the features into memory, (N, D) as stored, hashing each block in a second thread as it comes.

        Raises:
            CacheError: the content is not what was written.
        """
        features = np.empty(self.features.shape, dtype=self.features.dtype)
        quick = quick_hash(self.keys)
        unread = features.reshape(-1).view(np.uint8).data
        # Not through the mapping, whose pages would count beside the copy.
        with self.path.open("rb", buffering=0) as stream, ThreadPoolExecutor(1) as hasher:
            stream.seek(self.offset)
            while unread:
                if not (n_bytes := stream.readinto(unread[:_READ_BYTES])):
                    raise CacheError(f"{self.path} is damaged, it ends {len(unread)} bytes too early", DAMAGED)
                hasher.submit(quick.update, unread[:n_bytes])
                unread = unread[n_bytes:]
        self._compare("content_xxh3", quick.hexdigest())
        return features

    def _compare(self, name: str, found: str) -> None:
        if found != (written := self.attributes[name]):
            raise CacheError(
                f"{self.path} is damaged, its content has digest {found[:12]}, written was {written[:12]}", DAMAGED
            )


def as_keys(sha256s: Iterable[str]) -> NDArray[np.bytes_]:
    """Return hashes as (N,) S64, in the given order."""
    return np.array([sha256.encode("ascii") for sha256 in sha256s], dtype=KEY_DTYPE)


def blocks_of(features: NDArray[np.floating]) -> Iterator[NDArray[np.floating]]:
    """Yield consecutive blocks of rows: no more than one is ever in memory where `features` is mapped."""
    for start in range(0, len(features), BLOCK_ROWS):
        yield np.ascontiguousarray(features[start : start + BLOCK_ROWS])


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


def write_rows(
    path: Path | str,
    keys: NDArray[np.bytes_],
    blocks: Iterable[NDArray[np.floating]],
    *,
    dim: int,
    dtype: str,
    attributes: Mapping[str, str],
) -> str:
    """Write a file atomically; equal arguments give equal bytes.

    Args:
        path: its final name.
        keys: (N,) S64, sorted, distinct.
        blocks: the rows of `keys`, in their order, as (n, D) of `dtype`.
        dim: D.
        dtype: float16 or float32.
        attributes: root attributes beside the schema version, D and the hashes of the content.

    Returns:
        The content digest.

    Raises:
        CacheError: the file cannot be written, e.g. since the disk is full; an old file is left as it was.
    """
    try:
        with atomic_path(path) as temporary:
            row_bytes = KEY_DTYPE.itemsize + dim * np.dtype(dtype).itemsize + CRC_DTYPE.itemsize
            _check_room(temporary, len(keys) * row_bytes + _OVERHEAD_BYTES)
            digest = _write_file(temporary, keys, blocks, dim, dtype, attributes)
    except (OSError, RuntimeError) as error:  # what h5py raises where a write fails depends on the call
        raise CacheError(
            f"{path} cannot be written ({_reason(error)})",
            "an old file there is as it was and what was computed is kept; mend that and run the same command again",
        ) from None
    return digest


def read_rows(path: Path | str, *, any_order: bool = False) -> Rows:
    """Open a file and check its form, not its digest; the features stay on disk until they are used.

    Args:
        path: the file.
        any_order: take keys that are not sorted and distinct too, to look for what is wrong with them.

    Raises:
        CacheError: the file is missing, damaged, or of another schema.
    """
    path = Path(path)
    if not path.is_file():
        raise CacheError(f"{path} is not found", "run `dvc repro extract`, or `dvc pull extract` to fetch it")
    try:
        # A file is never changed in place, and locks fail on read-only and network file systems.
        with h5py.File(path, "r", locking=False) as file:
            attributes = {name: file.attrs[name] for name in file.attrs}
            _check_attributes(path, attributes)
            keys, features, crc32 = (file[name] for name in ("image_sha256", "features", "row_crc32"))
            _check_form(attributes["dim"], keys, features, crc32)
            names = keys[...]
            if not any_order and not (names[:-1] < names[1:]).all():
                raise ValueError("its keys are not sorted and distinct")
            shape, dtype, offset = features.shape, features.dtype, features.id.get_offset()
            mapped = np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=shape)
            return Rows(path, names, mapped, crc32[...], offset, attributes)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise CacheError(f"{path} is damaged ({_reason(error)})", DAMAGED) from None


def _check_room(path: Path, n_bytes: int) -> None:
    """Raise OSError where the disk cannot take a file of that size: HDF5 crashes where its last write fails."""
    if not hasattr(os, "posix_fallocate"):  # macOS and Windows: what they say is free has to do
        if shutil.disk_usage(path.parent).free < n_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return
    with path.open("r+b") as stream:
        try:
            os.posix_fallocate(stream.fileno(), 0, n_bytes)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise  # any other says that this file system cannot tell


def _write_file(
    path: Path,
    keys: NDArray[np.bytes_],
    blocks: Iterable[NDArray[np.floating]],
    dim: int,
    dtype: str,
    attributes: Mapping[str, str],
) -> str:
    with h5py.File(path, "w") as file:
        file.create_dataset("image_sha256", data=keys)
        features = file.create_dataset("features", shape=(len(keys), dim), dtype=dtype)
        crc32 = file.create_dataset("row_crc32", shape=(len(keys),), dtype=CRC_DTYPE)
        quick = quick_hash(keys)
        digest = content_digest(keys, hashing(_stored(keys, features, crc32, blocks), quick))
        hashes = {"content_digest": digest, "content_xxh3": quick.hexdigest()}
        own = {"schema_version": SCHEMA_VERSION, "dim": dim, **hashes}
        for name, value in (own | dict(attributes)).items():
            file.attrs[name] = value
    return digest


def _stored(
    keys: NDArray[np.bytes_], features: Any, crc32: Any, blocks: Iterable[NDArray[np.floating]]
) -> Iterator[NDArray[np.floating]]:
    """Store blocks one after the other, with the checksums of their rows, and pass them on."""
    start = 0
    for block in blocks:
        here = slice(start, start + len(block))
        features[here] = block
        crc32[here] = row_checksums(keys[here], block)
        start += len(block)
        yield block


def _check_attributes(path: Path, attributes: Mapping[str, Any]) -> None:
    for name, kind in _REQUIRED.items():
        if not isinstance(attributes.get(name), kind):
            raise ValueError(f"no valid attribute {name}")
    if attributes["schema_version"] != SCHEMA_VERSION:
        raise SchemaError(
            f"{path} has schema version {attributes['schema_version']}, this version of Mirip reads {SCHEMA_VERSION}",
            "run `dvc repro extract`",
        )


def _check_form(dim: int, keys: Any, features: Any, crc32: Any) -> None:
    if keys.dtype != KEY_DTYPE or features.dtype not in _FEATURE_DTYPES or crc32.dtype != CRC_DTYPE:
        raise ValueError(f"keys of type {keys.dtype}, features of {features.dtype}, checksums of {crc32.dtype}")
    if features.shape != (len(keys), dim) or crc32.shape != keys.shape or not len(keys):
        raise ValueError(f"{len(keys)} keys, features of shape {features.shape}, {len(crc32)} checksums, dim {dim}")


def _reason(error: Exception) -> str:
    """Say in a few words why HDF5 failed; its own messages run over many lines."""
    if found := re.search("error message = '([^']+)'", str(error)):
        return found.group(1)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__
