"""What an extraction would do, and why, before it is run: neither torch nor a backbone nor an image is loaded."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirip.errors import BackboneError, CacheError, DataError
from mirip.features.backbones.recipe import ResolvedRecipe, find_differences, resolve
from mirip.features.cache.feature_cache import Header, read_headers, stored_recipe
from mirip.features.cache.rows import Rows, as_keys, read_rows
from mirip.features.cache.store import lock_path, open_shard
from mirip.features.extract.history import Rate, known_rates, last_listing
from mirip.locks import is_locked
from mirip.params import Params, Recipe


@dataclass(frozen=True)
class Explanation:
    """What `dvc repro extract` would do.

    Attributes:
        fingerprint: of the active recipe; None where its backbone is not found and nothing here was made by it.
        images: distinct images of the manifest.
        from_file: rows that the features file has.
        from_store: rows that only the store has.
        new: images to compute whose path the last extraction did not have.
        changed: images to compute whose path had another content then.
        renamed: images that stood at another path then.
        gone: rows of the old features file that no image needs any more.
        up_to_date: the features file is what an extraction would write.
        running: an extraction of this recipe is at work.
        reasons: why rows are computed or a file is not used, a line each.
        unknown: what cannot be told since the backbone is not found; None where it is.
        rate: how fast this recipe was computed last; None where that is not known.
    """

    fingerprint: str | None
    images: int
    from_file: int
    from_store: int
    new: int
    changed: int
    renamed: int
    gone: int
    up_to_date: bool
    running: bool
    reasons: list[str]
    unknown: str | None
    rate: Rate | None

    @property
    def to_compute(self) -> int:
        """How many images would go through the backbone."""
        return self.images - self.from_file - self.from_store

    @property
    def seconds(self) -> float | None:
        """How long that would take, the loading of the backbone left out; None where no rate is known."""
        return None if self.rate is None else self.to_compute / self.rate.images_per_second


def explain_extraction(params: Params, paths: Mapping[str, str], store_root: Path) -> Explanation:
    """Find out what is here already of what an extraction would write.

    Args:
        params: with the active recipe.
        paths: path by sha256 of each image content of the manifest.
        store_root: the folder of all stores.

    Raises:
        DataError: there is no image.
    """
    if not paths:
        raise DataError("the manifest has no image", "run `dvc repro prepare`")
    reasons: list[str] = []
    path = params.features_path
    keys = as_keys(sorted(paths))
    rows = _opened(path, reasons)
    unknown = None
    try:
        resolved = resolve(params.recipe, download=False)
        fingerprint: str | None = resolved.fingerprint
    except BackboneError as error:
        resolved, fingerprint = None, _likely_fingerprint(params.recipe, rows, store_root)
        unknown = f"{error}; which rows are its own is told by the recipe that they name, not by its weights"
    usable = _usable(rows, params.recipe, resolved, fingerprint, reasons)
    in_file = _held(keys, usable.keys) if usable is not None else np.zeros(len(keys), dtype=bool)
    shards = _shards(store_root, fingerprint, reasons) if fingerprint is not None else []
    in_store = np.zeros_like(in_file)
    for shard in shards:
        in_store |= _held(keys, shard.keys)
    missing = keys[~in_file & ~in_store]
    new, changed, renamed = _against_listing(last_listing(path), paths, missing)
    if new + changed < len(missing) and fingerprint is not None and not shards:
        lost = "was deleted" if known_rates(fingerprint) else "holds nothing of this recipe yet"
        reasons.append(f"the store {lost}")
    return Explanation(
        fingerprint=fingerprint,
        images=len(keys),
        from_file=int(in_file.sum()),
        from_store=int((in_store & ~in_file).sum()),
        new=new,
        changed=changed,
        renamed=renamed,
        gone=int((~_held(rows.keys, keys)).sum()) if rows is not None else 0,
        up_to_date=usable is not None and np.array_equal(usable.keys, keys) and not reasons,
        running=fingerprint is not None and is_locked(lock_path(store_root, fingerprint)),
        reasons=reasons,
        unknown=unknown,
        rate=_rate(fingerprint, params.extract.device),
    )


def _held(keys: NDArray[np.bytes_], others: NDArray[np.bytes_]) -> NDArray[np.bool_]:
    """Tell which keys are among others; both are sorted, and the others not empty."""
    found: NDArray[np.bool_] = others[np.minimum(np.searchsorted(others, keys), len(others) - 1)] == keys
    return found


def _opened(path: Path, reasons: list[str]) -> Rows | None:
    if not path.is_file():
        reasons.append(f"{path} is not found")
        return None
    try:
        rows = read_rows(path)
        stored_recipe(path, rows.attributes)
    except CacheError as error:
        reasons.append(error.problem)
        return None
    return rows


def _likely_fingerprint(recipe: Recipe, rows: Rows | None, store_root: Path) -> str | None:
    """Return the fingerprint of rows that a backbone which is not on this machine may have made."""
    if rows is not None and not find_differences(recipe, stored_recipe(rows.path, rows.attributes)):
        return str(rows.attributes["fingerprint"])
    newest_first = sorted(store_root.glob("*/*.h5"), key=lambda path: path.stat().st_mtime, reverse=True)
    for header in read_headers(newest_first):
        if isinstance(header, Header) and not find_differences(recipe, header.recipe):
            return header.fingerprint
    return None


def _usable(
    rows: Rows | None, recipe: Recipe, resolved: ResolvedRecipe | None, fingerprint: str | None, reasons: list[str]
) -> Rows | None:
    """Return the features file if an extraction would take rows from it."""
    if rows is None:
        return None
    try:
        stored: dict[str, Any] = stored_recipe(rows.path, rows.attributes)
        differences = "; ".join(map(str, find_differences(recipe, stored, resolved=resolved)))
        if rows.attributes["fingerprint"] != fingerprint:
            reasons.append(f"{rows.path} was built by another recipe: {differences or 'another backbone'}")
            return None
        rows.check_digest()
    except CacheError as error:
        reasons.append(error.problem)
        return None
    if differences:
        reasons.append(f"{rows.path} is written again, no value changes: {differences}")
    return rows


def _shards(root: Path, fingerprint: str, reasons: list[str]) -> list[Rows]:
    shards, n_damaged = [], 0
    for path in sorted((root / fingerprint).glob("*.h5")):
        try:
            shards.append(open_shard(path, fingerprint))
        except CacheError:
            n_damaged += 1
        except FileNotFoundError:
            continue  # a running extraction merged it into another
    if n_damaged:
        files = "1 file of the store is" if n_damaged == 1 else f"{n_damaged} files of the store are"
        reasons.append(f"{files} damaged: see `mirip cache verify`")
    return shards


def _against_listing(
    listing: Mapping[str, str] | None, paths: Mapping[str, str], missing: NDArray[np.bytes_]
) -> tuple[int, int, int]:
    """Count images to compute that are new, and changed, and images that were renamed."""
    if listing is None:
        return 0, 0, 0
    before = [listing.get(paths[key.decode()]) for key in missing]
    unlike = [sha256 for sha256, key in zip(before, missing, strict=True) if sha256 != key.decode()]
    known = {sha256: path for path, sha256 in listing.items()}
    here = set(paths.values())
    renamed = sum(sha256 in known and known[sha256] not in here for sha256 in paths)
    return sum(sha256 is None for sha256 in unlike), sum(sha256 is not None for sha256 in unlike), renamed


def _rate(fingerprint: str | None, device: str) -> Rate | None:
    rates = known_rates(fingerprint) if fingerprint is not None else []
    fitting = [rate for rate in rates if device in ("auto", rate.device)]
    return fitting[-1] if fitting else None
