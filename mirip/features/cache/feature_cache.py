"""The feature cache, features/<recipe>.h5: one row per distinct image content, read by everything after extraction."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mirip.errors import CacheError
from mirip.features.backbones.recipe import ResolvedRecipe, find_differences, fingerprint
from mirip.features.cache.checksums import row_checksums
from mirip.features.cache.form import Form
from mirip.features.cache.rows import Gathering, as_keys, blocks_of, read_forms, read_rows, write_rows
from mirip.files import canonical_json
from mirip.params import Recipe

# Their versions stand beside the features: another one can round differently, or decode to other pixels.
LIBRARIES = ("torch", "transformers", "pillow", "pi_heif", "simplejpeg", "numpy", "h5py")


@dataclass(frozen=True)
class FeatureCache:
    """All features of one recipe, in memory.

    Attributes:
        path: the file.
        keys: (N,) S64, sha256 of each image's bytes in hexadecimal, sorted.
        features: (N, D) float16 or float32, as stored.
        fingerprint: of the recipe they were built by.
        recipe: that recipe, as `ResolvedRecipe.to_dict` gives it.
        content_digest: sha256 over keys and rows.
    """

    path: Path
    keys: NDArray[np.bytes_]
    features: NDArray[np.floating]
    fingerprint: str
    recipe: dict[str, Any]
    content_digest: str

    @classmethod
    def open(cls, path: Path | str, recipe: Recipe | None = None) -> Self:
        """Load a cache whole, and check that it is what was written, and of the active recipe.

        Args:
            path: the HDF5 file.
            recipe: the active recipe; None takes what is there.

        Raises:
            CacheError: the file is missing or damaged, or was built by another recipe.
        """
        rows = read_rows(path)
        stored = stored_recipe(rows.path, rows.attributes)
        if recipe is not None:
            check_recipe(path, stored, recipe)
        attributes = rows.attributes
        digest = str(attributes["content_digest"])
        return cls(rows.path, rows.keys, rows.load(), attributes["fingerprint"], stored, digest)

    def __len__(self) -> int:
        return len(self.keys)

    def rows(self, sha256s: Sequence[str]) -> NDArray[np.float32]:
        """Return the features of images, (len(sha256s), D) float32, in the order asked for.

        Raises:
            CacheError: some of them are not in the cache.
        """
        wanted = as_keys(sha256s)
        place = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        missing = np.flatnonzero(self.keys[place] != wanted)
        if len(missing):
            raise CacheError(
                f"{self.path} lacks {len(missing)} of {len(wanted)} images, the first {sha256s[missing[0]]}",
                "run `dvc repro extract`",
            )
        return self.features[place].astype(np.float32)


def write_cache(path: Path | str, keys: Iterable[str], features: NDArray[np.floating], resolved: ResolvedRecipe) -> str:
    """Write a cache atomically, in sorted order; equal content gives equal bytes.

    Args:
        path: its final name.
        keys: N hashes of image contents, distinct, in any order.
        features: (N, D), finite also in the recipe's stored dtype.
        resolved: the recipe that they were built by.

    Returns:
        The content digest.

    Raises:
        CacheError: a value is not finite, a key is there twice, or the file cannot be written.
    """
    given = as_keys(keys)
    if features.ndim != 2 or len(features) != len(given) or not len(given):
        raise CacheError(f"{len(given)} keys and features of shape {features.shape}", "give one row for each key")
    order = np.argsort(given)
    ordered = given[order]
    with np.errstate(over="ignore"):
        stored = features[order].astype(resolved.stored_dtype)
    if (ordered[:-1] == ordered[1:]).any():
        raise CacheError("a key is there twice", "give each image content once")
    if not (finite := np.isfinite(stored).all(axis=1)).all():
        first = ordered[np.argmin(finite)].decode()
        raise CacheError(
            f"the features of {first} are not finite as {resolved.stored_dtype}", "use stored_dtype float32"
        )
    return write_rows(
        path,
        ordered,
        blocks_of(stored),
        dim=stored.shape[1],
        dtype=resolved.stored_dtype,
        attributes=attributes_of(resolved),
    )


def write_gathered(path: Path | str, gathering: Gathering, resolved: ResolvedRecipe) -> str:
    """Write the cache of gathered rows, a block at a time, unless the file already holds just that.

    Args:
        path: the cache file.
        gathering: the rows, none missing.
        resolved: the recipe that they were built by.

    Returns:
        The content digest.

    Raises:
        CacheError: the file cannot be written.
    """
    if (digest := _content_of(path, gathering, resolved)) is not None:
        return digest
    attributes = attributes_of(resolved)
    return write_rows(
        path, gathering.keys, gathering.blocks(), dim=gathering.dim, dtype=resolved.stored_dtype, attributes=attributes
    )


def attributes_of(resolved: ResolvedRecipe) -> dict[str, str]:
    """Return what a file says about where its rows come from; library versions are told, not compared."""
    versions = {f"{name}_version": _version(name) for name in LIBRARIES}
    return {"recipe": canonical_json(resolved.to_dict()), "fingerprint": resolved.fingerprint, **versions}


def stored_recipe(path: Path | str, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recipe that the attributes of a file name, checked against its fingerprint.

    Raises:
        CacheError: the two do not belong together.
    """
    try:
        stored = json.loads(attributes["recipe"])
    except ValueError:
        stored = None
    if not isinstance(stored, Mapping) or fingerprint(stored) != attributes["fingerprint"]:
        raise CacheError(f"{path} is damaged, its recipe does not have its fingerprint", "run `dvc repro extract`")
    return dict(stored)


