"""The store: every row ever computed, in .mirip/store/<fingerprint>/ of the main repository.

It only saves work: deleting it loses nothing but time. A shard is written atomically, is never changed, and has
the sha256 of its bytes as its name: it is hashed before it is opened. So any number of writers may add shards at once;
the lock is there so that two processes do not compute the same row.
"""

import sys
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mirip.errors import CacheError, SchemaError
from mirip.features.backbones.recipe import ResolvedRecipe
from mirip.features.cache.feature_cache import attributes_of
from mirip.features.cache.rows import Gathering, Rows, as_keys, read_rows, write_rows
from mirip.files import sha256_file, sync_folder
from mirip.locks import locked_file

_FOLD_SHARDS = 64


def lock_path(root: Path, fingerprint: str) -> Path:
    """Return the lock of a fingerprint's rows: beside its folder, which may be deleted."""
    return root / f"{fingerprint}.lock"


def open_shard(path: Path, fingerprint: str) -> Rows:
    """Open a shard whose bytes have the hash that is its name.

    Raises:
        CacheError: it is damaged, or of another fingerprint than that of its folder.
    """
    if sha256_file(path) != path.stem:
        raise CacheError(f"{path} is damaged")
    rows = read_rows(path, sound=True)
    if rows.attributes["fingerprint"] != fingerprint:
        raise CacheError(f"{path} has another fingerprint")
    return rows


class FeatureStore:
    """The rows of one fingerprint.

    Args:
        root: the folder of all stores.
        resolved: the recipe whose rows they are.

    Attributes:
        folder: where they are.
        fingerprint: of the recipe.
    """

    def __init__(self, root: Path, resolved: ResolvedRecipe) -> None:
        self.folder = root / resolved.fingerprint
        self._lock = lock_path(root, resolved.fingerprint)
        self._resolved = resolved
        self.fingerprint = resolved.fingerprint
        self._attributes = attributes_of(resolved)
        self._shards: dict[Path, Rows] = {}
        self._damaged: set[Path] = set()
        self._of_another_version: set[Path] = set()
        self._recent: list[Path] = []

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the store against other processes that would compute the same rows; wait for one that does."""
        with locked_file(self._lock, on_wait=_say_waiting):
            self.folder.mkdir(parents=True, exist_ok=True)
            for leftover in self.folder.glob(".*.tmp"):  # of a process that was killed: we hold the lock
                leftover.unlink(missing_ok=True)
            yield

    def gather(self, keys: NDArray[np.bytes_]) -> Gathering:
        """Find the rows of `keys`, (N,) S64, sorted and distinct."""
        gathering = Gathering(keys)
        for rows in self._sound_shards():
            gathering.add(rows)
        return gathering

    def add(self, sha256s: list[str], features: NDArray[np.floating]) -> None:
        """Keep the rows of distinct images, (N, D) of the stored dtype; they are on disk when this returns.

        Raises:
            CacheError: they cannot be written.
        """
        keys = as_keys(sha256s)
        order = np.argsort(keys)
        self._recent.append(self._write(keys[order], [np.ascontiguousarray(features[order])], features.shape[1]))
        if len(self._recent) == _FOLD_SHARDS:  # else a long extraction would leave hundreds of thousands of files
            self._merge([read_rows(path) for path in self._recent])
            self._recent.clear()

    def add_sorted(self, keys: NDArray[np.bytes_], blocks: Iterable[NDArray[np.floating]], dim: int) -> None:
        """Keep many rows at once, a block of them in memory at a time; they are on disk when this returns.

        Args:
            keys: (N,) S64, sorted, distinct.
            blocks: the rows of `keys`, in their order, as (n, D) of the stored dtype.
            dim: D.

        Raises:
            CacheError: they cannot be written.
        """
        self._write(keys, blocks, dim)

    @property
    def dim(self) -> int | None:
        """D, the width of the rows that are there; None where there is none."""
        shards = self._sound_shards()
        return int(shards[0].features.shape[1]) if shards else None

    def adopt(self, path: Path) -> None:
        """Take over the rows of a features file that the store lacks, if it is sound and of the same fingerprint."""
        if not path.is_file():
            return
        try:
            rows = read_rows(path)
            if rows.attributes["fingerprint"] != self.fingerprint:
                return
            if not len(new := self.gather(rows.keys).missing):
                return
            rows.check_digest()
        except CacheError as error:
            _warn(f"{error.problem}: it is not used and written again")
            return
        gathering = Gathering(new)
        gathering.add(rows)
        self._write(new, gathering.blocks(), gathering.dim)

    def compact(self) -> None:
        """Make one shard of all; damaged ones go. A disk without room for that is no failure."""
        shards = self._sound_shards()
        try:
            if (n_shards := len(shards)) > 1:
                self._merge(shards)
        except CacheError as error:
            _warn(f"the store keeps its {n_shards} files: {error}")
        for path in self._damaged - self._of_another_version:  # whose rows may have been imported
            path.unlink(missing_ok=True)
        self._damaged &= self._of_another_version

    def _merge(self, shards: list[Rows]) -> None:
        gathering = Gathering(np.unique(np.concatenate([rows.keys for rows in shards])))
        for rows in shards:
            gathering.add(rows)
        merged = self._write(gathering.keys, gathering.blocks(), gathering.dim)
        paths = [rows.path for rows in shards]
        # Windows deletes no file that is mapped: let go of the mappings first.
        del gathering, rows
        shards.clear()
        for path in paths:  # only now that their rows are in another file
            if path != merged:  # one part may have held them all
                self._shards.pop(path, None)
                path.unlink(missing_ok=True)

    def _write(self, keys: NDArray[np.bytes_], blocks: Iterable[NDArray[np.floating]], dim: int) -> Path:
        unnamed = self.folder / f".{uuid.uuid4().hex}.tmp"
        write_rows(unnamed, keys, blocks, dim=dim, dtype=self._resolved.stored_dtype, attributes=self._attributes)
        path = self.folder / f"{sha256_file(unnamed)}.h5"
        if path in self._shards:  # equal names are equal bytes, and Windows replaces no file that is mapped
            unnamed.unlink()
        else:
            unnamed.replace(path)
        sync_folder(self.folder)  # under its first name the next process would take it for a leftover
        self._damaged.discard(path)  # a damaged shard of the same content had that name
        return path

    def _sound_shards(self) -> list[Rows]:
        """Open the shards that are there; each is verified once."""
        present = sorted(self.folder.glob("*.h5"))
        for path in present:
            if path in self._shards or path in self._damaged:
                continue
            try:
                self._shards[path] = open_shard(path, self.fingerprint)
            except CacheError as error:
                _warn(f"{error.problem}: this part of the store is ignored, its rows are computed again")
                self._damaged.add(path)
                if isinstance(error, SchemaError):
                    self._of_another_version.add(path)
        return [self._shards[path] for path in present if path in self._shards]


def _say_waiting() -> None:
    _warn("another process computes features of this recipe: waiting for it, to use what it computed")


def _warn(message: str) -> None:
    print(f"extract: {message}", file=sys.stderr, flush=True)
