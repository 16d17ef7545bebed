"""What there is on this machine: the features files of the recipes, and what the store holds by fingerprint."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mirip.errors import BackboneError, CacheError, SchemaError
from mirip.features.backbones.recipe import find_differences, resolve
from mirip.features.cache.feature_cache import Header, read_headers
from mirip.features.cache.store import lock_path
from mirip.locks import is_locked, last_held
from mirip.params import Params, Recipe


@dataclass(frozen=True)
class FeaturesFile:
    """The features file of a recipe of params.yaml.

    Attributes:
        recipe: its name.
        path: where the file is or would be.
        header: what it says about itself; an error where it cannot be opened, None where it is not there.
        n_bytes: its size.
        state: "fits its recipe", "not here", "damaged", or how it differs from its recipe.
    """

    recipe: str
    path: Path
    header: Header | CacheError | None
    n_bytes: int
    state: str


@dataclass(frozen=True)
class Holding:
    """The rows of one fingerprint in the store.

    Attributes:
        fingerprint: of their recipe.
        shards: number of files.
        damaged: how many of them cannot be opened.
        rows: in the others.
        n_bytes: size of all.
        last_used: time of the last extraction that held it, in seconds since 1970.
        locked: an extraction holds it at this moment.
        recipe: as its shards name it; None where none can be opened.
        names: recipes of params.yaml that have this fingerprint.
    """

    fingerprint: str
    shards: int
    damaged: int
    rows: int
    n_bytes: int
    last_used: float
    locked: bool
    recipe: Mapping[str, Any] | None
    names: tuple[str, ...]

    @property
    def imported(self) -> bool:
        """Whether the rows were imported, and cannot be computed here."""
        return self.recipe is not None and self.recipe.get("model_type") == "imported"


def list_features(params: Params) -> list[FeaturesFile]:
    """Look at the features file of each recipe of params.yaml; contents are not read."""
    paths = {name: params.features_path.with_name(f"{name}.h5") for name in params.recipes}
    here = [path for path in paths.values() if path.is_file()]
    headers = dict(zip(here, read_headers(here), strict=True))
    return [
        FeaturesFile(
            recipe=name,
            path=path,
            header=headers.get(path),
            n_bytes=path.stat().st_size if path in headers else 0,
            state=_state(headers.get(path), params.recipes[name]),
        )
        for name, path in paths.items()
    ]


def list_store(root: Path, recipes: Mapping[str, Recipe]) -> list[Holding]:
    """Look at what the store holds, last used last; contents are not read, damaged shards not trusted.

    Args:
        root: the folder of all stores.
        recipes: those of params.yaml, by name.
    """
    folders = sorted(path for path in root.glob("[!.]*") if path.is_dir())
    shards = {folder: sorted(folder.glob("*.h5")) for folder in folders}
    every = [path for paths in shards.values() for path in paths]
    headers = dict(zip(every, read_headers(every), strict=True))
    known = {name: local_fingerprint(recipe) for name, recipe in recipes.items()}
    holdings = []
    for folder, paths in shards.items():
        sound = [header for path in paths if isinstance(header := headers[path], Header)]
        recipe = sound[0].recipe if sound else None
        holdings.append(
            Holding(
                fingerprint=folder.name,
                shards=len(paths),
                damaged=len(paths) - len(sound),
                rows=sum(header.rows for header in sound),
                n_bytes=sum(_size(path) for path in folder.iterdir()),
                last_used=_last_used(root, folder),
                locked=is_locked(lock_path(root, folder.name)),
                recipe=recipe,
                names=tuple(name for name in recipes if _is_of(folder.name, recipe, recipes[name], known[name])),
            )
        )
    return sorted(holdings, key=lambda holding: holding.last_used)


def local_fingerprint(recipe: Recipe) -> str | None:
    """Return the fingerprint of a recipe whose backbone is on this machine, else None; nothing is downloaded."""
    try:
        return resolve(recipe, download=False).fingerprint
    except BackboneError:
        return None


def _is_of(fingerprint: str, stored: Mapping[str, Any] | None, recipe: Recipe, known: str | None) -> bool:
    if known is not None:
        return known == fingerprint
    return stored is not None and not find_differences(recipe, stored)


def _state(header: Header | CacheError | None, recipe: Recipe) -> str:
    if header is None:
        return "not here"
    if isinstance(header, CacheError):
        return "of an older version" if isinstance(header, SchemaError) else "damaged"
    differences = find_differences(recipe, header.recipe)
    return f"other {', '.join(difference.field for difference in differences)}" if differences else "fits its recipe"


def _last_used(root: Path, folder: Path) -> float:
    held = last_held(lock_path(root, folder.name))
    return folder.stat().st_mtime if held is None else held


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0  # a running extraction merged it into another
