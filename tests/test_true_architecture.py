"""The true architecture of the product's recipe, with random weights, through the stage function of extraction."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from benchmarks.true_backbone import make_backbone
from mirip.data.manifest import build_manifest, first_paths, read_manifest
from mirip.data.tables import write_table
from mirip.features.cache.feature_cache import FeatureCache
from mirip.features.extract.extraction import extract, extract_features
from mirip.params import load_params
from mirip.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Two photos of different shapes and a recipe of dinov2-large at 768."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    make_backbone(Path("backbone"), "large", 768)
    Path("images").mkdir()
    for number, shape in enumerate([(900, 600, 3), (300, 800, 3)]):
        pixels = np.random.default_rng(number).integers(0, 256, size=shape, dtype=np.uint8)
        Image.fromarray(pixels).save(f"images/{number}.jpg", quality=95)
    metadata = pd.DataFrame({"image_path": ["0.jpg", "1.jpg"], "tier": ["S", "A"]})
    write_table(Workspace().manifest, build_manifest(metadata, Path("images"), tiers=["S", "A"]).manifest)
    params = {
        "data": {"images": "images", "metadata": "metadata.csv", "tiers": ["S", "A"]},
        "recipes": {"true": {"backbone": "backbone"}},  # all else is the default, which is that of dinov2-large
        "extract": {"recipe": "true", "batch_size": 1, "device": "cpu"},
    }
    Path("params.yaml").write_text(yaml.safe_dump(params))
    return Workspace()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_images_become_rows_of_1024_and_the_same_bits_again(workspace: Workspace, tmp_path: Path) -> None:
    params = load_params()
    assert (params.recipe.image_size, params.recipe.compute_dtype) == (768, "bfloat16")
    summary = extract(workspace, params)
    assert (summary.rows, summary.computed) == (2, 2)
    items = dict(first_paths(read_manifest(workspace.manifest)))
    rows = FeatureCache.open(workspace.features("true"), params.recipe).rows(list(items))
    assert rows.shape == (2, 1024)
    assert np.isfinite(rows).all()
    assert (rows[0] != rows[1]).any()
    (key, path), *_ = items.items()
    again = tmp_path / "again.h5"
    extract_features(
        [(key, path)],
        image_root=params.data.images,
        recipe=params.recipe,
        path=again,
        store_root=tmp_path / "again",
        batch_size=1,
        device="cpu",
        visible=False,
        remember=False,
    )
    assert FeatureCache.open(again).rows([key]).tobytes() == rows[:1].tobytes()
