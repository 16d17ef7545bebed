from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from row_files import set_attributes

from mirip.errors import CacheError
from mirip.features.backbones.recipe import ResolvedRecipe, resolve
from mirip.features.cache.feature_cache import FeatureCache, write_cache
from mirip.features.cache.rows import as_keys, read_rows, write_rows
from mirip.features.cache.store import FeatureStore
from mirip.features.cache.verification import Mend, compare_with_manifest, verify_cache, verify_store
from mirip.params import Recipe

N, D = 40, 6


def made() -> tuple[list[str], np.ndarray]:
    rng = np.random.default_rng(0)
    keys = sorted(rng.bytes(32).hex() for _ in range(N))
    return keys, rng.normal(size=(N, D)).astype(np.float16)


@pytest.fixture(scope="module")
def resolved(dinov2: Path) -> ResolvedRecipe:
    return resolve(Recipe(backbone=str(dinov2), image_size=28, compute_dtype="float32"))


@pytest.fixture
def path(tmp_path: Path, resolved: ResolvedRecipe) -> Path:
    write_cache(tmp_path / "features.h5", *made(), resolved)
    return tmp_path / "features.h5"


def change(path: Path, name: str, edit: Callable[[np.ndarray], None]) -> None:
    """Edit a dataset in place, as a bad disk or a careless script would."""
    with h5py.File(path, "r+") as file:
        values = file[name][...]
        edit(values)
        file[name][...] = values


def named(path: Path) -> list[int]:
    return sorted({row.index for row in verify_cache(path).bad_rows})


def test_a_sound_cache_has_no_findings(path: Path, recipe: Recipe) -> None:
    found = verify_cache(path, recipe)
    assert found.sound
    assert found.notes == []
    assert found.rows is not None
    assert len(found.rows.keys) == N


