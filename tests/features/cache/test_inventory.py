import os
from pathlib import Path

import numpy as np
import pytest

from mirip.errors import CacheError
from mirip.features.backbones.recipe import resolve
from mirip.features.cache.feature_cache import write_cache
from mirip.features.cache.inventory import list_features, list_store, local_fingerprint
from mirip.features.cache.store import FeatureStore, lock_path
from mirip.locks import locked_file
from mirip.params import Params, Recipe

KEYS = [f"{i:064x}" for i in range(3)]
ROWS = np.ones((3, 4), dtype=np.float16)


def filled(root: Path, recipe: Recipe, last_used: float) -> str:
    """Put three rows of a recipe into the store; return its fingerprint."""
    resolved = resolve(recipe)
    store = FeatureStore(root, resolved)
    with store.locked():
        store.add(KEYS, ROWS)
    os.utime(lock_path(root, resolved.fingerprint), (last_used, last_used))
    return resolved.fingerprint


def test_the_store_is_listed_last_used_last(tmp_path: Path, recipe: Recipe) -> None:
    squash = recipe.model_copy(update={"fit": "squash"})
    late, early = filled(tmp_path, recipe, 2000), filled(tmp_path, squash, 1000)
    with locked_file(lock_path(tmp_path, early)):
        os.utime(lock_path(tmp_path, early), (1000, 1000))
        first, second = list_store(
            tmp_path, {"a": recipe, "b": recipe, "c": recipe.model_copy(update={"fit": "squash"})}
        )
    assert (first.fingerprint, first.names, first.last_used, first.locked) == (early, ("c",), 1000, True)
    assert (second.fingerprint, second.names, second.last_used, second.locked) == (late, ("a", "b"), 2000, False)
    assert (second.rows, second.shards, second.damaged) == (3, 1, 0)
    assert second.n_bytes == sum(path.stat().st_size for path in (tmp_path / late).iterdir())


def test_a_backbone_that_is_not_here_is_known_by_what_its_rows_name(tmp_path: Path, recipe: Recipe) -> None:
    filled(tmp_path / "store", recipe, 1000)
    weights = resolve(recipe).weights_sha256
    gone = recipe.model_copy(update={"backbone": str(tmp_path / "gone"), "weights_sha256": weights})
    assert local_fingerprint(gone) is None
    assert list_store(tmp_path / "store", {"gone": gone})[0].names == ("gone",)


def test_no_store_is_an_empty_one(tmp_path: Path, recipe: Recipe) -> None:
    assert list_store(tmp_path / "absent", {"a": recipe}) == []


@pytest.mark.parametrize(
    ("accident", "state"),
    [("none", "fits its recipe"), ("lost", "not here"), ("damaged", "damaged"), ("other recipe", "other fit")],
)
def test_a_features_file_fits_its_recipe_or_it_is_said_why_not(
    tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch, accident: str, state: str
) -> None:
    monkeypatch.chdir(tmp_path)
    written = recipe.model_copy(update={"fit": "squash"}) if accident == "other recipe" else recipe
    path = Path("features/a.h5")
    write_cache(path, KEYS, ROWS, resolve(written))
    if accident == "lost":
        path.unlink()
    if accident == "damaged":
        path.write_bytes(path.read_bytes()[:100])
    values = {"data": {"images": "i", "metadata": "m"}, "extract": {"recipe": "a"}, "recipes": {"a": recipe}}
    (found,) = list_features(Params.model_validate(values))
    assert (found.recipe, found.path, found.state) == ("a", path, state)
    assert isinstance(found.header, CacheError) == (accident == "damaged")
