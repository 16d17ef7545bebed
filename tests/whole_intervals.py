"""The interval of a paired difference in one call, from scores to bounds: what tests compare the pieces with."""

import numpy as np
from numpy.typing import ArrayLike

from mirip.metrics.intervals import (
    Interval,
    bootstrap_accuracies,
    difference_interval,
    group_support,
)
from mirip.metrics.pairwise import pairwise_accuracy


def paired_difference_interval(
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    tier_rank: ArrayLike,
    group_id: ArrayLike,
    *,
    rng: np.random.Generator,
    n_bootstrap: int = 2000,
    confidence: float = 0.95,
    context: ArrayLike | None = None,
) -> Interval:
    """Return the interval of accuracy(a) - accuracy(b) on the same pairs, within [-1, 1].

    Both are counted on the same resamples, so that what makes a resample easy or hard for both cancels.
    """
    sets = np.stack([np.asarray(scores_a, dtype=np.float64), np.asarray(scores_b, dtype=np.float64)])
    replicates = bootstrap_accuracies(
        sets,
        tier_rank,
        group_id,
        rng=rng,
        n_bootstrap=n_bootstrap,
        context=context,
    )
    support = group_support(tier_rank, group_id, context)
    a, b = (pairwise_accuracy(scores, tier_rank, context=context) for scores in sets)
    return difference_interval(a - b, replicates[:, 0] - replicates[:, 1], support, confidence=confidence)
