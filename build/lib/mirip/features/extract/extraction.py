"""Bring a features file up to date: only what no one has computed yet goes through the backbone."""

import sys
import time
from collections.abc import Iterable
from datetime import date
from pathlib import Path

from mirip.errors import CacheError, DataError
from mirip.features.backbones.recipe import ResolvedRecipe, resolve
from mirip.features.cache.feature_cache import write_gathered
from mirip.features.cache.gathering import Gathering
from mirip.features.cache.rows import as_keys
from mirip.features.cache.store import FeatureStore, default_store_root
from mirip.features.extract.history import ExtractionSummary, Rate, remember_extraction, remember_rate
from mirip.params import Recipe


def extract_features(
    items: Iterable[tuple[str, str]],
    *,
    image_root: Path | str,
    recipe: Recipe,
    path: Path | str,
    store_root: Path | None = None,
    batch_size: int = 8,
    workers: int = 2,
    device: str = "auto",
    max_image_pixels: int = 200_000_000,
    visible: bool = True,
    remember: bool = True,
) -> ExtractionSummary:
    """Write the features of exactly these images, computing only those that nothing on this machine holds.

    Rows come from the store, then from the old features file if it has the same fingerprint; neither torch nor
    the backbone is loaded where they hold all. On one processor (or GPU), with one number of threads, one batch size
    and the same versions of the libraries, the bytes written depend on the images and the recipe alone, not on the
    order in which the images came; another of these can round a new row differently, and touches no old one.

    Args:
        items: sha256 of each image's bytes, and its path below `image_root`; of equal content the first counts.
        image_root: the folder of the images.
        recipe: what decides the features.
        path: the features file.
        store_root: folder of the stores; None is .mirip/store in the main repository's root.
        batch_size: images in a pass of the backbone.
        workers: threads that read and decode.
        device: auto, cpu or cuda.
        max_image_pixels: a larger picture is an error.
        visible: show progress on stderr.
        remember: note the rate and what was extracted, for `mirip cache explain`.

    Raises:
        BackboneError: the backbone cannot be found or used, or is not the one pinned.
        ImageError: an image cannot be decoded any more.
        DataError: there is no image, or one changed since it was prepared.
        CacheError: a feature is not finite in the stored dtype, or a file cannot be written; or the recipe's features
            are imported and some images have none.
        KeyboardInterrupt: after Ctrl-C. In all these cases what was computed is kept, and the old file stands.
    """
    start = time.monotonic()
    path = Path(path)
    paths: dict[str, str] = {}
    for sha256, image_path in items:
        paths.setdefault(sha256, image_path)
    if not paths:
        raise DataError(f"there is no image to extract features of: {path} is not written")
    resolved = resolve(recipe)
    store = FeatureStore(store_root or default_store_root(), resolved)
    keys = as_keys(sorted(paths))
    with store.locked():
        store.adopt(path)
        missing = {key.decode() for key in store.gather(keys).missing}
        if missing and resolved.imported:
            first = next(image_path for sha256, image_path in paths.items() if sha256 in missing)
            raise CacheError(
                f"{len(missing)} of {len(paths)} images have no features of {resolved.backbone}, the first {first}: "
                "bring them with `mirip cache import FILE`"
            )
        if missing:
            from mirip.features.backbones.backbone import DINOv2FeatureExtractor
            from mirip.features.backbones.hardware import hardware
            from mirip.features.extract.local import ImageItem, compute_features

            extractor = DINOv2FeatureExtractor.from_recipe(recipe, device)
            if visible:
                _announce(len(missing), len(paths), resolved, str(extractor.device))
            extractor.load()
            loaded = time.monotonic()
            compute_features(
                [ImageItem(sha256, image_path) for sha256, image_path in paths.items() if sha256 in missing],
                extractor,
                store,
                image_root=Path(image_root),
                batch_size=batch_size,
                workers=workers,
                max_image_pixels=max_image_pixels,
                visible=visible,
            )
            seconds, today = time.monotonic() - loaded, date.today().isoformat()
            used = extractor.device
            if remember:
                remember_rate(resolved.fingerprint, Rate(used.type, hardware(used), len(missing), seconds, today))
        digest, dim = _write(path, store.gather(keys), resolved)
        store.compact()
    summary = ExtractionSummary(
        rows=len(paths),
        computed=len(missing),
        reused=len(paths) - len(missing),
        dim=dim,
        fingerprint=resolved.fingerprint,
        content_digest=digest,
        seconds=time.monotonic() - start,
    )
    if remember:
        remember_extraction(path, summary, paths)
    return summary


def _write(path: Path, gathering: Gathering, resolved: ResolvedRecipe) -> tuple[str, int]:
    if len(gathering.missing):
        raise CacheError(
            f"the store lost {len(gathering.missing)} rows while they were gathered: run the same command again, and "
            "check the disk if that does not help"
        )
    for leftover in path.parent.glob(f".{path.name}.*.tmp"):  # of a process that was killed while it wrote
        leftover.unlink(missing_ok=True)
    digest = write_gathered(path, gathering, resolved)
    return digest, gathering.dim


def _announce(n_missing: int, n_all: int, resolved: ResolvedRecipe, device: str) -> None:
    print(f"extract: {n_missing} of {n_all} images go through {resolved.backbone} on {device}", file=sys.stderr)
    if resolved.mean_std_source == "ImageNet":
        print(f"extract: {resolved.backbone} names no mean and deviation: those of ImageNet are used", file=sys.stderr)
