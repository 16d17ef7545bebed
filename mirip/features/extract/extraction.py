"""Bring a features file up to date: only what no one has computed yet goes through the backbone."""

import re
import sys
import time
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from datetime import date
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from mirip.data.image_source import ImageSource, image_source
from mirip.data.manifest import first_paths, read_manifest
from mirip.errors import CacheError, DataError
from mirip.features.backbones.recipe import ResolvedRecipe, resolve
from mirip.features.cache.feature_cache import write_gathered
from mirip.features.cache.rows import Gathering, as_keys, read_rows
from mirip.features.cache.store import FeatureStore
from mirip.features.extract.driver import keep_features
from mirip.features.extract.engine import Engine, ImageItem
from mirip.features.extract.history import ExtractionSummary, Rate, remember_extraction, remember_rate
from mirip.files import looked_up, read_yaml, sha256_file, write_json
from mirip.params import EngineName, Params, Recipe, load_params
from mirip.workspace import Workspace, private_folder


class _Settings(TypedDict):
    """What every engine is told; `extract_features` says what it means."""

    images: ImageSource
    batch_size: int
    workers: int
    max_image_pixels: int


def extract(workspace: Workspace, params: Params) -> ExtractionSummary:
    """Bring the features file of the active recipe up to date with the manifest, and write metrics/extract.json.

    Raises:
        DataError: there is no manifest, or what DVC takes for the origin of the features changed meanwhile.
        MiripError: see `extract_features`.
    """
    before = _sources(workspace, params)
    summary = extract_features(
        first_paths(read_manifest(workspace.manifest)).items(),
        image_root=params.data.images,
        recipe=params.recipe,
        path=workspace.features(params.extract.recipe),
        batch_size=params.extract.batch_size,
        workers=params.extract.workers,
        device=params.extract.device,
        engine=params.extract.engine,
        actors=params.extract.actors,
        max_image_pixels=params.prepare.max_image_pixels,
    )
    _check_unchanged(before, _sources(workspace, None))
    write_json(workspace.metrics("extract"), summary.metrics())
    return summary


