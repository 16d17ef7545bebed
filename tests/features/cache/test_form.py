import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from row_files import flipped, zeroed

from mirip.errors import CacheError
from mirip.features.backbones.recipe import ResolvedRecipe, resolve
from mirip.features.cache.feature_cache import FeatureCache, Header, read_headers, write_cache
from mirip.features.cache.form import lay_out, make_header, read_form
from mirip.features.cache.verification import verify_cache
from mirip.params import Recipe

ATTRIBUTES = {"schema_version": 3, "dim": 4, "recipe": "r" * 900, "fingerprint": "f" * 64}
HASHES = {"content_digest": "0" * 64, "content_xxh3": "1" * 32}


@pytest.fixture(scope="module")
def resolved(dinov2: Path) -> ResolvedRecipe:
    return resolve(Recipe(backbone=str(dinov2), image_size=28, compute_dtype="float32"))


@pytest.fixture
def path(tmp_path: Path, resolved: ResolvedRecipe) -> Path:
    features = np.random.default_rng(0).normal(size=(30, 64))
    write_cache(tmp_path / "a.h5", [f"{i:064x}" for i in range(30)], features, resolved)
    return tmp_path / "a.h5"


def test_a_file_is_laid_out_before_its_hashes_are_known() -> None:
    laid_out = lay_out(5, 4, "float16", ATTRIBUTES | HASHES)
    header, form = make_header(5, 4, "float16", ATTRIBUTES | dict.fromkeys(HASHES, "?" * 64) | HASHES)
    assert laid_out.offsets == form.offsets
    assert len(header) == form.offsets["image_sha256"]
    assert header == make_header(5, 4, "float16", ATTRIBUTES | HASHES)[0]


def test_a_header_of_a_million_rows_takes_no_more_room() -> None:
    few, many = (make_header(rows, 1024, "float16", ATTRIBUTES | HASHES) for rows in (5, 1_000_000))
    assert len(few[0]) == len(many[0]) < 10_000
    assert many[1].end == len(many[0]) + 1_000_000 * (64 + 2048 + 4)


def test_hdf5_finds_what_the_header_says(path: Path) -> None:
    form = read_form(path)
    assert form is not None
    with h5py.File(path) as file:
        assert {name: file[name].id.get_offset() for name in file} == form.offsets
        told = {name: value.decode() if isinstance(value, bytes) else value for name, value in file.attrs.items()}
        kinds = [file.attrs.get_id(name).get_type() for name in ("recipe", "fingerprint", "content_digest")]
    assert told == form.attributes
    assert not any(kind.is_variable_str() for kind in kinds)


def test_reading_loads_no_hdf5(path: Path) -> None:
    code = (
        "import sys; from mirip.features.cache.feature_cache import FeatureCache; "
        f"FeatureCache.open({str(path)!r}); assert 'h5py' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])


def test_damage_is_refused_or_touches_no_value(path: Path, tmp_path: Path) -> None:
    values = FeatureCache.open(path).features
    data, copy = path.read_bytes(), tmp_path / "copy.h5"
    refused = 0
    for damaged in [*flipped(data, 200, 0), *zeroed(data, 60, 0)]:
        copy.write_bytes(damaged)
        start = time.monotonic()
        try:
            assert (FeatureCache.open(copy).features == values).all()
        except CacheError:
            refused += 1
        assert verify_cache(copy).sound == (damaged == data)  # every byte counts
        assert time.monotonic() - start < 2
    assert refused > 200


def test_a_file_that_ends_too_early_or_too_late_is_damaged(path: Path) -> None:
    data = path.read_bytes()
    for other in (data[:-1], data + b"\0", data[:40], b""):
        path.write_bytes(other)
        (found,) = read_headers([path])
        assert isinstance(found, CacheError)
        assert "is damaged" in str(found)
    path.write_bytes(data)
    assert isinstance(read_headers([path])[0], Header)
    assert read_headers([]) == []