@pytest.mark.slow
@settings(max_examples=4)  # each starts a process; a checksum misses no single bit, the ends are what may be miscounted
@given(row=st.integers(0, N - 1), bit=st.integers(0, 16 * D - 1))
@example(row=0, bit=0)
@example(row=N - 1, bit=16 * D - 1)
def test_any_flipped_bit_of_a_row_names_the_row(
    row: int, bit: int, resolved: ResolvedRecipe, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("flipped") / "features.h5"
    write_cache(path, *made(), resolved)
    offset = read_rows(path).offset + row * 2 * D
    data = bytearray(path.read_bytes())
    data[offset + bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)
    found = verify_cache(path)
    assert {bad.index for bad in found.bad_rows} == {row}
    assert found.bad_rows[0].key == made()[0][row]
    assert "its content has digest" in found.problems[0]


@pytest.mark.slow
@settings(max_examples=4)  # each starts a process
@given(row=st.integers(0, N - 1), bit=st.integers(0, 8 * 64 - 1))
@example(row=0, bit=0)
@example(row=N - 1, bit=8 * 64 - 1)
def test_any_flipped_bit_of_a_key_names_the_row(
    row: int, bit: int, resolved: ResolvedRecipe, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("flipped") / "features.h5"
    write_cache(path, *made(), resolved)
    data = bytearray(path.read_bytes())
    data[data.index(made()[0][row].encode()) + bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)
    found = verify_cache(path)
    assert row in {bad.index for bad in found.bad_rows if "checksum" in bad.fault}
    assert {bad.index for bad in found.bad_rows} <= {row, row + 1}  # after a larger key, the next is out of order
    assert "its content has digest" in found.problems[0]


def test_a_swapped_pair_of_rows_names_both(path: Path) -> None:
    def swap(rows: np.ndarray) -> None:
        rows[[3, 30]] = rows[[30, 3]]

    change(path, "features", swap)
    assert named(path) == [3, 30]


def test_a_swapped_pair_of_keys_names_both_and_the_order(path: Path) -> None:
    def swap(keys: np.ndarray) -> None:
        keys[[3, 30]] = keys[[30, 3]]

    change(path, "image_sha256", swap)
    found = verify_cache(path)
    assert {row.index for row in found.bad_rows if "checksum" in row.fault} == {3, 30}
    assert {row.index for row in found.bad_rows if "smaller key" in row.fault} == {4, 30}


def test_a_key_that_is_there_twice_is_named(path: Path) -> None:
    def double(keys: np.ndarray) -> None:
        keys[8] = keys[7]

    change(path, "image_sha256", double)
    faults = [row.fault for row in verify_cache(path).bad_rows if row.index == 8]
    assert "has the key of the row before it" in faults


@pytest.mark.parametrize(("value", "fault"), [(0, "is all zero"), (np.nan, "is not finite"), (np.inf, "is not finite")])
def test_rows_without_a_value_are_named(path: Path, value: float, fault: str) -> None:
    def spoil(rows: np.ndarray) -> None:
        rows[5] = value

    change(path, "features", spoil)
    key = made()[0][5]
    assert f"row 5 ({key}) {fault}" in [str(row) for row in verify_cache(path).bad_rows]


def test_a_zeroed_row_that_was_written_so_is_named_too(tmp_path: Path, resolved: ResolvedRecipe) -> None:
    keys, features = made()
    features[11] = 0
    write_cache(tmp_path / "features.h5", keys, features, resolved)
    found = verify_cache(tmp_path / "features.h5")
    assert found.problems == []
    assert found.mends == {Mend.RECOMPUTE}
    assert [str(row) for row in found.bad_rows] == [f"row 11 ({keys[11]}) is all zero"]


def test_a_damaged_checksum_leaves_the_row_sound(path: Path) -> None:
    def spoil(checksums: np.ndarray) -> None:
        checksums[2] ^= 4

    change(path, "row_crc32", spoil)
    found = verify_cache(path)
    assert found.bad_rows == []
    assert "checksum of row 2" in found.problems[0]
    assert "the row is sound" in found.problems[0]


def test_a_damaged_quick_hash_keeps_the_file_from_being_loaded_and_is_told(path: Path) -> None:
    set_attributes(path, content_xxh3="0" * 32)
    found = verify_cache(path)
    assert found.bad_rows == []
    assert found.problems == [f"{path}: its quick hash (content_xxh3) is damaged; by the digest, the content is sound"]
    with pytest.raises(CacheError, match="is damaged"):
        FeatureCache.open(path)


def test_a_damaged_digest_is_told_from_damaged_rows(path: Path) -> None:
    set_attributes(path, content_digest="0" * 64)
    found = verify_cache(path)
    assert found.bad_rows == []
    assert "it is the digest that is damaged" in found.problems[1]


@pytest.mark.parametrize("lost", [1, 100, 300, 3000])
def test_a_truncated_file_is_damaged(path: Path, lost: int) -> None:
    path.write_bytes(path.read_bytes()[:-lost])
    found = verify_cache(path)
    assert "features.h5 is damaged" in found.problems[0]
    assert "mirip cache verify" not in found.problems[0]  # which says it
    assert found.mends == {Mend.REWRITE}
    assert found.rows is None


def test_a_missing_file_is_a_problem_not_a_crash(tmp_path: Path) -> None:
    assert "is not found" in verify_cache(tmp_path / "absent.h5").problems[0]


def test_a_recipe_that_is_not_active_is_named(path: Path, recipe: Recipe) -> None:
    found = verify_cache(path, recipe.model_copy(update={"fit": "squash"}))
    assert found.problems == [f"{path}: fit: cache pad, params squash: run `dvc repro extract`"]


def test_a_recipe_without_its_fingerprint_is_damage(path: Path) -> None:
    set_attributes(path, recipe=read_rows(path).attributes["recipe"].replace("pad", "squash"))
    assert "its recipe does not have its fingerprint" in verify_cache(path).problems[0]


def test_rows_of_another_type_than_the_recipe_says_are_named(tmp_path: Path, resolved: ResolvedRecipe) -> None:
    from mirip.features.cache.feature_cache import attributes_of

    keys, features = made()
    path = tmp_path / "features.h5"
    rows = [features.astype(np.float32)]
    write_rows(path, as_keys(keys), rows, dim=D, dtype="float32", attributes=attributes_of(resolved))
    assert "its rows are float32, its recipe says float16" in verify_cache(path).problems[0]


def test_missing_and_surplus_images_are_counted_and_the_first_named(path: Path) -> None:
    keys, _ = made()
    rows = read_rows(path)
    paths = {key: f"{i}.png" for i, key in enumerate(keys)}
    assert compare_with_manifest(rows, paths).sound
    others = {"0" * 64: "zero.png", "1" * 64: "one.png"}
    wanted = {key: paths[key] for key in keys[3:]} | others
    missing, surplus = compare_with_manifest(rows, wanted).problems
    assert f"2 of {N - 1} images of the manifest are not in it, the first zero.png ({'0' * 64})" in missing
    assert f"3 of its rows are of no image of the manifest, the first {keys[0]}" in surplus


def test_shards_are_hashed(tmp_path: Path, resolved: ResolvedRecipe) -> None:
    store = FeatureStore(tmp_path / "store", resolved)
    keys, features = made()
    with store.locked():
        store.add(keys[:10], features[:10])
        store.add(keys[10:], features[10:])
    found = verify_store(tmp_path / "store", resolved.fingerprint)
    assert found.sound
    assert found.notes == ["store: 2 shards, 40 rows"]
    shard = sorted(store.folder.glob("*.h5"))[0]
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    (problem,) = verify_store(tmp_path / "store", resolved.fingerprint).problems
    assert f"{shard} is damaged" in problem
    assert "extractions do not use it" in problem
