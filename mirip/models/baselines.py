"""Baselines: simpler models on the same features, which the trained model has to beat.

Each learns from the training split's features (N, D) and tier ranks (N,) and scores the features (M, D) of another
split as (M,) float64, higher is better. None looks at the labels of what it scores.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

from mirip.data.folds import deal_folds
from mirip.data.pairs import count_cross_tier_pairs
from mirip.metrics.pairwise import pairwise_accuracy, sample_pairs
from mirip.metrics.products import finite, stray_flags_ignored, times
from mirip.models.ranking import PairwiseRankingModel
from mirip.models.ranking_data import RankingData
from mirip.models.trainer import Trainer
from mirip.params import TrainParams
from mirip.randomness import stream

Floats = NDArray[np.float64]

_ALPHAS = np.logspace(-1, 6, 15)
_MAX_NEIGHBOURS_OF = 50_000
_MAX_LOGISTIC_PAIRS = 100_000
_LOGISTIC_PENALTIES = np.logspace(5, -1, 7)  # strong ones first: each fit starts from the last
_FOLDS = 5
_CROSS_VALIDATED_UP_TO = 2_000


def ridge_scores(
    train_x: ArrayLike, train_rank: ArrayLike, test_x: ArrayLike, *, group_id: ArrayLike | None = None, seed: int = 42
) -> Floats:
    """Score by ridge regression of the tier rank on standardised features (Hoerl & Kennard 1970, Technometrics 12).

    The penalty is one of 15 between 0.1 and 10^6, chosen by the squared error on held-out groups: five folds of whole
    groups up to 2,000 images, above that one of the five. Left out one image at a time, the images of its group would
    stay, and the penalty would be that of a model that knows them.

    Args:
        train_x: (N, D).
        train_rank: (N,) integers, higher is better.
        test_x: (M, D).
        group_id: (N,) labels of what is held out together; None: every image is a group of its own.
        seed: deals the groups.
    """
    train, test = _standardised(train_x, test_x)
    rank = np.asarray(train_rank, dtype=np.float64)
    group = np.arange(len(rank)) if group_id is None else np.asarray(group_id)
    errors = np.zeros(len(_ALPHAS))
    for learn, held_out in _folds_of_groups(group, np.asarray(train_rank), stream(seed, "ridge", "folds")):
        predicted = _ridge_path(train[learn], rank[learn], train[held_out], _ALPHAS)
        errors += ((predicted - rank[held_out, None]) ** 2).sum(axis=0)
    best = len(errors) - 1 - int(np.argmin(errors[::-1]))  # of equals the strongest
    return finite(_ridge_path(train, rank, test, _ALPHAS[best : best + 1])[:, 0], "what ridge regression scores")


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


def logistic_scores(
    train_x: ArrayLike, train_rank: ArrayLike, test_x: ArrayLike, *, group_id: ArrayLike | None = None, seed: int = 42
) -> Floats:
    """Score by logistic regression on feature differences of cross-tier pairs, without intercept.

    That is the model of Bradley & Terry (1952, Biometrika 39) whose log-worths are linear in the standardised
    features. It sees all pairs of the training split, or 100,000 drawn at random. The L2 penalty is one of seven
    between 0.1 and 10^5, chosen by the pairwise accuracy on held-out groups: five folds of whole groups up to 2,000
    images, above that one of the five, since a fit on many images takes long and a fifth of them is enough.

    Args:
        train_x: (N, D).
        train_rank: (N,) integers, higher is better.
        test_x: (M, D).
        group_id: (N,) labels of what is held out together; None: every image is a group of its own.
        seed: deals the groups, and draws the pairs.
    """
    train, test = (part.astype(np.float32) for part in _standardised(train_x, test_x))
    rank = np.asarray(train_rank, dtype=np.int64)
    group = np.arange(len(rank)) if group_id is None else np.asarray(group_id)
    right: list[list[float]] = []
    for learn, held_out in _folds_of_groups(group, rank, stream(seed, "logistic", "folds")):
        if count_cross_tier_pairs(rank[learn]) and count_cross_tier_pairs(rank[held_out]):
            path = _logistic_path(train[learn], rank[learn], _LOGISTIC_PENALTIES, seed)
            right.append([pairwise_accuracy(times(train[held_out], weights), rank[held_out]) for weights in path])
    best = int(np.argmax(np.mean(right, axis=0))) if right else len(_LOGISTIC_PENALTIES) // 2
    weights = _logistic_path(train, rank, _LOGISTIC_PENALTIES[best : best + 1], seed)[0]
    return np.asarray(times(test, weights), dtype=np.float64)


def linear_model(feature_dim: int, config: TrainParams) -> PairwiseRankingModel:
    """Build a model whose score is a weighted sum of the standardised features (D,), `config.seeds` being 1."""
    model = PairwiseRankingModel(feature_dim=feature_dim, config=config)
    model.projector.layers = nn.Sequential()  # the standardised features as they are
    model.score_head.layers = nn.Sequential(nn.Linear(feature_dim, 1))
    return model


def linear_scores(train: RankingData, val: RankingData, test_x: NDArray[np.floating], config: TrainParams) -> Floats:
    """Score by a head without hidden layers, trained as `config` says; its epoch is chosen by `val`.

    Raises:
        DataError: a split holds no cross-tier pair.
    """
    alone = config.model_copy(update={"seeds": 1, "device": "cpu"})  # evaluated where there may be no GPU
    model = Trainer(alone, make_model=linear_model).fit(train, val).model
    with torch.inference_mode():
        scores = model.score(torch.from_numpy(np.asarray(test_x, dtype=np.float32)))
    return np.asarray(scores.numpy(), dtype=np.float64)


class BaselineData(NamedTuple):
    """What a baseline may use.

    Attributes:
        train: the training split, N images.
        val: the validation split.
        group_id: (N,) groups of the training split.
        test_x: (M, D) features to score.
        config: options of the trained model.
    """

    train: RankingData
    val: RankingData
    group_id: NDArray[np.generic]
    test_x: NDArray[np.float32]
    config: TrainParams


# Name in metrics/evaluate.json -> the scores (M,) of `test_x`. A new baseline is one entry.
BASELINES: dict[str, Callable[[BaselineData], Floats]] = {
    "knn": lambda data: knn_scores(data.train.features, data.train.tier_rank, data.test_x, seed=data.config.seed),
    "ridge": lambda data: ridge_scores(
        data.train.features, data.train.tier_rank, data.test_x, group_id=data.group_id, seed=data.config.seed
    ),
    "logistic": lambda data: logistic_scores(
        data.train.features, data.train.tier_rank, data.test_x, group_id=data.group_id, seed=data.config.seed
    ),
    "linear": lambda data: linear_scores(data.train, data.val, data.test_x, data.config),
}


def _folds_of_groups(
    group: NDArray[np.generic], rank: NDArray[np.int64], rng: np.random.Generator
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield rows to learn from and rows held out, of whole groups: five times, or once where rows are many."""
    n_folds = min(_FOLDS, len(np.unique(group)))
    if n_folds < 2:
        return
    fold = deal_folds(group, rank, n_folds, rng)
    for k in range(n_folds if len(group) <= _CROSS_VALIDATED_UP_TO else 1):
        yield np.flatnonzero(fold != k), np.flatnonzero(fold == k)


