"""What a ranker has to beat: classical regressors of the tier index on the same features.

Each takes the training side's features (N, D) and tier ranks (N,) and scores the features (M, D) of another side as
(M,) float64, higher is better. None looks at the labels of what it scores.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

_ALPHAS = np.logspace(-1, 6, 15)
_MAX_NEIGHBOURS_OF = 50_000


def ridge_scores(train_x: ArrayLike, train_rank: ArrayLike, test_x: ArrayLike) -> Floats:
    """Score by ridge regression of the tier rank on standardised features (Hoerl & Kennard 1970, Technometrics 12).

    The penalty is one of 15 between 0.1 and 10^6, chosen by efficient leave-one-out on the training side.
    """
    from sklearn.linear_model import RidgeCV

    train, test = _standardised(train_x, test_x)
    rank = np.asarray(train_rank, dtype=np.float64)
    return np.asarray(RidgeCV(alphas=_ALPHAS).fit(train, rank).predict(test), dtype=np.float64)


def knn_scores(train_x: ArrayLike, train_rank: ArrayLike, test_x: ArrayLike, *, n_neighbours: int = 20) -> Floats:
    """Score by the mean tier rank of the nearest training images, in cosine of standardised features.

    Each of the `n_neighbours` (or all N, where there are fewer) weighs by its closeness: the inverse of its
    distance. Of more than 50,000 training images as many are drawn: all against all would be quadratic.
    """
    from sklearn.neighbors import KNeighborsRegressor

    rank = np.asarray(train_rank, dtype=np.float64)
    if len(rank) > _MAX_NEIGHBOURS_OF:
        drawn = np.random.default_rng(0).choice(len(rank), _MAX_NEIGHBOURS_OF, replace=False)
        train_x, rank = np.asarray(train_x)[drawn], rank[drawn]
    train, test = _standardised(train_x, test_x)
    k = min(n_neighbours, len(train))
    model = KNeighborsRegressor(n_neighbors=k, weights="distance", metric="cosine", algorithm="brute")
    return np.asarray(model.fit(train, rank).predict(test), dtype=np.float64)


def _standardised(train_x: ArrayLike, test_x: ArrayLike) -> tuple[Floats, Floats]:
    """Centre and scale by the training side; a feature that is constant there becomes 0."""
    train, test = np.asarray(train_x, dtype=np.float64), np.asarray(test_x, dtype=np.float64)
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    scale = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 1e-12 * (1 + np.abs(mean)))
    return (train - mean) * scale, (test - mean) * scale
