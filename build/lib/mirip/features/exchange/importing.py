"""Bring features that were computed elsewhere into the store, all of a file or nothing."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mirip.data.manifest import read_manifest
from mirip.errors import CacheError, ParamsError
from mirip.features.backbones.recipe import resolve
from mirip.features.cache.rows import as_keys
from mirip.features.cache.store import FeatureStore, default_store_root
from mirip.features.exchange.checked_vectors import BroughtRows, differing_rows, read_brought
from mirip.features.exchange.vector_files import open_vector_file
from mirip.params import IMPORTED, Recipe

MANIFEST = Path("data/manifest.parquet")


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


def import_features(
    file: Path | str,
    *,
    recipe: Recipe,
    features_path: Path,
    manifest_path: Path = MANIFEST,
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
            f"the features of {recipe.backbone} are computed by `dvc repro extract`: give a recipe whose backbone is "
            f"{IMPORTED}<model and version>"
        )
    resolved = resolve(recipe)
    known = _known_images(manifest_path)
    brought = read_brought(
        open_vector_file(file), known, resolved.stored_dtype, skip_unknown=skip_unknown, visible=visible
    )
    store = FeatureStore(store_root or default_store_root(), resolved)
    with store.locked():
        store.adopt(features_path)
        held = np.isin(brought.keys, store.gather(brought.keys).missing, invert=True)
        _check_same(store, brought, np.flatnonzero(held), resolved.backbone)
        if len(new := np.flatnonzero(~held)):
            store.add_sorted(brought.keys[new], brought.blocks(new), brought.dim)
        without = set(store.gather(as_keys(sorted(set(known.values())))).missing.tolist())
    n_images = len(set(known.values()))
    return ImportSummary(
        imported=len(new),
        already_there=int(held.sum()),
        skipped=brought.skipped,
        dim=brought.dim,
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


def _check_same(store: FeatureStore, brought: BroughtRows, held: NDArray[np.int64], backbone: str) -> None:
    """Raise CacheError where the store has rows of another width, or other rows of brought.keys[held]."""
    another = f"if they are another model's, give that a recipe and a name of its own, e.g. {backbone}-v2"
    if store.dim not in (None, brought.dim):
        raise CacheError(
            f"the vectors have {brought.dim} numbers, those already there of {backbone} have {store.dim}: {another}"
        )
    if not len(held):
        return
    differing: list[int] = []
    start = 0
    for theirs in store.gather(brought.keys[held]).blocks():
        places = held[start : start + len(theirs)]
        differing += places[differing_rows(brought.rows(places), theirs)].tolist()
        start += len(theirs)
    if differing:
        raise CacheError(
            f"{len(differing)} of {len(brought.keys)} images already have another vector of {backbone}, the first "
            f"{brought.keys[differing[0]].decode()}: {another}"
        )
