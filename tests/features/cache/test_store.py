import threading
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from mirip.features.backbones.recipe import ResolvedRecipe, resolve
from mirip.features.cache.feature_cache import write_cache
from mirip.features.cache.rows import as_keys
from mirip.features.cache.store import FeatureStore, lock_path
from mirip.params import Recipe
from mirip.workspace import private_folder


@pytest.fixture(scope="module")
def resolved(dinov2: Path) -> ResolvedRecipe:
    return resolve(Recipe(backbone=str(dinov2), image_size=28))


@pytest.fixture
def store(tmp_path: Path, resolved: ResolvedRecipe) -> FeatureStore:
    return FeatureStore(tmp_path / "store", resolved)


def keys_of(seeds: list[int]) -> list[str]:
    return [f"{seed:064x}" for seed in seeds]


def rows_of(seeds: list[int]) -> np.ndarray:
    return np.array([np.random.default_rng(seed).normal(size=4) for seed in seeds], dtype=np.float16)


def add(store: FeatureStore, seeds: list[int]) -> None:
    store.add(keys_of(seeds), rows_of(seeds))


def held(store: FeatureStore, seeds: list[int]) -> list[int]:
    """Those of `seeds` that a fresh look at the store finds, with the right rows."""
    fresh = FeatureStore(store.folder.parent, store._resolved)
    missing = set(fresh.gather(as_keys(keys_of(sorted(seeds)))).missing.tolist())
    found = [seed for seed, key in zip(seeds, as_keys(keys_of(seeds)), strict=True) if key not in missing]
    if found:
        blocks = list(fresh.gather(as_keys(keys_of(sorted(found)))).blocks())
        assert (np.concatenate(blocks) == rows_of(sorted(found))).all()
    return found


def test_rows_are_there_for_the_next_process(store: FeatureStore) -> None:
    with store.locked():
        add(store, [5, 3])
        add(store, [9])
    assert held(store, [3, 4, 5, 9]) == [3, 5, 9]


def test_a_part_is_on_disk_under_its_last_name_when_it_is_kept(
    store: FeatureStore, disk_events: list[tuple[str, int]]
) -> None:
    """A power cut after that takes neither its bytes nor its name: under the first, the next process removes it."""
    with store.locked():
        disk_events.clear()
        add(store, [5, 3])
    (path,) = store.folder.glob("*.h5")
    part, folder = path.stat().st_ino, store.folder.stat().st_ino
    first_name = [("fsync", part), ("replace", part), ("fsync", folder)]
    assert disk_events == [*first_name, ("replace", part), ("fsync", folder)]


def test_compaction_leaves_one_file_with_all_rows(store: FeatureStore) -> None:
    with store.locked():
        for seed in range(10):
            add(store, [seed, seed + 100])
        store.compact()
        add(store, [1000])
        store.compact()
    assert len(list(store.folder.iterdir())) == 1
    seeds = [*range(10), *range(100, 110), 1000]
    assert held(store, seeds) == seeds


@pytest.mark.slow
def test_a_long_extraction_leaves_few_files(store: FeatureStore) -> None:
    with store.locked():
        for seed in range(200):
            add(store, [seed])
    assert len(list(store.folder.iterdir())) <= 66
    assert held(store, list(range(200))) == list(range(200))


@pytest.mark.parametrize("place", range(0, 8000, 400))
def test_a_flipped_bit_anywhere_is_found_before_hdf5_sees_it(store: FeatureStore, place: int) -> None:
    with store.locked():
        add(store, [1, 2])
    shard = next(store.folder.iterdir())
    data = bytearray(shard.read_bytes())
    data[place % len(data)] ^= 2
    shard.write_bytes(data)
    assert held(store, [1, 2]) == []


def test_merging_a_part_that_holds_all_keeps_it(store: FeatureStore) -> None:
    with store.locked():
        add(store, [1, 2])
        add(store, [2])
        store.compact()
        assert held(store, [1, 2]) == [1, 2]


