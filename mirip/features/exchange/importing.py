"""Bring features that were computed elsewhere into the store, all of a file or nothing."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mirip.data.manifest import read_manifest
from mirip.errors import CacheError, DataError, ParamsError
from mirip.features.backbones.recipe import resolve
from mirip.features.cache.checksums import KEY_DTYPE
from mirip.features.cache.rows import as_keys
from mirip.features.cache.store import FeatureStore
from mirip.features.exchange.vector_files import PATH_NAMES, VectorFile, different_widths, open_vector_file
from mirip.params import IMPORTED, Recipe
from mirip.progress import Progress
from mirip.workspace import Workspace, private_folder

_MANIFEST = Workspace().manifest
_SHA256 = re.compile("[0-9a-f]{64}")
_BLOCK_ROWS = 8192


@dataclass(frozen=True)
class ImportSummary:
    """What an import came to.

    Attributes:
        imported: rows that were new.
        already_there: rows that the store held already.
        skipped: rows of paths that the manifest does not list.
        dim: D, the width of a feature.
        covered: distinct images of the manifest that have features now.
        n_images: distinct images of the manifest; 0 without one.
        first_without: path of the first image of the manifest that has none; None where all have.
    """

    imported: int
    already_there: int
    skipped: int
    dim: int
    covered: int
    n_images: int
    first_without: str | None


@dataclass(frozen=True)
class ImportedRows:
    """The distinct images of a file and their rows.

    Attributes:
        keys: (N,) S64, sorted, distinct.
        skipped: how many rows of unknown paths were left out.
    """

    keys: NDArray[np.bytes_]
    skipped: int
    _features: NDArray[np.floating]  # (M, D) of the stored dtype, in the file's order
    _order: NDArray[np.int64]  # (N,): the row of keys[i] is _features[_order[i]]

    @property
    def dim(self) -> int:
        """D, the width of the rows."""
        return int(self._features.shape[1])

    def rows(self, chosen: NDArray[np.int64]) -> NDArray[np.floating]:
        """Return the rows of keys[chosen], (n, D) of the stored dtype."""
        return self._features[self._order[chosen]]

    def blocks(self, chosen: NDArray[np.int64]) -> Iterator[NDArray[np.floating]]:
        """Yield the rows of keys[chosen] a block at a time."""
        for start in range(0, len(chosen), _BLOCK_ROWS):
            yield self.rows(chosen[start : start + _BLOCK_ROWS])


def import_features(
    file: Path | str,
    *,
    recipe: Recipe,
    features_path: Path,
    manifest_path: Path = _MANIFEST,
    store_root: Path | None = None,
    skip_unknown: bool = False,
    visible: bool = True,
) -> ImportSummary:
    """Check a file of vectors whole, and keep what is new of it in the store.

    Args:
        file: Parquet or .npz; see `vector_files`.
        recipe: under which they go; its backbone is "import:<model and version>".
        features_path: the recipe's features file; its rows count as held.
        manifest_path: tells which image a path is; without it, images can be named by sha256 alone.
        store_root: folder of the stores; None is .mirip/store in the main repository's root.
        skip_unknown: leave out paths that the manifest does not list.
        visible: show progress on stderr.

    Raises:
        ParamsError: the recipe is one whose features are computed.
        DataError: the file is unusable: see there. Nothing is kept of it then.
        CacheError: an image has another vector already, or the store cannot be written. Nothing is kept then.
    """
    if not recipe.imported:
        raise ParamsError(
            f"the features of {recipe.backbone} are computed by `dvc repro extract`",
            f"give a recipe whose backbone is {IMPORTED}<model and version>",
        )
    resolved = resolve(recipe)
    known = _known_images(manifest_path)
    imported = read_imported_rows(
        open_vector_file(file), known, resolved.stored_dtype, skip_unknown=skip_unknown, visible=visible
    )
    store = FeatureStore(store_root or private_folder().store, resolved)
    with store.locked():
        store.adopt(features_path)
        held = np.isin(imported.keys, store.gather(imported.keys).missing, invert=True)
        _check_same(store, imported, np.flatnonzero(held), resolved.backbone)
        if len(new := np.flatnonzero(~held)):
            store.add_sorted(imported.keys[new], imported.blocks(new), imported.dim)
        without = set(store.gather(as_keys(sorted(set(known.values())))).missing.tolist())
    n_images = len(set(known.values()))
    return ImportSummary(
        imported=len(new),
        already_there=int(held.sum()),
        skipped=imported.skipped,
        dim=imported.dim,
        covered=n_images - len(without),
        n_images=n_images,
        first_without=next((path for path, sha256 in known.items() if sha256.encode() in without), None),
    )


def _known_images(path: Path) -> dict[str, str]:
    """Return the sha256 of each path of the manifest, in its order; empty without a manifest."""
    if not path.is_file():
        return {}
    manifest = read_manifest(path)
    return dict(zip(manifest["image_path"], manifest["image_sha256"], strict=True))


def _check_same(store: FeatureStore, imported: ImportedRows, held: NDArray[np.int64], backbone: str) -> None:
    """Raise CacheError where the store has rows of another width, or other rows of imported.keys[held]."""
    another = f"if they are another model's, give that a recipe and a name of its own, e.g. {backbone}-v2"
    if store.dim not in (None, imported.dim):
        raise CacheError(
            f"the vectors have {imported.dim} numbers, those already there of {backbone} have {store.dim}", another
        )
    if not len(held):
        return
    differing: list[int] = []
    start = 0
    for theirs in store.gather(imported.keys[held]).blocks():
        places = held[start : start + len(theirs)]
        differing += places[differing_rows(imported.rows(places), theirs)].tolist()
        start += len(theirs)
    if differing:
        raise CacheError(
            f"{len(differing)} of {len(imported.keys)} images already have another vector of {backbone}, the first "
            f"{imported.keys[differing[0]].decode()}",
            another,
        )


def read_imported_rows(
    file: VectorFile, known: Mapping[str, str], dtype: str, *, skip_unknown: bool = False, visible: bool = True
) -> ImportedRows:
    """Read and check a file; all that stays in memory are its rows in the stored dtype.

    Args:
        file: the file.
        known: sha256 by path of the images that the manifest lists.
        dtype: float16 or float32, in which the rows are stored.
        skip_unknown: leave out paths that are not in `known`.
        visible: show progress on stderr.

    Raises:
        DataError: a row has no sha256 and no known path, is not finite in `dtype`, is not as wide as the others, or
            differs from another one of the same image; or there is none.
    """
    keys = np.empty(file.n_rows, dtype=KEY_DTYPE)
    features: NDArray[np.floating] | None = None
    n = 0
    unknown: list[str] = []
    with Progress("import", file.n_rows, "row", visible=visible) as progress:
        for names, vectors in file.blocks:
            hashes = _hashes(file, names, known)
            is_known = np.array([sha256 != "" for sha256 in hashes])
            unknown += [name for name, good in zip(names, is_known, strict=True) if not good]
            if features is None:
                features = np.empty((file.n_rows, vectors.shape[1]), dtype=dtype)
            if vectors.shape[1] != features.shape[1]:
                raise different_widths(file.path, features.shape[1], vectors.shape[1])
            block = _as_stored(file, [name for name in hashes if name], vectors[is_known], dtype)
            keys[n : n + len(block)] = as_keys(sha256 for sha256 in hashes if sha256)
            features[n : n + len(block)] = block
            n += len(block)
            progress.update(len(names))
    if unknown and not skip_unknown:
        raise DataError(
            f"{len(unknown)} of {file.n_rows} paths in {file.path} are not in the manifest, the first {unknown[0]}",
            "write them as the metadata does, run `dvc repro prepare` if they are new, or leave them out with "
            "--skip-unknown",
        )
    if features is None or not n or not features.shape[1]:
        of_known = " of a known image" if unknown else ""
        raise DataError(f"{file.path} holds no vector{of_known}", "there is nothing to import")
    order = _distinct(file.path, keys[:n], features[:n])
    return ImportedRows(keys[order], len(unknown), features, order)


def differing_rows(some: NDArray[np.floating], others: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Tell which rows of two equal shapes differ in any byte."""
    differing: NDArray[np.bool_] = (some.view(np.uint8) != others.view(np.uint8)).any(axis=1)
    return differing


