"""What the driver makes of what an engine yields, whatever the engine: here one that yields what a test says."""

import time
from collections.abc import Generator, Sequence
from pathlib import Path

import numpy as np
import pytest

from mirip.errors import CacheError, EngineError, ImageError
from mirip.features.backbones.recipe import resolve
from mirip.features.cache.rows import as_keys, read_rows
from mirip.features.cache.store import FeatureStore
from mirip.features.extract.driver import keep_features
from mirip.features.extract.engine import Computed, Failed, ImageItem, Outcome
from mirip.params import Recipe

ITEMS = [ImageItem(f"{number:064x}", f"{number}.png") for number in range(4)]


class Scripted:
    """An engine that yields given outcomes."""

    name = opening = device = place = hardware = "scripted"

    def __init__(self, *outcomes: Outcome) -> None:
        self._outcomes, self.ready_at, self.is_closed = outcomes, time.monotonic(), False

    def __enter__(self) -> "Scripted":
        return self

    def __exit__(self, *error: object) -> None: ...

    def compute(self, items: Sequence[ImageItem]) -> Generator[Outcome, None, None]:
        try:
            yield from self._outcomes
        finally:
            self.is_closed = True


def rows_of(*numbers: int) -> Computed:
    """Rows whose values are the numbers of their images."""
    rows = np.array([[number] * 3 for number in numbers], np.float16)
    return Computed([ITEMS[number] for number in numbers], rows, np.full(len(numbers), 1e6, np.float32))


@pytest.fixture
def store(tmp_path: Path, recipe: Recipe) -> FeatureStore:
    made = FeatureStore(tmp_path / "store", resolve(recipe))
    made.folder.mkdir(parents=True)
    return made


def kept(store: FeatureStore) -> list[float]:
    """The values of all rows, in the order of ITEMS."""
    gathering = store.gather(as_keys([item.sha256 for item in ITEMS]))
    return [float(row[0]) for block in gathering.blocks() for row in block]


def n_rows(store: FeatureStore) -> int:
    return sum(len(read_rows(path).keys) for path in store.folder.glob("*.h5"))


def test_a_row_that_comes_twice_is_kept_once(store: FeatureStore) -> None:
    keep_features(Scripted(rows_of(0, 1), None, rows_of(1, 2), rows_of(0, 1), rows_of(3)), ITEMS, store, visible=False)
    assert kept(store) == [0.0, 1.0, 2.0, 3.0]
    assert n_rows(store) == 4


def test_an_image_that_nobody_asked_for_is_not_kept(store: FeatureStore) -> None:
    keep_features(Scripted(rows_of(0, 1, 2)), ITEMS[:2], store, visible=False)
    assert n_rows(store) == 2


def test_a_failure_that_comes_twice_is_one_and_the_others_are_kept(store: FeatureStore) -> None:
    failed = Failed(ITEMS[2], ImageError("is truncated", kind="truncated"))
    with pytest.raises(ImageError, match=r"^2\.png is truncated; the features of the other 3 new images are kept$"):
        keep_features(Scripted(failed, rows_of(0, 1), failed, rows_of(3)), ITEMS, store, visible=False)
    assert n_rows(store) == 3


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([0], r"^2\.png is truncated \(and 2 more files\); the features of the other 1 new image are kept$"),
        ([0, 1], r"^2\.png is truncated \(and 1 more file\); the features of the other 2 new images are kept$"),
        ([], r"^2\.png is truncated \(and 3 more files\)$"),
    ],
)
def test_all_failures_are_counted(store: FeatureStore, rows: list[int], said: str) -> None:
    numbers = [2, *(number for number in (0, 1, 3) if number not in rows)]
    failures = [Failed(ITEMS[number], ImageError("is truncated", kind="truncated")) for number in numbers]
    with pytest.raises(ImageError, match=said):
        keep_features(Scripted(*failures, *([rows_of(*rows)] if rows else [])), ITEMS, store, visible=False)


def test_a_failure_of_an_image_that_came_in_the_end_is_none(store: FeatureStore) -> None:
    failed = Failed(ITEMS[2], ImageError("is truncated", kind="truncated"))
    keep_features(Scripted(failed, rows_of(0, 1, 2, 3)), ITEMS, store, visible=False)
    assert n_rows(store) == 4


def test_images_that_never_come_are_told(store: FeatureStore) -> None:
    with pytest.raises(
        EngineError, match=r"^the engine scripted lost 2 of 4 new images, the first 1\.png: run the same"
    ):
        keep_features(Scripted(rows_of(0, 3)), ITEMS, store, visible=False)
    assert n_rows(store) == 2


def test_a_row_that_is_not_finite_ends_the_engine_and_the_good_ones_beside_it_are_kept(store: FeatureStore) -> None:
    bad = rows_of(0, 1)
    bad.rows[1] = np.inf
    engine = Scripted(bad, rows_of(2, 3))
    with pytest.raises(CacheError, match=r"^1\.png has features that are not finite as float16 \(largest 1e\+06"):
        keep_features(engine, ITEMS, store, visible=False)
    assert n_rows(store) == 1
    assert engine.is_closed
