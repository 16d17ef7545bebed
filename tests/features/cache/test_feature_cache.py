import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from row_files import set_attributes

from mirip.errors import CacheError
from mirip.features.backbones.recipe import ResolvedRecipe, resolve
from mirip.features.cache.feature_cache import FeatureCache, attributes_of, write_cache
from mirip.features.cache.rows import as_keys, read_rows, write_rows
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
        assert file.attrs["fingerprint"].decode() == resolved.fingerprint
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


def test_the_active_recipe_is_checked(path: Path, recipe: Recipe) -> None:
    assert FeatureCache.open(path, recipe).recipe["fit"] == "pad"


OTHERWISE = {
    "revision": "f" * 40,
    "weights_sha256": "0" * 64,
    "image_size": 42,
    "fit": "squash",
    "interpolation": "bilinear",
    "pooling": "mean",
    "normalize": "l2",
    "compute_dtype": "bfloat16",
    "stored_dtype": "float32",
}


def test_every_field_of_a_recipe_is_among_those_refused_here() -> None:
    """The backbone itself has a test of its own."""
    assert OTHERWISE.keys() | {"backbone"} == Recipe.model_fields.keys()


@pytest.mark.parametrize(("name", "value"), OTHERWISE.items())
def test_a_cache_of_another_recipe_is_refused_naming_the_field(
    path: Path, recipe: Recipe, resolved: ResolvedRecipe, name: str, value: object
) -> None:
    if name == "revision":  # of a folder it says nothing
        resolved = replace(resolved, backbone="facebook/dinov2-large", revision="0" * 40)
        write_cache(path, *made(), resolved)
        recipe = recipe.model_copy(update={"backbone": "facebook/dinov2-large"})
    said = f"features.h5 was built with {name} {getattr(resolved, name)}, params say {value}"
    with pytest.raises(CacheError, match=rf"{said}.*run `dvc repro extract`"):
        FeatureCache.open(path, recipe.model_copy(update={name: value}))


def test_a_cache_of_another_backbone_is_refused(path: Path, recipe: Recipe, other_dinov2: Path) -> None:
    with pytest.raises(CacheError, match="was built with weights_sha256"):
        FeatureCache.open(path, recipe.model_copy(update={"backbone": str(other_dinov2)}))


def test_a_recipe_that_does_not_have_its_fingerprint_is_damage(path: Path) -> None:
    set_attributes(path, recipe=read_rows(path).attributes["recipe"].replace("pad", "squash"))
    with pytest.raises(CacheError, match="does not have its fingerprint"):
        FeatureCache.open(path)


def test_what_is_loaded_is_what_was_written(path: Path) -> None:
    keys, features = made()
    cache = FeatureCache.open(path)
    assert cache.features.tobytes() == features[np.argsort(keys)].tobytes()
    assert cache.features.flags.writeable


@pytest.mark.slow
@given(row=st.integers(0, N - 1), column=st.integers(0, D - 1), bit=st.integers(0, 15))
def test_a_cache_with_any_flipped_bit_is_refused(
    row: int, column: int, bit: int, resolved: ResolvedRecipe, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("flipped") / "features.h5"
    write_cache(path, *made(), resolved)
    with h5py.File(path, "r+") as file:
        values = file["features"][...].view(np.uint16)
        values[row, column] ^= 1 << bit
        file["features"][...] = values.view(np.float16)
    with pytest.raises(CacheError, match=r"damaged.*`mirip cache verify`.*`dvc repro extract`"):
        FeatureCache.open(path)


def test_a_cache_with_swapped_rows_is_refused(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        rows = file["features"][...]
        rows[[3, 4]] = rows[[4, 3]]
        file["features"][...] = rows
    with pytest.raises(CacheError, match="is damaged, its content has digest"):
        FeatureCache.open(path)


@pytest.mark.slow
def test_loading_takes_little_more_memory_than_the_features(tmp_path: Path, resolved: ResolvedRecipe) -> None:
    n, dim = 60_000, 1024  # 123 MB
    path = tmp_path / "large.h5"
    keys = as_keys(f"{i:064x}" for i in range(n))
    block = np.ones((n // 10, dim), dtype=np.float16)
    write_rows(path, keys, [block] * 10, dim=dim, dtype="float16", attributes=attributes_of(resolved))
    code = (
        "from pathlib import Path; from mirip.features.cache.feature_cache import FeatureCache\n"
        "peak = lambda: 1024 * int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])\n"
        "before = peak()\n"
        f"cache = FeatureCache.open({str(path)!r})\n"
        "print((peak() - before) / cache.features.nbytes)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0.9 < float(run.stdout) < 1.5


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
