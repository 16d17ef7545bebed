"""Is one model better than another on the same test side, beyond what the sample and the training seeds would do?

Both are counted on the same resamples over groups, so that what is hard for both cancels. A model of n heads, each
trained with a seed of its own, would have come out otherwise with other seeds: every resample also draws n of its heads
with replacement, and adds by how much the accuracy of their mean score strays on all images. The two sources add up
(a draw of both at once counts their interplay three times instead of once; Owen 2007, The pigeonhole bootstrap, Annals
of Applied Statistics 1). The strayings are taken about their own mean, since a mean of heads of which one is drawn
twice is a weaker ensemble, which is no noise. They are stretched by sqrt(n / (n - 1)), which undoes the bootstrap's
narrowness, and by Student's quantile over the normal one at n_a + n_b - 2 degrees of freedom (n - 1 where one side has
a single head): three seeds tell little of how seeds stray.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mirip.metrics.intervals import (
    Comparison,
    Interval,
    bootstrap_accuracies,
    comparison,
    percentile_interval,
    resampled_accuracy_interval,
)
from mirip.metrics.pairwise import PairCounter
from mirip.metrics.support import GroupSupport, group_support

Floats = NDArray[np.float64]

# Draws of heads that are counted; resamples share them. Each costs a sort of all scores.
_HEAD_DRAWS = 200


class ModelComparison(NamedTuple):
    """Two models, a and b, on one test side.

    Attributes:
        accuracy_a: pairwise accuracy of the mean score of a's heads, in [0, 1]; NaN without any cross-tier pair.
        interval_a: of accuracy_a.
        accuracy_b: of b.
        interval_b: of accuracy_b.
        difference: accuracy_a - accuracy_b.
        interval: of the difference, within [-1, 1].
        verdict: a is better than b, worse, or within noise of it.
        heads_a: number of a's heads; with 1, the spread over a's training seeds is in none of the intervals.
        heads_b: of b's.
        support: the groups behind it all.
    """

    accuracy_a: float
    interval_a: Interval
    accuracy_b: float
    interval_b: Interval
    difference: float
    interval: Interval
    verdict: Comparison
    heads_a: int
    heads_b: int
    support: GroupSupport


def compare_models(
    heads_a: ArrayLike,
    heads_b: ArrayLike,
    tier_rank: ArrayLike,
    group_id: ArrayLike,
    *,
    rng: np.random.Generator,
    n_bootstrap: int = 2000,
    confidence: float = 0.95,
    context: ArrayLike | None = None,
) -> ModelComparison:
    """Compare two models by their scores on the same images.

    Args:
        heads_a: (n, N) scores of a's n heads, higher is better, on one scale, so that their mean is a's score;
            (N,) for a model of one head.
        heads_b: likewise of b.
        tier_rank: (N,) integers from 0, higher is better.
        group_id: (N,) labels of what is resampled together.
        rng: source of the resamples.
        n_bootstrap: resamples over groups.
        confidence: nominal coverage of all intervals.
        context: (N,) labels; only pairs of one context count. None: all pairs.

    Raises:
        ValueError: shapes differ, or a score is not finite.
    """
    models = [np.atleast_2d(np.asarray(heads, dtype=np.float64)) for heads in (heads_a, heads_b)]
    means = np.stack([heads.mean(axis=0) for heads in models])  # (2, N)
    support = group_support(tier_rank, group_id, context)
    replicates = bootstrap_accuracies(means, tier_rank, group_id, rng=rng, n_bootstrap=n_bootstrap, context=context)
    degrees = sum(len(heads) - 1 for heads in models)
    strayed = [_strayings(heads, tier_rank, context, n_bootstrap, rng) for heads in models]
    stretch_own = [_stretch(len(heads) - 1, confidence) for heads in models]
    a, b = (float(PairCounter(mean, tier_rank, context).count().micro) for mean in means)
    own = [
        resampled_accuracy_interval(
            accuracy, np.clip(replicates[:, k] + stretch_own[k] * strayed[k], 0.0, 1.0), support, confidence=confidence
        )
        for k, accuracy in enumerate((a, b))
    ]
    between = replicates[:, 0] - replicates[:, 1] + _stretch(degrees, confidence) * (strayed[0] - strayed[1])
    interval = percentile_interval(np.clip(between, -1.0, 1.0), support, confidence=confidence, limits=(-1.0, 1.0))
    return ModelComparison(
        a, own[0], b, own[1], a - b, interval, comparison(interval), len(models[0]), len(models[1]), support
    )


def _strayings(
    heads: Floats, tier_rank: ArrayLike, context: ArrayLike | None, n_bootstrap: int, rng: np.random.Generator
) -> Floats:
    """Return by how much the accuracy of n heads drawn from (n, N) strays, a number a resample (R,); 0 for one head."""
    n = len(heads)
    if n == 1:
        return np.zeros(n_bootstrap)
    drawn = np.sort(rng.integers(0, n, size=(_HEAD_DRAWS, n)), axis=1)
    distinct, of_draw = np.unique(drawn, axis=0, return_inverse=True)
    accuracy = np.array([PairCounter(heads[rows].mean(axis=0), tier_rank, context).count().micro for rows in distinct])
    accuracy = accuracy[of_draw.reshape(-1)]
    strayed = (accuracy - accuracy.mean()) * np.sqrt(n / (n - 1))
    return np.asarray(strayed[rng.integers(0, _HEAD_DRAWS, size=n_bootstrap)], dtype=np.float64)


def _stretch(degrees: int, confidence: float) -> float:
    """Student's quantile over the normal one; 1 without any degree of freedom, where there is nothing to stretch."""
    from scipy.stats import norm, t

    level = (1 + confidence) / 2
    return float(t.ppf(level, degrees) / norm.ppf(level)) if degrees else 1.0