def _hashes(file: VectorFile, names: list[str], known: Mapping[str, str]) -> list[str]:
    """Return the sha256 of each image, "" where its path is unknown."""
    if file.key_name in PATH_NAMES:
        return [known.get(name.strip(), "") for name in names]
    hashes = [name.strip().lower() for name in names]
    for name, sha256 in zip(names, hashes, strict=True):
        if not _SHA256.fullmatch(sha256):
            raise DataError(
                f"{file.path} has the {file.key_name} {name[:80]!r}",
                "it must be the sha256 of the image file's bytes, 64 hexadecimal digits; or name images by image_path",
            )
    return hashes


def _as_stored(file: VectorFile, hashes: list[str], vectors: NDArray[np.floating], dtype: str) -> NDArray[np.floating]:
    with np.errstate(over="ignore"):
        stored = vectors.astype(dtype)
    if not (finite := np.isfinite(stored).all(axis=1)).all():
        first = int(np.argmin(finite))
        whose = f"the vector of the image {hashes[first]} in {file.path}"
        if not np.isfinite(vectors[first]).all():
            raise DataError(f"{whose} holds NaN or infinity", "compute it again")
        raise DataError(
            f"{whose} is not finite as {dtype} (largest {np.abs(vectors[first]).max():.3g}, float16 ends at 65504)",
            "set the recipe's stored_dtype to float32",
        )
    return stored


def _distinct(path: Path, keys: NDArray[np.bytes_], features: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return the places of the distinct keys in their sorted order; equal keys must have equal rows."""
    order = np.argsort(keys, kind="stable")
    again = np.flatnonzero(keys[order[1:]] == keys[order[:-1]]) + 1
    for start in range(0, len(again), _BLOCK_ROWS):
        some = again[start : start + _BLOCK_ROWS]
        if (differing := differing_rows(features[order[some]], features[order[some - 1]])).any():
            key = keys[order[some[np.argmax(differing)]]].decode()
            raise DataError(f"{path} has two different vectors of the image {key}", "keep one")
    return np.delete(order, again)
