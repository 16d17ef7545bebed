"""What tests of stages share: a small project with params, manifest, splits, features and a trained model."""

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from numpy.typing import NDArray

from mirip.data.file_data import FILE_DATA
from mirip.data.split import DataSplitter, read_splits
from mirip.data.statistics import STATISTICS
from mirip.data.tables import write_csv, write_table
from mirip.features.backbones.recipe import ResolvedRecipe
from mirip.features.cache.feature_cache import FeatureCache, write_cache
from mirip.models.checkpoint import save_checkpoint
from mirip.models.evaluation import score
from mirip.models.ranking import PairwiseRankingModel
from mirip.models.scores import public_scores
from mirip.models.trainer import Trainer
from mirip.models.training import out_of_fold_table, train_ranker
from mirip.params import TrainParams, load_params

N = 240


class TrainedProject:
    """A project in a folder; its methods break it in one way each."""

    def __init__(self, folder: Path, project_root: Path) -> None:
        self.folder, self._project_root = folder, project_root

    def build(self) -> None:
        """Build everything up to the trained model."""
        self.write_params()
        manifest = _manifest()
        write_table(self.folder / "data/manifest.parquet", manifest)
        splits = DataSplitter(train=0.6, val=0.1, test=0.3).split(manifest)
        write_table(self.folder / "data/splits.parquet", splits)
        self.write_features(splits)
        self.train()

    def train(self, **options: Any) -> None:
        """Train the model again, with other options if given."""
        params = load_params(self.folder / "params.yaml")
        splits = read_splits(self.folder / "data/splits.parquet")
        cache = FeatureCache.open(self.folder / params.features_path, params.recipe)
        config = TrainParams(max_epochs=4, images_per_step=64, learning_rate=3e-3, calibration_folds=2, **options)
        found = train_ranker(splits, cache, Trainer(config), tiers=params.data.tiers, audited=True)
        save_checkpoint(self.folder / "models/best_model.pt", found.checkpoint)
        write_table(self.folder / "models/out_of_fold.parquet", out_of_fold_table(splits, found.out_of_fold))

    def score_test_split(self) -> None:
        """Write metrics/scores.csv, as the stage evaluate does."""
        params = load_params(self.folder / "params.yaml")
        splits = read_splits(self.folder / "data/splits.parquet")
        test = splits[splits["split"] == "test"]
        features = FeatureCache.open(self.folder / params.features_path).rows(test["image_sha256"].tolist())
        model = PairwiseRankingModel.from_checkpoint(self.folder / "models/best_model.pt", device="cpu")
        write_csv(self.folder / "metrics/scores.csv", public_scores(test, score(model, features, seed=42)), digits=9)

    def write_params(self, **sections: dict[str, Any]) -> None:
        """Write params.yaml as the project's own, with a recipe of no weights and fewer resamples."""
        values = yaml.safe_load((self._project_root / "params.yaml").read_text(encoding="utf-8"))
        values["recipes"] = {"tiny": {"backbone": "elsewhere/tiny", "image_size": 28}}
        values["extract"]["recipe"] = "tiny"
        values["data"] |= {"group": ["artist"], "context": ["medium"]}
        values["evaluate"]["n_bootstrap"] = values["audit"]["n_bootstrap"] = 200
        for name, section in sections.items():
            values[name] |= section
        (self.folder / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")

    def features(self, splits: pd.DataFrame) -> NDArray[np.float64]:
        """Features (N, 16) of which a few directions tell the tier."""
        features = np.random.default_rng(1).normal(size=(len(splits), 16))
        features[:, :4] += splits["tier_rank"].to_numpy()[:, None]
        return features

    def write_features(self, splits: pd.DataFrame, features: NDArray[np.float64] | None = None, **fields: Any) -> None:
        """Write `features`, or those of the method of that name; `fields` are of another recipe."""
        features = self.features(splits) if features is None else features
        recipe = ResolvedRecipe(
            backbone="elsewhere/tiny",
            revision=None,
            weights_sha256="0" * 64,
            image_size=28,
            fit="pad",
            interpolation="bicubic",
            pooling="cls",
            normalize="none",
            compute_dtype="bfloat16",
            stored_dtype="float16",
            model_type="dinov2",
            config_sha256="0" * 64,
            size_px=28,
            patch_px=14,
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
            mean_std_source="ImageNet",
            folder=Path("elsewhere/tiny"),
        )
        write_cache(
            self.folder / "features/tiny.h5", splits["image_sha256"].tolist(), features, replace(recipe, **fields)
        )

    def outputs(self) -> dict[str, bytes]:
        """Bytes of everything under metrics/, by path."""
        paths = sorted(path for path in (self.folder / "metrics").rglob("*") if path.is_file())
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in paths}


@pytest.fixture(scope="session")
def _built(tmp_path_factory: pytest.TempPathFactory, project_root: Path) -> Path:
    folder = tmp_path_factory.mktemp("trained_project")
    TrainedProject(folder, project_root).build()
    return folder


@pytest.fixture
def trained_project(
    _built: Path, tmp_path: Path, project_root: Path, monkeypatch: pytest.MonkeyPatch
) -> TrainedProject:
    """A project as it stands before evaluate and audit, as working directory; the column university tells the tier."""
    shutil.copytree(_built, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return TrainedProject(tmp_path, project_root)


def _manifest() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rank = rng.choice(4, size=N, p=[0.25, 0.4, 0.25, 0.1])
    artist = rng.integers(0, 160, size=N)
    medium = np.where(rng.random(N) < 0.5, "oil", "ink")
    return pd.DataFrame(
        {
            "image_path": [f"images/{k}.jpg" for k in range(N)],
            "row": np.arange(1, N + 1),
            "image_sha256": [hashlib.sha256(str(k).encode()).hexdigest() for k in range(N)],
            "width_px": rng.integers(60, 90, N).astype(np.int32),
            "height_px": rng.integers(60, 90, N).astype(np.int32),
            "file_bytes": rng.integers(1000, 9000, N),
            "format": ["JPEG"] * N,
            "perceptual_hash": rng.integers(1, 2**64, size=N, dtype=np.uint64),
            **{name: rng.random(N).astype(np.float32) for name in STATISTICS},
            "jpeg_quality": np.full(N, 75, np.float32),
            **{name: np.full(N, "" if dtype == "str" else 1, dtype) for name, (_, dtype) in FILE_DATA.items()},
            "tier": ["CBAS"[r] for r in rank],
            "tier_rank": rank.astype(np.int8),
            "group_id": pd.factorize(artist)[0].astype(np.int64),
            "context": medium,
            "meta_artist": [f"artist {a}" for a in artist],
            "meta_medium": medium,
            "meta_title": [f"untitled {k}" for k in range(N)],
            "meta_university": [f"university {r * 2 + k % 2}" for k, r in enumerate(rank)],
        }
    )
