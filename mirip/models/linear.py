"""Linear rankers, fitted in closed form or nearly so: ridge and logistic regression with penalties chosen by groups.

They serve twice, from one fit: as members of the product's model and as baselines beside it. Features are standardised
by the images learned from; a feature that is constant there weighs nothing. Both methods run in the basis of the
features' principal axes, K = min(N, D) of them: one decomposition serves every penalty of both, and the logistic loss,
scaled by the axes' spread, needs a few steps instead of dozens.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mirip.data.folds import deal_folds
from mirip.data.pairs import count_cross_tier_pairs
from mirip.metrics.pairwise import context_codes, pairwise_accuracy, sample_fair_pairs
from mirip.metrics.products import finite, times
from mirip.params import LinearMethod
from mirip.randomness import stream

Floats = NDArray[np.float64]
Rows = NDArray[np.float32]
Indices = NDArray[np.int64]

METHODS: tuple[LinearMethod, ...] = get_args(LinearMethod)

_RIDGE_PENALTIES = np.logspace(-1, 6, 15)
_LOGISTIC_PENALTIES = np.logspace(5, -1, 7)  # strong ones first: each fit starts from the last
_MAX_PAIRS = 100_000
_CURVATURE = 0.3  # of the logistic loss in units of the squared one's: any number scales the axes about right
_FOLDS = 5
_CROSS_VALIDATED_UP_TO = 2_000
_ROWS_AT_ONCE = 4096  # few enough that many images are never held in float64 at once


class LinearRanker(NamedTuple):
    """A score that is linear in the features: (x - mean) * scale @ weights.

    Attributes:
        mean: (D,) of the images learned from.
        scale: (D,) 1 / deviation there; 0 for a feature that is constant.
        weights: (D,) of the standardised features.
    """

    mean: Floats
    scale: Floats
    weights: Floats

    def score(self, features: ArrayLike) -> Floats:
        """Score features (M, D) as (M,) float64, higher is better."""
        x = np.asarray(features, dtype=np.float64)
        return finite(times((x - self.mean) * self.scale, self.weights), "what a linear ranker scores")


def fit_linear_rankers(
    features: ArrayLike,
    tier_rank: ArrayLike,
    *,
    group: ArrayLike | None = None,
    context: ArrayLike | None = None,
    methods: Sequence[LinearMethod] = METHODS,
    seed: int = 42,
) -> dict[LinearMethod, LinearRanker]:
    """Fit linear rankers, each with the penalty that serves held-out groups best.

    ridge: ridge regression of the tier rank (Hoerl & Kennard 1970, Technometrics 12), its penalty one of 15 between 0.1
    and 10^6, by the squared error. logistic: logistic regression on feature differences of cross-tier pairs, without
    intercept, the model of Bradley & Terry (1952, Biometrika 39) whose log-worths are linear in the features, on all
    pairs or 100,000 drawn at random, its penalty one of seven between 0.1 and 10^5, by the pairwise accuracy. Held out
    are five folds of whole groups up to 2,000 images, above that one of the five. Left out one image at a time, the
    images of its group would stay, and the penalty would be that of a model that knows them.

    Args:
        features: (N, D).
        tier_rank: (N,) integers, higher is better, of two tiers or more.
        group: (N,) labels of what is held out together; None: every image is a group of its own.
        context: (N,) codes; only pairs of one context count, and ridge regression is that of the differences from the
            context's mean. None: any two images may be compared.
        methods: which of METHODS.
        seed: deals the groups, draws the pairs.

    Returns:
        A ranker for each method.
    """
    x = np.asarray(features)
    rank = np.asarray(tier_rank, dtype=np.int64)
    groups = np.arange(len(rank)) if group is None else np.asarray(group)
    block = np.zeros(len(rank), dtype=np.int64) if context is None else context_codes(context)
    errors, right = np.zeros(len(_RIDGE_PENALTIES)), np.zeros(len(_LOGISTIC_PENALTIES))
    for learn, held_out in _held_out(groups, rank, stream(seed, "linear", "folds")):
        axes = _PrincipalAxes.of(x[learn], block[learn])
        others, own_block = axes.coordinates(x[held_out]), block[held_out]
        if "ridge" in methods:
            predicted = times(others, axes.ridge_path(rank[learn], _RIDGE_PENALTIES))
            if context is None:
                off = predicted + rank[learn].mean() - rank[held_out, None]
            else:
                off = _less_block_means(predicted - rank[held_out, None], own_block)
            errors += (off**2).sum(axis=0)
        can_learn = count_cross_tier_pairs(rank[learn], block[learn])
        if "logistic" in methods and can_learn and count_cross_tier_pairs(rank[held_out], own_block):
            right += _until_it_falls(
                (
                    pairwise_accuracy(times(others, weights), rank[held_out], context=own_block)
                    for weights in axes.logistic_path(rank[learn], _LOGISTIC_PENALTIES, seed)
                ),
                len(_LOGISTIC_PENALTIES),
            )
    axes = _PrincipalAxes.of(x, block)
    fitted: dict[LinearMethod, LinearRanker] = {}
    for method in methods:
        if method == "ridge":
            best = len(errors) - 1 - int(np.argmin(errors[::-1]))  # of equals the strongest
            weights = axes.ridge_path(rank, _RIDGE_PENALTIES[best : best + 1])[:, 0]
        else:
            best = int(np.argmax(right)) if right.any() else len(right) // 2
            *_, weights = axes.logistic_path(rank, _LOGISTIC_PENALTIES[: best + 1], seed)
        fitted[method] = axes.ranker(weights)
    return fitted


class _PrincipalAxes(NamedTuple):
    """N images in the basis of their K = min(N, D) principal axes.

    Attributes:
        mean: (D,) of the features.
        scale: (D,) 1 / deviation.
        axes: (D, K) orthonormal where the variance is not 0.
        variances: (K,) sums of squares along the axes.
        rows: (N, K) float32 coordinates of the images, less the mean of each image's block.
        block: (N,) codes of what is compared with each other.
    """

    mean: Floats
    scale: Floats
    axes: Floats
    variances: Floats
    rows: Rows
    block: Indices

    @classmethod
    def of(cls, x: Rows, block: Indices) -> "_PrincipalAxes":
        """Decompose the products of standardised features, of images or of columns, whichever are fewer."""
        parts = [x[start : start + _ROWS_AT_ONCE] for start in range(0, len(x), _ROWS_AT_ONCE)]
        mean = np.asarray(x.mean(axis=0, dtype=np.float64))
        deviation = np.sqrt(sum(((part - mean) ** 2).sum(axis=0) for part in parts) / len(x))
        still = deviation <= 1e-6 * (1 + np.abs(mean))
        scale = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=~still)
        one_block = not block.any()
        if len(x) < x.shape[1]:
            standard = (x - mean) * scale
            standard = standard if one_block else _less_block_means(standard, block)
            values, vectors = np.linalg.eigh(times(standard, standard.T))
            variances = np.maximum(values, 0.0)
            lengths = np.sqrt(variances)
            inverse = np.divide(1.0, lengths, out=np.zeros_like(lengths), where=variances > 1e-10 * variances[-1:])
            axes = times(standard.T, vectors) * inverse
            return cls(mean, scale, axes, variances, (vectors * lengths).astype(np.float32), block)
        # Of many images float32 is exact enough, in half the time: its error is far below the weakest penalty.
        precision = np.float32 if len(x) > _CROSS_VALIDATED_UP_TO else np.float64
        products = np.zeros((x.shape[1], x.shape[1]))
        for part in parts:
            standard = ((part - mean) * scale).astype(precision)
            products += times(standard.T, standard)
        if not one_block:  # the sum of squares within blocks is that of all less that of their means
            n_images, means = _block_means(x, block)
            weighted = np.sqrt(n_images)[:, None] * (means - mean) * scale
            products -= times(weighted.T, weighted)
        values, axes = (found.astype(np.float64) for found in np.linalg.eigh(products.astype(precision)))
        to_axes = (scale[:, None] * axes).astype(np.float32)
        rows = np.concatenate([times((part - mean).astype(np.float32), to_axes) for part in parts])
        rows = rows if one_block else _less_block_means(rows, block).astype(np.float32)
        return cls(mean, scale, axes, np.maximum(values, 0.0), rows, block)

    def coordinates(self, x: Rows) -> Floats:
        """Return the coordinates (M, K) of other images' features (M, D)."""
        return times((x - self.mean) * self.scale, self.axes)

    def ranker(self, weights: Floats) -> LinearRanker:
        """Return the ranker whose weights along the axes are (K,)."""
        return LinearRanker(self.mean, self.scale, times(self.axes, weights))

    def ridge_path(self, rank: Indices, penalties: Floats) -> Floats:
        """Return the weights (K, A) of ridge regression for each penalty."""
        target = times(self.rows.T, (rank - rank.mean()).astype(np.float32)).astype(np.float64)  # rows are centred
        return np.asarray(target[:, None] / (self.variances[:, None] + penalties), dtype=np.float64)

    def logistic_path(self, rank: Indices, penalties: Floats, seed: int) -> Iterator[Floats]:
        """Yield the weights (K,) for each penalty c: the least mean log(1 + exp(-d)) over pairs plus c / 2 |w|^2 / N.

        Steps are in units of the inverse root of the curvature along each axis, in which all axes are alike.
        """
        from scipy.optimize import minimize

        rng = stream(seed, "logistic", "pairs")
        better, worse = sample_fair_pairs(rank, self.block, rng=rng, max_pairs=_MAX_PAIRS)
        n_images, n_pairs = len(rank), len(better)

        def loss(steps: Floats, unit: Floats, penalty: float) -> tuple[float, Floats]:
            weights = unit * steps
            scores = times(self.rows, weights.astype(np.float32))
            difference = scores[better] - scores[worse]
            tail = np.exp(-np.abs(difference))  # one exponential for the loss and its gradient, none that overflows
            wrong = np.where(difference > 0, tail, 1) / (1 + tail)
            # The gradient over pairs is a weighted sum over images: no matrix of differences, (P, D), is ever built.
            by_image = np.bincount(worse, wrong, n_images) - np.bincount(better, wrong, n_images)
            gradient = times(by_image.astype(np.float32), self.rows) / n_pairs + penalty / n_images * weights
            value = float(np.mean(np.log1p(tail) - np.minimum(difference, 0), dtype=np.float64))
            return value + 0.5 * penalty / n_images * float(times(weights, weights)), unit * gradient

        weights = np.zeros(self.rows.shape[1])
        for penalty in penalties:
            unit = 1 / np.sqrt((_CURVATURE * self.variances + penalty) / n_images)
            options = {"maxiter": 100, "ftol": 1e-6, "gtol": 1e-5}
            steps = minimize(loss, weights / unit, args=(unit, penalty), jac=True, method="L-BFGS-B", options=options).x
            weights = unit * steps
            yield weights


