import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from mirip.data.manifest import _COLUMNS
from mirip.data.tables import write_table
from mirip.errors import CacheError, DataError
from mirip.features.backbones.recipe import resolve
from mirip.features.cache.feature_cache import write_cache
from mirip.features.exchange.exporting import export_features
from mirip.features.exchange.vector_files import open_vector_file
from mirip.params import Recipe

N, D = 20_000, 4  # more than one block of rows
RECIPE = Recipe(backbone="import:made")
KEYS = sorted(hashlib.sha256(str(number).encode()).hexdigest() for number in range(N))
FEATURES = np.random.default_rng(0).normal(size=(N, D)).astype(np.float16)


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A features file, and a manifest that lists all its images but the last, the first one twice."""
    monkeypatch.chdir(tmp_path)
    write_cache("features/made.h5", KEYS, FEATURES, resolve(RECIPE))
    listed = pd.DataFrame(
        {"image_path": [*(f"{k}.png" for k in range(N - 1)), "copy.png"], "image_sha256": [*KEYS[:-1], KEYS[0]]}
    )
    write_table("data/manifest.parquet", listed.assign(**{name: 0 for name in _COLUMNS if name not in listed}))
    return tmp_path


def export(out: str, recipe: Recipe = RECIPE) -> Path:
    summary = export_features("features/made.h5", out, recipe=recipe, visible=False)
    assert summary == (N, D)
    return Path(out)


def test_parquet_holds_every_row_with_its_first_path(workspace: Path) -> None:
    table = pq.read_table(export("out/features.parquet"))
    assert table["image_sha256"].to_pylist() == KEYS
    assert table["image_path"].to_pylist() == [*(f"{k}.png" for k in range(N - 1)), None]
    features = table["features"].combine_chunks()
    assert features.type.list_size == D
    assert (features.flatten().to_numpy().reshape(N, D) == FEATURES).all()


def test_pandas_reads_it(workspace: Path) -> None:
    table = pd.read_parquet(export("features.parquet"))
    assert list(table) == ["image_sha256", "image_path", "features"]
    assert (np.stack(table["features"].tolist()) == FEATURES).all()
    assert table["features"][0].dtype == np.float32


def test_the_file_says_where_its_features_come_from(workspace: Path) -> None:
    from mirip.features.cache.feature_cache import FeatureCache

    said = pq.read_schema(export("features.parquet")).metadata
    cache = FeatureCache.open("features/made.h5")
    assert said[b"mirip.fingerprint"].decode() == cache.fingerprint
    assert json.loads(said[b"mirip.recipe"]) == cache.recipe
    assert said[b"mirip.content_digest"].decode() == cache.content_digest


def test_rows_are_written_in_groups(workspace: Path) -> None:
    """So that neither writing nor reading needs more than one of them in memory."""
    metadata = pq.ParquetFile(export("features.parquet")).metadata
    assert [metadata.row_group(k).num_rows for k in range(metadata.num_row_groups)] == [16_384, N - 16_384]


def test_npz_holds_the_same(workspace: Path) -> None:
    with np.load(export("features.npz"), allow_pickle=False) as arrays:
        assert arrays["image_sha256"].tolist() == KEYS
        assert arrays["image_path"].tolist() == [*(f"{k}.png" for k in range(N - 1)), ""]
        assert arrays["features"].dtype == np.float32
        assert (arrays["features"] == FEATURES).all()


@pytest.mark.parametrize("ending", ["parquet", "npz"])
def test_what_is_exported_can_be_imported(ending: str, workspace: Path) -> None:
    file = open_vector_file(export(f"features.{ending}"))
    names, vectors = zip(*file.blocks, strict=True)
    assert [name for block in names for name in block] == KEYS
    assert (np.concatenate(vectors) == FEATURES).all()


@pytest.mark.parametrize("ending", ["parquet", "npz"])
def test_equal_features_give_equal_bytes(ending: str, workspace: Path) -> None:
    before = export(f"features.{ending}").read_bytes()
    assert export(f"features.{ending}").read_bytes() == before


def test_without_a_manifest_the_paths_are_empty(workspace: Path) -> None:
    Path("data/manifest.parquet").unlink()
    assert pq.read_table(export("features.parquet"))["image_path"].null_count == N


@pytest.mark.parametrize("name", ["features.csv", "export", "features.parquet.gz"])
def test_another_ending_is_refused(name: str, workspace: Path) -> None:
    with pytest.raises(DataError, match=f"{name} ends neither in .parquet nor in .npz"):
        export(name)
    assert not Path(name).exists()


def test_features_of_another_recipe_are_refused(workspace: Path) -> None:
    with pytest.raises(CacheError, match="was built with backbone import:made, params say import:other"):
        export("features.parquet", Recipe(backbone="import:other"))


def test_a_damaged_cache_leaves_the_old_export(workspace: Path) -> None:
    Path("features.parquet").write_text("old")
    path = Path("features/made.h5")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CacheError, match="is damaged"):
        export("features.parquet")
    assert Path("features.parquet").read_text() == "old"
    assert sorted(entry.name for entry in workspace.iterdir()) == ["data", "features", "features.parquet"]


def test_a_cache_that_is_not_here_is_said(workspace: Path) -> None:
    with pytest.raises(CacheError, match=r"features/no\.h5 is not found"):
        export_features("features/no.h5", "out.parquet", recipe=RECIPE)
