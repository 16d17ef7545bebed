from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mirip.features.backbones.recipe import resolve
from mirip.features.cache.feature_cache import write_cache
from mirip.features.cache.rows import Rows, read_rows
from mirip.features.cache.verification import Findings
from mirip.features.extract.extraction import extract_features
from mirip.features.extract.spot_check import reextract
from mirip.params import Params, Recipe

Items = list[tuple[str, str]]


@pytest.fixture
def params(recipe: Recipe, tmp_path: Path) -> Params:
    data = {"images": tmp_path / "images", "metadata": "m.csv"}
    settings = {"recipe": "tiny", "batch_size": 4, "device": "cpu"}
    return Params.model_validate({"data": data, "extract": settings, "recipes": {"tiny": recipe}})


@pytest.fixture
def items(make_images: Callable[[range], Items]) -> Items:
    return make_images(range(10))


@pytest.fixture
def rows(params: Params, items: Items, tmp_path: Path) -> Rows:
    path = tmp_path / "features.h5"
    extract_features(items, image_root=params.data.images, recipe=params.recipe, path=path, batch_size=4, device="cpu")
    return read_rows(path)


def check(rows: Rows, params: Params, items: Items, n: int) -> Findings:
    return reextract(rows, params, dict(items), n, 0)


def rewritten(rows: Rows, params: Params, features: np.ndarray) -> Rows:
    write_cache(rows.path, [key.decode() for key in rows.keys], features, resolve(params.recipe))
    return read_rows(rows.path)


@pytest.mark.parametrize("n", [1, 4, 10, 50])
def test_rows_of_the_same_device_have_the_same_bytes(rows: Rows, params: Params, items: Items, n: int) -> None:
    found = check(rows, params, items, n)
    assert found.sound
    same = min(n, 10)
    assert found.notes == [
        f"{same} rows extracted again: {same} have the same bytes",
        f"`--rows {n} --seed 0` extracts the same rows again",
    ]


def test_nothing_is_left_behind(rows: Rows, params: Params, items: Items, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    check(rows, params, items, 4)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("share", [0.02, 0.5])
def test_a_backbone_that_sees_little_difference_is_held_to_a_tenth_of_it(
    rows: Rows, params: Params, items: Items, share: float
) -> None:
    """The tiny one has random weights: 1e-3 of cosine, harmless elsewhere, would be another image here."""
    features = np.array(rows.features, dtype=np.float64)
    mixed = features.copy()
    mixed[3] = (1 - share) * features[3] + share * features[4]
    found = check(rewritten(rows, params, mixed), params, items, 10)
    assert [row.index for row in found.bad_rows] == ([3] if share == 0.5 else [])


def test_a_row_of_zeros_is_not_what_its_image_gives(rows: Rows, params: Params, items: Items) -> None:
    features = np.array(rows.features)
    features[2] = 0
    found = check(rewritten(rows, params, features), params, items, 10)
    assert [row.index for row in found.bad_rows] == [2]


def test_images_that_changed_are_passed_over(rows: Rows, params: Params, items: Items) -> None:
    for _, name in items[:8]:
        (params.data.images / name).write_bytes(b"changed")
    found = check(rows, params, items, 2)
    assert found.sound
    assert "2 rows extracted again: 2 have the same bytes" in found.notes


def test_another_backbone_in_the_same_folder_is_a_reason_not_to(
    rows: Rows, params: Params, items: Items, other_dinov2: Path
) -> None:
    other = params.recipe.model_copy(update={"backbone": str(other_dinov2)})
    found = check(rows, params.model_copy(update={"recipes": {"tiny": other}}), items, 2)
    assert found.sound
    assert "the backbone here gives the fingerprint" in found.notes[0]
