import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirip.errors import CacheError
from mirip.features.cache import FeatureCache, verify_cache, write_cache
from mirip.features.recipe import ResolvedRecipe, resolve
from mirip.params import Recipe

N, D = 40, 6


def made() -> tuple[list[str], np.ndarray]:
    rng = np.random.default_rng(0)
    keys = [rng.bytes(32).hex() for _ in range(N)]
    return keys, rng.normal(size=(N, D)).astype(np.float16)


@pytest.fixture(scope="module")
def resolved(dinov2: Path) -> ResolvedRecipe:
    return resolve(Recipe(backbone=str(dinov2), image_size=28, compute_dtype="float32"))


@pytest.fixture
def path(tmp_path: Path, resolved: ResolvedRecipe) -> Path:
    write_cache(tmp_path / "features.h5", *made(), resolved)
    return tmp_path / "features.h5"


def test_rows_come_in_the_order_asked_for_also_repeated(path: Path) -> None:
    keys, features = made()
    asked = [7, 3, 3, 39, 0]
    found = FeatureCache.open(path).rows([keys[i] for i in asked])
    assert found.dtype == np.float32
    assert (found == features[asked].astype(np.float32)).all()


def test_missing_keys_are_counted_and_the_first_named(path: Path) -> None:
    keys, _ = made()
    with pytest.raises(CacheError, match=f"lacks 2 of 3 images, the first {'0' * 64}: run `dvc repro extract`"):
        FeatureCache.open(path).rows([keys[0], "0" * 64, "f" * 64])


def test_the_file_is_as_other_tools_expect_it(path: Path, resolved: ResolvedRecipe) -> None:
    keys, features = made()
    with h5py.File(path) as file:
        assert file["image_sha256"].dtype == "S64"
        assert file["image_sha256"][...].tolist() == [key.encode() for key in sorted(keys)]
        assert file["features"].dtype == np.float16
        assert file["features"].chunks is None
        assert (file["features"][...] == features[np.argsort(keys)]).all()
        assert file.attrs["fingerprint"] == resolved.fingerprint
        assert json.loads(file.attrs["recipe"])["weights_sha256"] == resolved.weights_sha256
        assert file.attrs["dim"] == D
        assert {"schema_version", "content_digest", "torch_version"} <= set(file.attrs)


def test_the_bytes_do_not_depend_on_order_or_name(path: Path, tmp_path: Path, resolved: ResolvedRecipe) -> None:
    keys, features = made()
    order = np.random.default_rng(1).permutation(N)
    write_cache(tmp_path / "other.h5", [keys[i] for i in order], features[order], resolved)
    assert (tmp_path / "other.h5").read_bytes() == path.read_bytes()


def test_a_cache_is_readable_by_all_whom_the_umask_lets(path: Path, tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_read_only_file_in_a_read_only_folder_opens(path: Path) -> None:
    path.chmod(0o444)
    path.parent.chmod(0o555)
    try:
        assert len(FeatureCache.open(path)) == N
    finally:
        path.parent.chmod(0o755)


def test_the_recipe_in_force_is_checked(path: Path, recipe: Recipe) -> None:
    assert FeatureCache.open(path, recipe).recipe["fit"] == "pad"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image_size", 42),
        ("fit", "squash"),
        ("interpolation", "bilinear"),
        ("pooling", "mean"),
        ("normalize", "l2"),
        ("compute_dtype", "bfloat16"),
        ("stored_dtype", "float32"),
        ("weights_sha256", "0" * 64),
    ],
)
def test_a_cache_of_another_recipe_is_refused_naming_the_field(
    path: Path, recipe: Recipe, resolved: ResolvedRecipe, name: str, value: object
) -> None:
    said = f"features.h5 was built with {name} {getattr(resolved, name)}, params say {value}"
    with pytest.raises(CacheError, match=rf"{said}.*run `dvc repro extract`"):
        FeatureCache.open(path, recipe.model_copy(update={name: value}))


def test_a_cache_of_another_backbone_is_refused(path: Path, recipe: Recipe, other_dinov2: Path) -> None:
    with pytest.raises(CacheError, match="was built with weights_sha256"):
        FeatureCache.open(path, recipe.model_copy(update={"backbone": str(other_dinov2)}))


def test_a_recipe_that_does_not_have_its_fingerprint_is_damage(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file.attrs["recipe"] = file.attrs["recipe"].replace("pad", "squash")
    with pytest.raises(CacheError, match="does not have its fingerprint"):
        FeatureCache.open(path)


def test_a_sound_cache_has_no_problems(path: Path) -> None:
    assert verify_cache(path) == []


@given(row=st.integers(0, N - 1), column=st.integers(0, D - 1), bit=st.integers(0, 15))
def test_any_flipped_bit_is_found(
    row: int, column: int, bit: int, resolved: ResolvedRecipe, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("flipped") / "features.h5"
    write_cache(path, *made(), resolved)
    with h5py.File(path, "r+") as file:
        values = file["features"][...].view(np.uint16)
        values[row, column] ^= 1 << bit
        file["features"][...] = values.view(np.float16)
    assert any("is damaged" in problem for problem in verify_cache(path))


def test_swapped_rows_are_found(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        rows = file["features"][...]
        rows[[3, 4]] = rows[[4, 3]]
        file["features"][...] = rows
    assert any("is damaged" in problem for problem in verify_cache(path))


@pytest.mark.parametrize(("value", "kind"), [(0, "all zero"), (np.nan, "not finite"), (np.inf, "not finite")])
def test_bad_rows_are_named(path: Path, value: float, kind: str) -> None:
    with h5py.File(path, "r+") as file:
        file["features"][5] = value
        key = file["image_sha256"][5].decode()
    assert f"row 5 ({key}) is {kind}" in verify_cache(path)


def test_a_missing_file_is_a_problem_not_a_crash(tmp_path: Path) -> None:
    assert "is not here" in verify_cache(tmp_path / "absent.h5")[0]


@pytest.mark.parametrize("value", [np.nan, np.inf, 7e4])
def test_what_float16_cannot_hold_is_not_written(tmp_path: Path, resolved: ResolvedRecipe, value: float) -> None:
    keys, features = made()
    wide = features.astype(np.float32)
    wide[8, 2] = value
    with pytest.raises(CacheError, match=f"{keys[8]} are not finite as float16"):
        write_cache(tmp_path / "features.h5", keys, wide, resolved)
    assert not list(tmp_path.iterdir())


def test_a_key_that_is_there_twice_is_not_written(tmp_path: Path, resolved: ResolvedRecipe) -> None:
    keys, features = made()
    with pytest.raises(CacheError, match="twice"):
        write_cache(tmp_path / "features.h5", [*keys[:-1], keys[0]], features, resolved)


def test_keys_and_rows_must_be_as_many(tmp_path: Path, resolved: ResolvedRecipe) -> None:
    keys, features = made()
    with pytest.raises(CacheError, match="one row for each key"):
        write_cache(tmp_path / "features.h5", keys, features[:-1], resolved)
