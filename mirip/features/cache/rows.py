"""Rows of features as an HDF5 file that checks itself: the format of the features files and of the store's shards.

Three datasets, `image_sha256` (N,) S64 sorted, `features` (N, D) and `row_crc32` (N,), all contiguous, and root
attributes, among them two hashes of the content; see `form` for the header, and `checksums` for which hash protects
what. Equal content gives equal bytes. A file is written once, whole, and never changed.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from mirip.errors import CacheError
from mirip.features.cache.checksums import CRC_DTYPE, KEY_DTYPE, content_digest, hashing, quick_hash, row_checksums
from mirip.features.cache.form import (
    CHECKSUMS,
    DAMAGED,
    FEATURES,
    KEYS,
    SCHEMA_VERSION,
    Form,
    lay_out,
    make_header,
    read_form,
)
from mirip.features.cache.old_files import form_by_hdf5, forms_by_child
from mirip.files import atomic_path

BLOCK_ROWS = 16_384
# As long as the hashes will be, which are known when all is written.
_HASHES = {"content_digest": "0" * 64, "content_xxh3": "0" * 32}
_READ_BYTES = 4 << 20  # small enough that a block is still in the processor's cache when it is hashed


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
        with atomic_path(path) as temporary, temporary.open("r+b") as stream:
            digest = _write_file(stream, keys, blocks, dim, dtype, attributes)
    except OSError as error:
        raise CacheError(
            f"{path} cannot be written ({error.strerror or error})",
            "an old file there is as it was and what was computed is kept; mend that and run the same command again",
        ) from None
    return digest


def read_rows(path: Path | str, *, any_order: bool = False, sound: bool = False) -> Rows:
    """Open a file and check its form, not its digest; the features stay on disk until they are used.

    Args:
        path: the file.
        any_order: take keys that are not sorted and distinct too, to look for what is wrong with them.
        sound: all bytes of the file were checked, so that HDF5 may open one of an older version in this process.

    Raises:
        CacheError: the file is missing, damaged, or of another schema.
    """
    path = Path(path)
    (form,) = read_forms([path], sound=sound)
    if isinstance(form, CacheError):
        raise form
    offsets = form.offsets
    try:
        keys = np.fromfile(path, KEY_DTYPE, form.rows, offset=offsets[KEYS])
        crc32 = np.fromfile(path, CRC_DTYPE, form.rows, offset=offsets[CHECKSUMS])
        features = np.memmap(path, form.dtype, "r", offsets[FEATURES], (form.rows, form.dim))
    except OSError as error:
        raise _unreadable(path, error) from None
    if not any_order and not (keys[:-1] < keys[1:]).all():
        raise CacheError(f"{path} is damaged (its keys are not sorted and distinct)", DAMAGED)
    return Rows(path, keys, features, crc32, offsets[FEATURES], form.attributes)


def read_forms(paths: Sequence[Path], *, sound: bool = False) -> list[Form | CacheError]:
    """Return the form of each file, or the error that reading it comes to; the content is not looked at.

    Args:
        paths: the files.
        sound: as of `read_rows`.
    """
    found: list[Form | CacheError | None] = []
    for path in paths:
        try:
            found.append(read_form(path) or (form_by_hdf5(path) if sound else None))
        except CacheError as error:
            found.append(error)
        except OSError as error:
            found.append(_unreadable(path, error))
    of_child = iter(forms_by_child([path for path, form in zip(paths, found, strict=True) if form is None]))
    return [form or next(of_child) for form in found]


def _unreadable(path: Path, error: OSError) -> CacheError:
    return CacheError(f"{path} cannot be read ({error.strerror or error})", "check the disk and who may read the file")


def _write_file(
    stream: BinaryIO,
    keys: NDArray[np.bytes_],
    blocks: Iterable[NDArray[np.floating]],
    dim: int,
    dtype: str,
    attributes: Mapping[str, str],
) -> str:
    """Write past HDF5, which crashes where a write fails; the header comes last, since the hashes stand in it."""
    own: dict[str, str | int] = {"schema_version": SCHEMA_VERSION, "dim": dim}
    form = lay_out(len(keys), dim, dtype, own | _HASHES | dict(attributes))
    crc32 = np.empty(len(keys), CRC_DTYPE)
    stream.seek(form.offsets[KEYS])
    stream.write(np.ascontiguousarray(keys).view(np.uint8).data)
    stream.seek(form.offsets[FEATURES])
    quick = quick_hash(keys)
    digest = content_digest(keys, hashing(_stored(stream, keys, crc32, blocks), quick))
    if stream.tell() != form.offsets[CHECKSUMS]:
        raise ValueError(f"the blocks are not {len(keys)} rows of {dim} {dtype}")
    stream.write(crc32.data)
    hashes = {"content_digest": digest, "content_xxh3": quick.hexdigest()}
    header, written = make_header(len(keys), dim, dtype, own | hashes | dict(attributes))
    assert written.offsets == form.offsets
    stream.seek(0)
    stream.write(header)
    return digest


def _stored(
    stream: BinaryIO,
    keys: NDArray[np.bytes_],
    crc32: NDArray[np.uint32],
    blocks: Iterable[NDArray[np.floating]],
) -> Iterator[NDArray[np.floating]]:
    """Write blocks one after the other, fill in the checksums of their rows, and pass them on."""
    start = 0
    for block in blocks:
        here = slice(start, start + len(block))
        stream.write(block.data)
        crc32[here] = row_checksums(keys[here], block)
        start += len(block)
        yield block
