"""Does a features file hold what its recipe gives? Some rows are extracted once more, and compared."""

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mirip.data.image_source import ImageSource, image_source, read_unchanged
from mirip.errors import BackboneError, DataError, StoreError
from mirip.features.backbones.recipe import ResolvedRecipe, resolve
from mirip.features.cache.checksums import row_checksums
from mirip.features.cache.rows import Rows, as_keys, read_rows
from mirip.features.cache.verification import BadRow, Findings, Mend
from mirip.features.extract.extraction import extract_features
from mirip.params import Params

# Another device, batch size, number of threads or version rounds differently: 1e-7 (float32) to 1e-4 (bfloat16) of
# cosine, where two images are 1e-2 to 4e-2 apart. A backbone that sees less difference between images is held to a
# tenth of what it sees.
_MAX_DISTANCE = 1e-3
_SHARE_OF_SPREAD = 0.1
_SPREAD_ROWS = 256
_TRIES = 20  # images a row, where images are not here


def reextract(rows: Rows, params: Params, paths: Mapping[str, str], n_rows: int, seed: int) -> Findings:
    """Extract random rows of a features file again, just as an extraction does, and compare the bytes.

    A row whose bytes differ by no more than another device's rounding is a note; by more, a bad row.

    Args:
        rows: the file, of the active recipe.
        params: the recipe, and batch size, workers and device of the extraction.
        paths: path by sha256 of each image content of the manifest.
        n_rows: how many rows.
        seed: what chooses them.
    """
    found = Findings()
    images = image_source(params.data.images)
    if reason := images.unavailable():
        found.notes.append(f"no row is extracted again: {reason}")
        return found
    try:
        resolved = resolve(params.recipe, download=False)
    except BackboneError as error:
        found.notes.append(f"no row is extracted again: {error}")
        return found
    if resolved.imported:
        found.notes.append("no row is extracted again: the features were imported")
        return found
    if resolved.fingerprint != rows.attributes["fingerprint"]:
        found.notes.append(
            f"no row is extracted again: the backbone here gives the fingerprint {resolved.fingerprint[:8]}, "
            f"the file has {rows.attributes['fingerprint'][:8]}"
        )
        return found
    try:
        chosen, n_absent = _chosen(rows, paths, images, n_rows, np.random.default_rng(seed))
    except StoreError as error:
        found.notes.append(f"no row is extracted again: {error.problem}")
        return found
    if chosen and n_absent:
        found.notes.append(f"{n_absent} images that were to be extracted again are missing or changed since prepare")
    if not chosen:
        found.notes.append(
            f"no row is extracted again: none of {n_absent} images was found unchanged in {params.data.images}"
        )
        return found
    again = _extracted(params, resolved, [(sha256, paths[sha256]) for sha256 in chosen])
    _compare(rows, chosen, again, found)
    found.notes.append(f"`--rows {n_rows} --seed {seed}` extracts the same rows again")
    return found


def _chosen(
    rows: Rows, paths: Mapping[str, str], images: ImageSource, n_rows: int, rng: np.random.Generator
) -> tuple[dict[str, int], int]:
    """Choose random images that are here unchanged: their places in the file, and how many were passed over."""
    wanted = as_keys(paths)
    order = np.argsort(rows.keys, kind="stable")  # damaged keys may be in any order
    place = order[np.minimum(np.searchsorted(rows.keys, wanted, sorter=order), len(order) - 1)]
    known = np.flatnonzero(rows.keys[place] == wanted)
    chosen: dict[str, int] = {}
    n_absent = 0
    for i in rng.permutation(known)[: _TRIES * n_rows]:
        sha256 = wanted[i].decode()
        if _is_here(images, paths[sha256], sha256):
            chosen[sha256] = int(place[i])
        else:
            n_absent += 1
        if len(chosen) == n_rows:
            break
    return chosen, n_absent


def _is_here(images: ImageSource, path: str, sha256: str) -> bool:
    try:
        read_unchanged(images.read, path, sha256)
    except DataError:
        return False
    return True


def _extracted(params: Params, resolved: ResolvedRecipe, items: list[tuple[str, str]]) -> Rows:
    """Extract images as the stage does, with nothing to take from, into a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="mirip-verify-") as folder:
        path = Path(folder) / "features.h5"
        extract_features(
            items,
            image_root=params.data.images,
            recipe=resolved,
            path=path,
            store_root=Path(folder) / "store",
            batch_size=params.extract.batch_size,
            workers=params.extract.workers,
            device=params.extract.device,
            max_image_pixels=params.prepare.max_image_pixels,
            remember=False,
        )
        rows = read_rows(path)
        return replace(rows, features=rows.load())


def _compare(rows: Rows, places: Mapping[str, int], again: Rows, found: Findings) -> None:
    limit = _largest_rounding(rows)
    n_same, roundings = 0, []
    for key, new in zip(again.keys, again.features, strict=True):
        index = places[key.decode()]
        old = rows.features[index]
        if old.tobytes() == new.tobytes():
            n_same += 1
            continue
        distance = float(_distance(old, new))
        if distance <= limit:
            roundings.append(distance)
        else:
            fault = f"is not what its image gives: extracted again, it has cosine {1 - distance:.4f} with that"
            found.bad_rows.append(BadRow(index, key.decode(), fault))
            if row_checksums(rows.keys[index : index + 1], old[None])[0] == rows.crc32[index]:
                found.mends.add(Mend.RECOMPUTE)  # it was written so
    found.notes.append(f"{len(places)} rows extracted again: {n_same} have the same bytes")
    if roundings:
        differ = "1 of them differs" if len(roundings) == 1 else f"{len(roundings)} of them differ"
        found.notes.append(
            f"{differ} in rounding only (1 - cosine at most {max(roundings):.1e}): another device, batch size, "
            "number of threads or version of a library made them"
        )


def _largest_rounding(rows: Rows) -> float:
    """Return up to which 1 - cosine two rows are taken for one."""
    sample = np.asarray(rows.features[:: max(1, len(rows.features) // _SPREAD_ROWS)])
    spread = _distance(sample[:-1], sample[1:])
    spread = spread[np.isfinite(spread)]
    return min(_MAX_DISTANCE, _SHARE_OF_SPREAD * float(np.median(spread))) if len(spread) else _MAX_DISTANCE


def _distance(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return 1 - cosine along the last axis; infinite or not a number for rows of zeros."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    with np.errstate(all="ignore"):
        product = (a * b).sum(axis=-1)
        distance: NDArray[np.float64] = 1 - product / np.sqrt((a * a).sum(axis=-1) * (b * b).sum(axis=-1))
    return distance