def _ridge_path(x: Floats, rank: Floats, test_x: Floats, alphas: Floats) -> Floats:
    """Return the predictions (M, A) of a ridge regression with intercept for each penalty, by one decomposition."""
    mean, intercept = x.mean(axis=0), rank.mean()
    centred, test = x - mean, test_x - mean
    few = len(x) < x.shape[1]  # the smaller of the two products tells the same
    values, vectors = np.linalg.eigh(times(centred, centred.T) if few else times(centred.T, centred))
    target = rank - intercept if few else times(centred.T, rank - intercept)
    solved = times(vectors, times(vectors.T, target)[:, None] / (np.maximum(values, 0)[:, None] + alphas))
    return np.asarray(times(times(test, centred.T) if few else test, solved) + intercept, dtype=np.float64)


def _logistic_path(
    x: NDArray[np.float32], rank: NDArray[np.int64], penalties: Floats, seed: int
) -> list[NDArray[np.float32]]:
    """Return the weights (D,) for each penalty c: the least mean log(1 + exp(-d)) over pairs plus c / 2 * |w|^2 / N."""
    from scipy.optimize import minimize

    better, worse = sample_pairs(rank, rng=stream(seed, "logistic", "pairs"), max_pairs=_MAX_LOGISTIC_PAIRS)
    n_images, n_pairs = len(x), len(better)

    def loss(weights: Floats, penalty: float) -> tuple[float, Floats]:
        scores = times(x, weights.astype(np.float32))
        difference = scores[better] - scores[worse]
        tail = np.exp(-np.abs(difference))  # one exponential for the loss and its gradient, none that overflows
        wrong = np.where(difference > 0, tail, 1) / (1 + tail)
        # The gradient over pairs is a weighted sum over images: no matrix of differences, (P, D), is ever built.
        by_image = np.bincount(worse, wrong, n_images) - np.bincount(better, wrong, n_images)
        gradient = times(by_image.astype(np.float32), x) / n_pairs + penalty / n_images * weights
        value = float(np.mean(np.log1p(tail) - np.minimum(difference, 0), dtype=np.float64))
        return value + 0.5 * penalty / n_images * float(times(weights, weights)), gradient.astype(np.float64)

    weights, path = np.zeros(x.shape[1]), []
    for penalty in penalties:
        options = {"maxiter": 100, "ftol": 1e-6, "gtol": 1e-5}
        weights = minimize(loss, weights, args=(penalty,), jac=True, method="L-BFGS-B", options=options).x
        path.append(weights.astype(np.float32))
    return path


def _standardised(train_x: ArrayLike, test_x: ArrayLike) -> tuple[Floats, Floats]:
    """Centre and scale by the training split; a feature that is constant there becomes 0."""
    train, test = np.asarray(train_x, dtype=np.float64), np.asarray(test_x, dtype=np.float64)
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    scale = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 1e-12 * (1 + np.abs(mean)))
    return (train - mean) * scale, (test - mean) * scale
