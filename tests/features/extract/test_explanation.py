from collections.abc import Callable
from pathlib import Path

import pytest

from mirip.errors import DataError
from mirip.features.backbones.recipe import resolve
from mirip.features.extract.explanation import Explanation, explain_extraction
from mirip.features.extract.extraction import extract_features
from mirip.features.extract.history import Rate, remember_rate
from mirip.params import Params, Recipe

MakeImages = Callable[[range], list[tuple[str, str]]]


@pytest.fixture
def params(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    monkeypatch.chdir(tmp_path)
    data = {"images": "images", "metadata": "m.csv"}
    settings = {"recipe": "tiny", "batch_size": 4, "device": "cpu"}
    return Params.model_validate({"data": data, "extract": settings, "recipes": {"tiny": recipe}})


def explain(params: Params, items: list[tuple[str, str]]) -> Explanation:
    return explain_extraction(params, dict(items), Path(".mirip/store"))


def extract(params: Params, items: list[tuple[str, str]]) -> int:
    summary = extract_features(
        items,
        image_root="images",
        recipe=params.recipe,
        path=params.features_path,
        store_root=Path(".mirip/store"),
        batch_size=4,
        device="cpu",
        visible=False,
    )
    return summary.computed


@pytest.mark.parametrize("chosen", [range(0, 6), range(2, 9), range(7, 9), range(3, 4)])
def test_what_is_foretold_is_what_happens(params: Params, make_images: MakeImages, chosen: range) -> None:
    extract(params, make_images(range(6)))
    items = make_images(chosen)
    found = explain(params, items)
    assert found.images == len(chosen)
    assert found.new == found.to_compute
    assert found.up_to_date == (chosen == range(0, 6))
    assert extract(params, items) == found.to_compute
    assert explain(params, items).up_to_date


def test_without_a_listing_the_words_are_lost_and_nothing_else(params: Params, make_images: MakeImages) -> None:
    extract(params, make_images(range(3)))
    for listing in Path(".mirip").rglob("listing.parquet"):
        listing.unlink()
    found = explain(params, make_images(range(5)))
    assert (found.from_file, found.to_compute, found.new, found.changed, found.renamed) == (3, 2, 0, 0, 0)


def test_the_rate_is_that_of_the_active_device(params: Params, make_images: MakeImages) -> None:
    fingerprint = resolve(params.recipe).fingerprint
    remember_rate(fingerprint, Rate("cpu", "slow", 100, 50.0, "2026-01-01"))
    remember_rate(fingerprint, Rate("cuda", "fast", 100, 1.0, "2026-01-02"))
    items = make_images(range(4))
    assert explain(params, items).seconds == 2.0
    automatic = params.model_copy(update={"extract": params.extract.model_copy(update={"device": "auto"})})
    assert explain(automatic, items).seconds == 0.04


def test_a_file_out_of_order_is_no_source(params: Params, make_images: MakeImages) -> None:
    import h5py

    items = make_images(range(3))
    extract(params, items)
    with h5py.File(params.features_path, "r+") as file:
        file["image_sha256"][...] = file["image_sha256"][...][::-1]
    found = explain(params, items)
    assert (found.from_file, found.from_store) == (0, 3)
    assert "is damaged (its keys are not sorted and distinct)" in found.reasons[0]


def test_no_image_is_an_error(params: Params) -> None:
    with pytest.raises(DataError, match="no image"):
        explain(params, [])
