"""What version 0.1 wrote is read: features, stores, checkpoints, and the record of evaluations."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from mirip.data.manifest import read_manifest
from mirip.data.split import read_splits, split_digest
from mirip.features.cache.feature_cache import FeatureCache
from mirip.features.extract import extract
from mirip.models.evaluation import score
from mirip.models.evaluation_count import models_evaluated
from mirip.models.ranking import PairwiseRankingModel
from mirip.params import load_params
from mirip.workspace import Workspace, private_folder

WRITTEN = Path(__file__).parent / "fixtures" / "written_by_0_1"
FEATURES = Path("features/tiny.h5")


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the folder that version 0.1 left, as the working directory and the main repository."""
    shutil.copytree(WRITTEN, tmp_path, dirs_exist_ok=True)
    (tmp_path / "mirip_private").rename(tmp_path / ".mirip")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("lost", ["nothing", "store", "features"])
def test_no_row_is_computed_again_and_the_bytes_are_the_same(written: Path, lost: str) -> None:
    before = FEATURES.read_bytes()
    if lost == "store":
        shutil.rmtree(private_folder().store)
    if lost == "features":
        FEATURES.unlink()
    summary = extract(Workspace(), load_params())
    assert (summary.rows, summary.computed) == (len(read_manifest(Workspace().manifest)), 0)
    if lost != "features":  # else the versions of the libraries that it names are those of now
        assert FEATURES.read_bytes() == before


def test_no_row_is_computed_again_for_a_key_of_the_config_that_changes_no_value(written: Path) -> None:
    extract(Workspace(), load_params())
    before = FEATURES.read_bytes()
    config = json.loads(Path("backbone/config.json").read_text())
    Path("backbone/config.json").write_text(json.dumps(config | {"architectures": ["Other"], "id2label": {"0": "a"}}))
    assert extract(Workspace(), load_params()).computed == 0
    assert FEATURES.read_bytes() == before


def test_the_features_are_those_of_the_recipe(written: Path) -> None:
    cache = FeatureCache.open(FEATURES, load_params().recipe)
    assert cache.content_digest == json.loads(Path("metrics/extract.json").read_text())["content_digest"]


@pytest.mark.parametrize("name", ["one_seed.pt", "two_seeds.pt"])
def test_a_checkpoint_gives_the_scores_that_it_gave(written: Path, name: str) -> None:
    features = FeatureCache.open(FEATURES).features.astype(np.float32)
    model = PairwiseRankingModel.from_checkpoint(f"models/{name}", device="cpu")
    model.check_backbone()
    given = json.loads(Path("scores.json").read_text())
    scores = score(model, features, seed=model.checkpoint.train_params.seed)
    found = {name: scores.mean} | {f"{name} seed {seed}": values for seed, values in scores.by_seed.items()}
    assert sorted(found) == sorted(key for key in given if key.startswith(name))
    for key, values in found.items():
        np.testing.assert_allclose(values, given[key], rtol=0, atol=3e-6)  # processors round differently


def test_the_evaluations_are_counted_on(written: Path) -> None:
    assert models_evaluated(split_digest(read_splits("data/splits.parquet"))) == 2
