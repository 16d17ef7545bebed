"""A trained model on the test split: what evaluate, audit and the command line share."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from mirip.data.split import check_tiers, public_id, split_digest
from mirip.errors import CheckpointError, DataError
from mirip.features.backbones.recipe import first_decisive_difference
from mirip.features.cache.feature_cache import FeatureCache
from mirip.files import sha256_bytes
from mirip.metrics.calibration import tier_probabilities
from mirip.models.baselines import knn_scores, logistic_scores, ridge_scores
from mirip.models.checkpoint import Checkpoint
from mirip.models.evaluator import Evaluation, Evaluator
from mirip.models.linear import linear_scores
from mirip.models.ranking import PairwiseRankingModel
from mirip.models.training import ranking_data
from mirip.params import EvaluateParams, TrainParams

Floats = NDArray[np.float64]

BASELINES = ("knn", "ridge", "logistic", "linear")


def load_trained_model(
    path: Path | str, splits: pd.DataFrame, cache: FeatureCache, tiers: Sequence[str]
) -> tuple[PairwiseRankingModel, Checkpoint]:
    """Load a model on the CPU, if it was trained on these features, this split and these tiers.

    Raises:
        SplitError: the split was made with other tiers.
        CheckpointError: the file is missing or damaged, or the model was trained on something else.
    """
    check_tiers(splits, tiers)
    model = PairwiseRankingModel.from_checkpoint(path, device="cpu")
    assert model.checkpoint is not None
    trained = model.checkpoint
    if trained.fingerprint != cache.fingerprint:
        name, expected, found = first_decisive_difference(trained.recipe, cache.recipe)
        raise CheckpointError(
            f"{path} was trained on features with {name} {expected}, {cache.path} has {found}: run `dvc repro train`"
        )
    if trained.split_digest != (found_digest := split_digest(splits)):
        raise CheckpointError(
            f"{path} was trained on the split {trained.split_digest[:12]}, here is {found_digest[:12]}: "
            "run `dvc repro train`"
        )
    if trained.tiers != list(tiers):
        raise CheckpointError(
            f"{path} was trained on the tiers {', '.join(trained.tiers)}, here is {', '.join(tiers)}: "
            "run `dvc repro train`"
        )
    return model, trained


def test_split(splits: pd.DataFrame) -> pd.DataFrame:
    """Return the test split's rows.

    Raises:
        DataError: it holds no cross-tier pair.
    """
    test = splits[splits["split"] == "test"]
    if test["tier_rank"].nunique() < 2:
        tiers = ", ".join(sorted(test["tier"].unique())) or "none"
        raise DataError(
            f"the test split holds {len(test)} images of the tiers {tiers}, so no pair to judge: raise split.test"
        )
    return test


def model_scores(model: PairwiseRankingModel, features: NDArray[np.float32]) -> Floats:
    """Score features (N, D) as (N,) float64, higher is better."""
    with torch.inference_mode():
        return np.asarray(model.score(torch.from_numpy(features)).numpy(), dtype=np.float64)


def seed_scores(model: PairwiseRankingModel, features: NDArray[np.float32]) -> dict[int, Floats]:
    """Score features (N, D) by each head alone, seed -> (N,) float64; empty where the model has one head."""
    if model.n_members == 1:
        return {}
    assert model.checkpoint is not None
    first = int(model.checkpoint.config["seed"])
    with torch.inference_mode():
        by_head = model.score_members(torch.from_numpy(features)).numpy().astype(np.float64)
    return dict(enumerate(by_head, start=first))


def baseline_scores(
    splits: pd.DataFrame, cache: FeatureCache, test_x: NDArray[np.float32], config: TrainParams
) -> dict[str, Floats]:
    """Fit the baselines, and score the features (M, D) of the test split: name -> (M,).

    All learn from the training split alone; the linear head chooses its epoch by the validation split, as the model
    does, and is trained as `config` says.
    """
    train, val = ranking_data(splits, cache, "train"), ranking_data(splits, cache, "val")
    group_id = splits.loc[splits["split"] == "train", "group_id"].to_numpy()
    return {
        "knn": knn_scores(train.features, train.tier_rank, test_x),
        "ridge": ridge_scores(train.features, train.tier_rank, test_x),
        "logistic": logistic_scores(train.features, train.tier_rank, test_x, group_id=group_id),
        "linear": linear_scores(train, val, test_x, config),
    }


def judge(
    model: PairwiseRankingModel,
    images: pd.DataFrame,
    cache: FeatureCache,
    settings: EvaluateParams,
    baselines: Mapping[str, Floats] | None = None,
) -> tuple[Evaluation, Floats]:
    """Score images by their cached features and judge the scores.

    Args:
        model: on the CPU, loaded from a checkpoint.
        images: N rows with image_sha256, tier_rank, group_id and context.
        cache: holds their features.
        settings: target, confidence and resamples.
        baselines: name -> scores (N,) of other models on the same images.

    Returns:
        The evaluation, and the scores (N,).
    """
    assert model.checkpoint is not None
    features = cache.rows(images["image_sha256"].tolist())
    scores = model_scores(model, features)
    evaluation = Evaluator(**settings.model_dump()).evaluate(
        scores,
        images["tier_rank"].to_numpy(),
        tiers=model.checkpoint.tiers,
        # By the names that scores.csv bears: whoever resamples that file draws the groups in the same order.
        group_id=np.array([_hashed(value) for value in images["group_id"]]),
        context=images["context"].to_numpy(),
        temperature=model.checkpoint.temperature,
        baselines=baselines,
        seed_scores=seed_scores(model, features),
        tier_probability=tier_probabilities(
            scores, model.checkpoint.ordinal_slope, model.checkpoint.ordinal_thresholds
        ),
    )
    return evaluation, scores


def public_scores(test: pd.DataFrame, scores: Floats, by_seed: Mapping[int, Floats] | None = None) -> pd.DataFrame:
    """Return id, group, tier, tier_rank, context, score; id, group and context are hashes of 16 digits.

    With `by_seed`, seed -> scores (M,) of one head alone, a column score_seed_<seed> for each follows.
    """
    return pd.DataFrame(
        {
            "id": [public_id(*key) for key in zip(test["image_sha256"], test["image_path"], strict=True)],
            "group": [_hashed(value) for value in test["group_id"]],
            "tier": test["tier"].to_numpy(),
            "tier_rank": test["tier_rank"].to_numpy(),
            "context": [_hashed(value) for value in test["context"]],
            "score": scores,
            **{f"score_seed_{seed}": values for seed, values in (by_seed or {}).items()},
        }
    )


def _hashed(value: object) -> str:
    return sha256_bytes(str(value).encode())[:16]