def extract_features(
    items: Iterable[tuple[str, str]],
    *,
    image_root: Path | str,
    recipe: Recipe | ResolvedRecipe,
    path: Path | str,
    store_root: Path | None = None,
    batch_size: int = 8,
    workers: int = 2,
    device: str = "auto",
    engine: EngineName = "local",
    actors: int | None = None,
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
        recipe: what decides the features; one that is resolved already is not resolved again.
        path: the features file.
        store_root: folder of the stores; None is .mirip/store in the main repository's root.
        batch_size: images in a pass of the backbone.
        workers: threads that read and decode.
        device: auto, cpu or cuda.
        engine: local, or ray for several GPUs or machines; it decides how fast, never what.
        actors: of Ray, each with the backbone; None is one a GPU, or as many as the CPUs allow.
        max_image_pixels: a larger image is an error.
        visible: show progress on stderr.
        remember: note the rate and what was extracted, for `mirip cache explain`.

    Raises:
        BackboneError: the backbone cannot be found or used, or is not the one pinned.
        ImageError: an image cannot be decoded any more.
        DataError: there is no image, or one changed since it was prepared.
        CacheError: a feature is not finite in the stored dtype, or a file cannot be written; or the recipe's features
            are imported and some images have none.
        EngineError: the engine cannot be started, or ended midway.
        KeyboardInterrupt: after Ctrl-C. In all these cases what was computed is kept, and the old file stands.
    """
    start = time.monotonic()
    path = Path(path)
    paths: dict[str, str] = {}
    for sha256, image_path in items:
        paths.setdefault(sha256, image_path)
    if not paths:
        raise DataError(f"there is no image to extract features of, {path} is not written", "run `dvc repro prepare`")
    resolved = recipe if isinstance(recipe, ResolvedRecipe) else resolve(recipe)
    store = FeatureStore(store_root or private_folder().store, resolved)
    keys = as_keys(sorted(paths))
    with ExitStack() as held:
        try:
            held.enter_context(store.locked())
        except OSError:  # a store that may only be read: all is well where no row is missing
            gathering = _gathered_as_it_is(store, path, keys)
            if len(gathering.missing):
                raise
            digest, dim = _write(path, gathering, resolved)
            return ExtractionSummary(
                len(paths), 0, len(paths), dim, resolved.fingerprint, digest, time.monotonic() - start
            )
        store.adopt(path)
        missing = {key.decode() for key in store.gather(keys).missing}
        if missing and resolved.imported:
            first = next(image_path for sha256, image_path in paths.items() if sha256 in missing)
            raise CacheError(
                f"{len(missing)} of {len(paths)} images have no features of {resolved.backbone}, the first {first}",
                "import them with `mirip cache import FILE`",
            )
        if missing:
            new = [ImageItem(sha256, image_path) for sha256, image_path in paths.items() if sha256 in missing]
            found = _engine(
                engine,
                resolved,
                device,
                actors,
                images=image_source(image_root),
                batch_size=batch_size,
                workers=workers,
                max_image_pixels=max_image_pixels,
            )
            if visible and found.opening:
                print(f"extract: {found.opening}", file=sys.stderr)
            with found as used:
                if visible:
                    _announce(len(missing), len(paths), resolved, used.place)
                keep_features(used, new, store, visible=visible)
            seconds, today = time.monotonic() - used.ready_at, date.today().isoformat()
            if remember:
                remember_rate(resolved.fingerprint, Rate(used.device, used.hardware, len(missing), seconds, today))
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


def _engine(
    name: EngineName, resolved: ResolvedRecipe, device: str, actors: int | None, **settings: Unpack[_Settings]
) -> Engine:
    if name == "ray":
        from mirip.features.extract.ray import RayEngine

        return RayEngine(resolved, device, actors=actors, **settings)
    from mirip.features.backbones.backbone import DINOv2FeatureExtractor
    from mirip.features.extract.local import LocalEngine

    return LocalEngine(DINOv2FeatureExtractor.from_resolved(resolved, device), **settings)


def _gathered_as_it_is(store: FeatureStore, path: Path, keys: NDArray[np.bytes_]) -> Gathering:
    """Find the rows of `keys` in the features file and in a store that nothing can be written into."""
    gathering = store.gather(keys)
    with suppress(CacheError):
        rows = read_rows(path)
        rows.check_digest()
        if rows.attributes["fingerprint"] == store.fingerprint:
            gathering.add(rows)
    return gathering


def _write(path: Path, gathering: Gathering, resolved: ResolvedRecipe) -> tuple[str, int]:
    if len(gathering.missing):
        raise CacheError(
            f"the store lost {len(gathering.missing)} rows while they were gathered",
            "run the same command again, and check the disk if that does not help",
        )
    for leftover in path.parent.glob(f".{path.name}.*.tmp"):  # of a process that was killed while it wrote
        leftover.unlink(missing_ok=True)
    digest = write_gathered(path, gathering, resolved)
    return digest, gathering.dim


def _announce(n_missing: int, n_all: int, resolved: ResolvedRecipe, place: str) -> None:
    print(f"extract: {n_missing} of {n_all} images go through {resolved.backbone} on {place}", file=sys.stderr)
    if resolved.mean_std_source == "ImageNet":
        print(f"extract: {resolved.backbone} names no mean and deviation: those of ImageNet are used", file=sys.stderr)


def _sources(workspace: Workspace, params: Params | None) -> dict[str, object]:
    """Return the state of all that dvc.lock will name as the origin of the features: parameters and hashes of files.

    dvc.yaml says what that is. The folder of `mirip train` has no pipeline, and nothing there is checked.

    Args:
        workspace: where dvc.yaml and params.yaml are.
        params: the parameters; None reads them from params.yaml.
    """
    stage = looked_up(read_yaml(workspace.root / "dvc.yaml"), "stages.extract")
    if stage is None:
        return {}
    values = (params or load_params(workspace.root / "params.yaml")).model_dump()
    found: dict[str, object] = {}
    for name in stage.get("params", []):
        key = _filled_in(name, values)
        found[key] = looked_up(values, key)
    for name in stage.get("deps", []):
        dependency = workspace.root / _filled_in(name, values)
        files = sorted(dependency.rglob("*.py")) if dependency.is_dir() else [dependency]
        found |= {str(file): sha256_file(file) if file.is_file() else None for file in files}
    return found


def _filled_in(text: str, values: dict[str, Any]) -> str:
    """Put parameters in the place of their names, as DVC does: recipes.${extract.recipe} -> recipes.sample."""
    return re.sub(r"\$\{([^}]+)\}", lambda match: str(looked_up(values, match[1].strip())), text)


def _check_unchanged(before: dict[str, object], after: dict[str, object]) -> None:
    """Raise DataError where a source changed while features were computed.

    DVC hashes the sources after the command: it would take the features for those of the changed ones.
    """
    changed = [name for name in before | after if before.get(name) != after.get(name)]
    if changed:
        raise DataError(
            f"{', '.join(changed)} changed while features were extracted",
            "run `dvc repro extract` again, all that was computed is kept",
        )