def test_a_damaged_shard_is_never_trusted_and_goes(store: FeatureStore, capsys: pytest.CaptureFixture[str]) -> None:
    with store.locked():
        add(store, [1, 2])
        damaged = next(store.folder.iterdir())
        add(store, [3])
    data = bytearray(damaged.read_bytes())
    data[-1] ^= 1
    damaged.write_bytes(data)
    assert held(store, [1, 2, 3]) == [3]
    said = capsys.readouterr().err
    assert f"{damaged} is damaged: this part of the store is ignored" in said
    again = FeatureStore(store.folder.parent, store._resolved)
    with again.locked():
        again.compact()
    assert not damaged.exists()
    assert held(store, [1, 2, 3]) == [3]


def test_a_shard_of_another_recipe_is_not_used(store: FeatureStore, recipe: Recipe, tmp_path: Path) -> None:
    other = FeatureStore(tmp_path / "store", resolve(recipe.model_copy(update={"fit": "squash"})))
    with other.locked(), store.locked():
        add(other, [1])
        shard = next(other.folder.iterdir())
        shard.rename(store.folder / shard.name)
    assert held(store, [1]) == []


def test_leftovers_of_a_killed_process_are_removed(store: FeatureStore) -> None:
    store.folder.mkdir(parents=True)
    (store.folder / ".0123.h5.abc.tmp").write_bytes(b"half")
    with store.locked():
        assert not list(store.folder.iterdir())


def test_an_old_features_file_fills_an_empty_store(
    store: FeatureStore, tmp_path: Path, resolved: ResolvedRecipe
) -> None:
    write_cache(tmp_path / "features.h5", keys_of([1, 2, 3]), rows_of([1, 2, 3]), resolved)
    with store.locked():
        add(store, [2])
        store.adopt(tmp_path / "features.h5")
        store.adopt(tmp_path / "features.h5")
        assert len(list(store.folder.iterdir())) == 2  # the second time there was nothing to take
    assert held(store, [1, 2, 3]) == [1, 2, 3]


def test_an_old_features_file_of_another_recipe_or_damaged_is_left(
    store: FeatureStore, recipe: Recipe, tmp_path: Path, resolved: ResolvedRecipe, capsys: pytest.CaptureFixture[str]
) -> None:
    other, damaged = tmp_path / "other.h5", tmp_path / "damaged.h5"
    write_cache(other, keys_of([1]), rows_of([1]), resolve(recipe.model_copy(update={"fit": "squash"})))
    write_cache(damaged, keys_of([2]), rows_of([2]), resolved)
    with h5py.File(damaged, "r+") as file:
        file["features"][0] = 0
    with store.locked():
        for path in (other, damaged, tmp_path / "absent.h5"):
            store.adopt(path)
    assert held(store, [1, 2]) == []
    said = capsys.readouterr().err
    assert "damaged.h5 is damaged" in said
    assert "it is not used" in said
    assert "other.h5" not in said


def test_the_second_waits_for_the_first_and_says_so(
    store: FeatureStore, resolved: ResolvedRecipe, capsys: pytest.CaptureFixture[str]
) -> None:
    order: list[str] = []

    def second() -> None:
        with FeatureStore(store.folder.parent, resolved).locked():
            order.append("second")

    thread = threading.Thread(target=second)
    with store.locked():
        thread.start()
        time.sleep(0.2)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
    assert "waiting for it" in capsys.readouterr().err


def test_deleting_the_store_while_one_waits_does_not_let_two_in(store: FeatureStore, resolved: ResolvedRecipe) -> None:
    inside: list[int] = []

    def enter() -> None:
        with FeatureStore(store.folder.parent, resolved).locked():
            inside.append(1)
            time.sleep(0.2)
            assert len(inside) == 1
            inside.pop()

    threads = [threading.Thread(target=enter) for _ in range(3)]
    with store.locked():
        threads[0].start()
        time.sleep(0.1)
        lock_path(store.folder.parent, resolved.fingerprint).unlink()
    for thread in threads[1:]:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert inside == []


def test_the_store_is_in_the_main_repository(main_repository: Path) -> None:
    assert private_folder().store == main_repository / ".mirip" / "store"


def test_many_sorted_rows_are_kept_at_once(store: FeatureStore) -> None:
    assert store.dim is None
    seeds = list(range(50))
    with store.locked():
        store.add_sorted(as_keys(keys_of(seeds)), iter([rows_of(seeds[:30]), rows_of(seeds[30:])]), 4)
    assert held(store, [*seeds, 99]) == seeds
    assert store.dim == 4