def _until_it_falls(accuracies: Iterable[float], n: int) -> Floats:
    """Take n accuracies along a path of penalties until two in a row are below the best: weaker ones only fit more.

    The rest of them (n,) are given as the last one found.
    """
    found: list[float] = []
    for accuracy in accuracies:
        found.append(accuracy)
        if len(found) > 2 and max(found[-2:]) < max(found):
            break
    return np.array(found + found[-1:] * (n - len(found)))


def _block_means(values: NDArray[np.floating], block: Indices) -> tuple[Floats, Floats]:
    """Return the number of rows (C,) and the means (C, D) of each block of `values` (N, D)."""
    order = np.argsort(block, kind="stable")
    first = np.flatnonzero(np.diff(block[order], prepend=-1))
    n_images = np.diff(np.append(first, len(block))).astype(np.float64)
    return n_images, np.add.reduceat(values[order], first, axis=0, dtype=np.float64) / n_images[:, None]


def _less_block_means(values: NDArray[np.floating], block: Indices) -> Floats:
    """Return `values` (N, D) less the mean of each row's block."""
    place = np.unique(block, return_inverse=True)[1]
    return np.asarray(values - _block_means(values, block)[1][place], dtype=np.float64)


def _held_out(group: NDArray[np.generic], rank: Indices, rng: np.random.Generator) -> Iterator[tuple[Indices, Indices]]:
    """Yield rows to learn from and rows held out, of whole groups: five times, or once where rows are many."""
    n_folds = min(_FOLDS, len(np.unique(group)))
    if n_folds < 2:
        return
    fold = deal_folds(group, rank, n_folds, rng)
    for k in range(n_folds if len(group) <= _CROSS_VALIDATED_UP_TO else 1):
        yield np.flatnonzero(fold != k), np.flatnonzero(fold == k)
