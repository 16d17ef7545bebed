"""Is one model better than another on the same test split, beyond what the sample and the training seeds would do?

Both are counted on the same resamples over groups, so that what is hard for both cancels. A model of n heads, each
trained with a seed of its own, would have come out otherwise with other seeds. How its accuracy strays with them is
measured by the jackknife over heads (Efron & Stein 1981, Annals of Statistics 9), on all images and on every resample.

A part of that straying is interplay: seeds move single images, which resamples of images show already. Were both
variances simply added, it would count twice (a draw of images and heads at once counts it three times: Owen 2007, The
pigeonhole bootstrap, Annals of Applied Statistics 1). Resampling images adds the interplay to the heads' straying once
more; by so much as that grows, it is lessened, and what is left, how seeds move all images alike, is added to every
resample as a normal draw. Three seeds tell little of how seeds stray: Student's quantile is taken at the degrees of
freedom of the whole variance by Welch & Satterthwaite (Satterthwaite 1946, Biometrics Bulletin 2), groups - 1 for the
images' part and n - 1 for a model's heads.

benchmarks/seed_comparison.py simulates how often equal models come out different: at 95 % in 2 to 3 of 100 where
seeds move single images alone, in 6 (five heads) to 8 (three) where they do much to all images alike.
"""

from collections.abc import Sequence
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

# Resamples on which the heads' straying is looked at: a mean of them all, so that few are enough.
_RESAMPLES_OF_HEADS = 200


class ModelComparison(NamedTuple):
    """Two models, a and b, on one test split.

    Attributes:
        accuracy_a: pairwise accuracy of the mean score of a's heads, in [0, 1]; NaN without any cross-tier pair.
        interval_a: of accuracy_a.
        accuracy_b: of b.
        interval_b: of accuracy_b.
        difference: accuracy_a - accuracy_b.
        interval: of the difference, within [-1, 1].
        verdict: a is better than b, worse, or within noise of it.
        members_a: number of a's heads; with 1, the spread over a's training seeds is in none of the intervals.
        members_b: of b's.
        support: the groups behind it all.
    """

    accuracy_a: float
    interval_a: Interval
    accuracy_b: float
    interval_b: Interval
    difference: float
    interval: Interval
    verdict: Comparison
    members_a: int
    members_b: int
    support: GroupSupport


def compare_models(
    members_a: ArrayLike,
    members_b: ArrayLike,
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
        members_a: (n, N) scores of a's n heads, higher is better, on one scale, so that their mean is a's score;
            (N,) for a model of one head.
        members_b: likewise of b.
        tier_rank: (N,) integers from 0, higher is better.
        group_id: (N,) labels of what is resampled together.
        rng: source of the resamples.
        n_bootstrap: resamples over groups.
        confidence: nominal coverage of all intervals.
        context: (N,) labels; only pairs of one context count. None: all pairs.

    Raises:
        ValueError: shapes differ, or a score is not finite.
    """
    models = [np.atleast_2d(np.asarray(heads, dtype=np.float64)) for heads in (members_a, members_b)]
    means = np.stack([heads.mean(axis=0) for heads in models])  # (2, N)
    support = group_support(tier_rank, group_id, context)
    replicates = bootstrap_accuracies(means, tier_rank, group_id, rng=rng, n_bootstrap=n_bootstrap, context=context)
    spreads = [_seed_spread(heads, tier_rank, group_id, context, rng) for heads in models]
    noise = [np.sqrt(spread.beyond_images) * rng.standard_normal(n_bootstrap) for spread in spreads]
    a, b = (float(PairCounter(mean, tier_rank, context).count().micro) for mean in means)
    own = [
        resampled_accuracy_interval(
            accuracy,
            np.clip(replicates[:, k] + noise[k], 0.0, 1.0),
            support,
            confidence=confidence,
            degrees=_degrees(replicates[:, k], support, spreads[k : k + 1]),
        )
        for k, accuracy in enumerate((a, b))
    ]
    between = replicates[:, 0] - replicates[:, 1]
    interval = percentile_interval(
        np.clip(between + noise[0] - noise[1], -1.0, 1.0),
        support,
        confidence=confidence,
        limits=(-1.0, 1.0),
        degrees=_degrees(between, support, spreads),
    )
    return ModelComparison(
        a, own[0], b, own[1], a - b, interval, comparison(interval), len(models[0]), len(models[1]), support
    )


class _SeedSpread(NamedTuple):
    """Variances of an accuracy over training seeds: in all, and what resamples of images do not show; degrees of it."""

    in_all: float
    beyond_images: float
    degrees: int


def _seed_spread(
    heads: Floats, tier_rank: ArrayLike, group_id: ArrayLike, context: ArrayLike | None, rng: np.random.Generator
) -> _SeedSpread:
    """Measure how the accuracy of the mean of (n, N) heads strays with their seeds; of one head, nothing is known."""
    n = len(heads)
    if n == 1:
        return _SeedSpread(0.0, 0.0, 0)
    without = (heads.sum(axis=0) - heads) / (n - 1)  # (n, N): the mean score but for one head
    here = np.array([PairCounter(mean, tier_rank, context).count().micro for mean in without])
    resampled = bootstrap_accuracies(
        without, tier_rank, group_id, rng=rng, n_bootstrap=_RESAMPLES_OF_HEADS, context=context
    )
    of_each = resampled.var(axis=1)
    of_each = of_each[np.isfinite(of_each)]
    if not len(of_each):
        return _SeedSpread(0.0, 0.0, 0)
    in_all, of_resamples = (n - 1) * float(here.var()), (n - 1) * float(of_each.mean())
    return _SeedSpread(in_all, max(in_all - max(of_resamples - in_all, 0.0), 0.0), n - 1)


def _degrees(replicates: Floats, support: GroupSupport, spreads: Sequence[_SeedSpread]) -> float:
    """Return the degrees of freedom of the variance of resamples (R,) and seeds together."""
    finite = replicates[np.isfinite(replicates)]
    of_images = float(finite.var()) if len(finite) else 0.0
    whole = of_images + sum(spread.beyond_images for spread in spreads)
    # What is left of a spread is less sure than it looks, since a difference; where nothing is left nothing is added.
    unsure = of_images**2 / max(support.n_groups - 1, 1)
    unsure += sum(spread.beyond_images * spread.in_all / spread.degrees for spread in spreads if spread.degrees)
    return whole**2 / unsure if unsure else max(support.n_groups - 1.0, 1.0)