@dataclass(frozen=True)
class Header:
    """What a file of rows says about itself.

    Attributes:
        rows: N.
        dim: D.
        dtype: float16 or float32.
        fingerprint: of the recipe that its rows were built by.
        recipe: that recipe, as `ResolvedRecipe.to_dict` gives it.
    """

    rows: int
    dim: int
    dtype: str
    fingerprint: str
    recipe: dict[str, Any]


def read_headers(paths: Iterable[Path]) -> list[Header | CacheError]:
    """Return the header of each file, or the error that opening it comes to; the content is not looked at.

    Keys that are not sorted are no error here.
    """
    paths = list(paths)
    return [_header(path, form) for path, form in zip(paths, read_forms(paths), strict=True)]


def _header(path: Path, form: Form | CacheError) -> Header | CacheError:
    if isinstance(form, CacheError):
        return form
    try:
        recipe = stored_recipe(path, form.attributes)
    except CacheError as error:
        return error
    return Header(form.rows, form.dim, form.dtype, form.attributes["fingerprint"], recipe)


def check_recipe(path: Path | str, stored: Mapping[str, Any], recipe: Recipe) -> None:
    """Raise CacheError where the file at `path`, built by `stored`, is not of the active recipe."""
    if found := find_differences(recipe, stored):
        others = f" (also {'; '.join(map(str, found[1:]))})" if found[1:] else ""
        raise CacheError(
            f"{path} was built with {found[0].field} {found[0].cache}, params say {found[0].params}{others}",
            "run `dvc repro extract`",
        )


def _content_of(path: Path | str, gathering: Gathering, resolved: ResolvedRecipe) -> str | None:
    """Return the digest of the file at `path` if it holds the gathered rows undamaged, else None."""
    try:
        rows = read_rows(path)
        if rows.attributes["recipe"] != canonical_json(resolved.to_dict()):
            return None
        if not np.array_equal(rows.keys, gathering.keys):
            return None  # before the whole file is read
        rows.check_digest()
    except CacheError:
        return None
    start = 0
    for old, new in zip(blocks_of(rows.features), gathering.blocks(), strict=True):
        here = slice(start, start + len(old))
        start += len(old)
        if not np.array_equal(old.view(np.uint8), new.view(np.uint8)):
            return None
        if not np.array_equal(row_checksums(rows.keys[here], old), rows.crc32[here]):
            return None  # the digest does not cover them
    return str(rows.attributes["content_digest"])


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"
