"""Baselines: simpler models on the same features, which the trained model has to beat.

Each learns from the training split's features (N, D) and tier ranks (N,) and scores the features (M, D) of another
split as (M,) float64, higher is better. None looks at the labels of what it scores.
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

from mirip.metrics.products import finite, stray_flags_ignored
from mirip.models.linear import METHODS, fit_linear_rankers
from mirip.models.ranking import PairwiseRankingModel
from mirip.models.ranking_data import RankingData
from mirip.models.trainer import Trainer
from mirip.params import TrainParams
from mirip.randomness import stream

Floats = NDArray[np.float64]

# Names in metrics/evaluate.json. A new baseline is a name here and its scores in `baseline_scores`.
BASELINES = ("knn", "ridge", "logistic", "linear")

_MAX_NEIGHBOURS_OF = 50_000


def knn_scores(
    train_x: ArrayLike, train_rank: ArrayLike, test_x: ArrayLike, *, n_neighbours: int = 20, seed: int = 42
) -> Floats:
    """Score by the mean tier rank of the nearest training images, in cosine of standardised features.

    Each of the `n_neighbours` (or all N, where there are fewer) weighs by its closeness: the inverse of its
    distance. Of more than 50,000 training images as many are drawn: all against all would be quadratic.
    """
    from sklearn.neighbors import KNeighborsRegressor

    rank = np.asarray(train_rank, dtype=np.float64)
    if len(rank) > _MAX_NEIGHBOURS_OF:
        drawn = stream(seed, "knn").choice(len(rank), _MAX_NEIGHBOURS_OF, replace=False)
        train_x, rank = np.asarray(train_x)[drawn], rank[drawn]
    train, test = _standardised(train_x, test_x)
    k = min(n_neighbours, len(train))
    model = KNeighborsRegressor(n_neighbors=k, weights="distance", metric="cosine", algorithm="brute")
    with stray_flags_ignored():
        scores = model.fit(train, rank).predict(test)
    return finite(np.asarray(scores, dtype=np.float64), "what the nearest neighbours score")


def linear_model(feature_dim: int, config: TrainParams) -> PairwiseRankingModel:
    """Build a model whose score is a weighted sum of the standardised features (D,), of one head alone."""
    model = PairwiseRankingModel(feature_dim=feature_dim, config=config)
    model.projector.layers = nn.Sequential()  # the standardised features as they are
    model.score_head.layers = nn.Sequential(nn.Linear(feature_dim, 1))
    return model


def linear_scores(train: RankingData, val: RankingData, test_x: NDArray[np.floating], config: TrainParams) -> Floats:
    """Score by a head without hidden layers, trained as `config` says; its epoch is chosen by `val`.

    Raises:
        DataError: a split holds no cross-tier pair.
    """
    only = {"seeds": 1, "members": ("head",), "device": "cpu"}  # evaluated where there may be no GPU
    alone = config.model_copy(update=only)
    model = Trainer(alone, make_model=linear_model).fit(train, val).model
    with torch.inference_mode():
        scores = model.score(torch.from_numpy(np.asarray(test_x, dtype=np.float32)))
    return np.asarray(scores.numpy(), dtype=np.float64)


def baseline_scores(
    train: RankingData,
    val: RankingData,
    test_x: NDArray[np.float32],
    config: TrainParams,
    *,
    members: Mapping[str, Floats] | None = None,
) -> dict[str, Floats]:
    """Fit the baselines, and score other images: name in BASELINES -> (M,).

    All learn from the training split alone; the linear head chooses its epoch by the validation split, as the model
    does, and is trained as `config` says.

    Args:
        train: the training split.
        val: the validation split.
        test_x: (M, D) features to score.
        config: options of the trained model.
        members: scores (M,) of the same images by the model's members. A linear member that learned from all pairs is
            that baseline, and is not fitted again; with `pair_context: same` it is another one.

    Raises:
        DataError: a split holds no cross-tier pair.
    """
    same = (members or {}) if config.pair_context == "any" else {}
    found: dict[str, Floats] = {method: same[method] for method in METHODS if method in same}
    if methods := [method for method in METHODS if method not in found]:
        rankers = fit_linear_rankers(
            train.features, train.tier_rank, group=train.group, methods=methods, seed=config.seed
        )
        found |= {method: ranker.score(test_x) for method, ranker in rankers.items()}
    found["knn"] = knn_scores(train.features, train.tier_rank, test_x, seed=config.seed)
    found["linear"] = linear_scores(train, val, test_x, config)
    return {name: found[name] for name in BASELINES}


def _standardised(train_x: ArrayLike, test_x: ArrayLike) -> tuple[Floats, Floats]:
    """Centre and scale by the training split; a feature that is constant there becomes 0."""
    train, test = np.asarray(train_x, dtype=np.float64), np.asarray(test_x, dtype=np.float64)
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    scale = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 1e-12 * (1 + np.abs(mean)))
    return (train - mean) * scale, (test - mean) * scale
