"""What a perfectly calibrated model would show on so few images: chance alone moves its bins.

Tiers are drawn for each image from the model's own tier probabilities, independently, many times over: pairs share
images, so images are drawn and not pairs, which would make the range much too narrow. The pairs of each drawn set are
binned by the probabilities that the model states, as in the reliability table. A bin's deviation is measured from its
mean over all sets, since the stated probabilities of a perfectly calibrated model are right on average. What is left is
the chance of a small sample. Images of one group are similar in truth and independent here,
so on data with large groups the range is still somewhat too narrow. These are the consistency bars of Bröcker & Smith
2007 (Weather and Forecasting 22), for pairs.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mirip.metrics.calibration import N_BINS, win_probability

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


class CalibratedRange(NamedTuple):
    """The range of accuracy - confidence in each bin of the reliability table, and the calibration error.

    Attributes:
        low: (10,) lower end of the central range; NaN in a bin that hardly any drawn set reaches.
        high: (10,) upper end.
        ece_high: the calibration error that only 1 - level of perfectly calibrated models exceed; NaN without pairs.
    """

    low: Floats
    high: Floats
    ece_high: float


def calibrated_range(
    scores: ArrayLike,
    tier_probability: ArrayLike,
    *,
    temperature: float,
    rng: np.random.Generator,
    fold: ArrayLike | None = None,
    level: float = 0.95,
    n_sets: int = 200,
    max_pairs: int = 50_000,
) -> CalibratedRange:
    """Draw the range of a perfectly calibrated model.

    Args:
        scores: (N,) finite numbers, higher is better.
        tier_probability: (N, K), column k is tier_rank k; rows sum to 1.
        temperature: the model states P(a beats b) = sigmoid((score_a - score_b) / temperature).
        rng: source of the draws.
        fold: (N,) integers; only pairs of one fold count. None: all pairs.
        level: of the central range of a bin, and of the calibration error's upper end.
        n_sets: how often all tiers are drawn.
        max_pairs: so many pairs are looked at, drawn at random where there are more.
    """
    values, probability = (np.asarray(each, dtype=np.float64) for each in (scores, tier_probability))
    first, second = _pairs(len(probability), rng, max_pairs)
    if fold is not None:
        same = np.asarray(fold)[first] == np.asarray(fold)[second]
        first, second = first[same], second[same]
    p = win_probability(values[first] - values[second], temperature)
    confidence = np.maximum(p, 1 - p)
    index = np.clip(((confidence - 0.5) * 2 * N_BINS).astype(np.int64), 0, N_BINS - 1)
    cumulated = np.cumsum(probability, axis=1)[:, :-1]
    counts, off = np.zeros((n_sets, N_BINS)), np.zeros((n_sets, N_BINS))
    for k in range(n_sets):
        tier = (rng.random(len(probability))[:, None] > cumulated).sum(axis=1)
        gap = tier[first] - tier[second]
        decided = gap != 0  # as in the evaluation, two images of one tier are no pair
        right = np.where(p == 0.5, 0.5, (gap > 0) == (p > 0.5))
        counts[k] = np.bincount(index[decided], minlength=N_BINS)
        off[k] = np.bincount(index[decided], weights=(right - confidence)[decided], minlength=N_BINS)
    mean_off = np.divide(off.sum(axis=0), counts.sum(axis=0), out=np.zeros(N_BINS), where=counts.sum(axis=0) > 0)
    off -= mean_off * counts
    excesses = np.divide(off, counts, out=np.full_like(off, np.nan), where=counts > 0)
    some = counts.any(axis=1)
    errors = np.abs(off[some]).sum(axis=1) / counts[some].sum(axis=1)
    seen = np.isfinite(excesses).mean(axis=0) > 0.5
    low, high = (np.full(N_BINS, np.nan) for _ in range(2))
    if seen.any():
        low[seen], high[seen] = np.nanquantile(excesses[:, seen], [(1 - level) / 2, (1 + level) / 2], axis=0)
    return CalibratedRange(low, high, float(np.quantile(errors, level)) if len(errors) else float("nan"))


def _pairs(n: int, rng: np.random.Generator, max_pairs: int) -> tuple[Indices, Indices]:
    if n * (n - 1) // 2 <= max_pairs:
        first, second = np.triu_indices(n, k=1)
        return first.astype(np.int64), second.astype(np.int64)
    first, second = rng.integers(0, n, size=(2, max_pairs))
    return first[first != second], second[first != second]
