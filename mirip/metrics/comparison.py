"""Is one model better than another on the same test split, beyond the luck of the sample and of the training seeds?

The verdict is one of COMPARISONS; `comparison_text` says it in words. Nobody else decides or translates it. It is
"undecided" where there are too few groups for any, and "within noise" where there are enough and no difference shows.

Both models are counted on the same resamples over groups, so what is hard for both cancels. An ensemble of n members,
each trained with its own seed, would differ with other seeds. How much its accuracy varies with them is measured by the
jackknife over members (Efron & Stein 1981, Annals of Statistics 9), on all images and on every resample.

A part of that variance is an interaction: seeds move single images, which resamples of images show already. If both
variances were added, it would count twice (a draw of images and members at once counts it three times: Owen 2007, The
pigeonhole bootstrap, Annals of Applied Statistics 1). Resampling images adds the interaction to the variance over
members once more. The variance is reduced by that growth, and the rest, which moves all images together, is added to
every resample as a normal draw. Three seeds say little about the variance over seeds: Student's quantile is taken at
the degrees of freedom of the whole variance by Welch & Satterthwaite (Satterthwaite 1946, Biometrics Bulletin 2),
those of `group_support` for the images' part and n - 1 for a model's members.

benchmarks/seed_comparison.py simulates how often equal models come out different: at 95 % in 2 to 3 of 100 where
seeds move single images only, in 6 (five members) to 8 (three) where they move all images together by much.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mirip.metrics.intervals import (
    GroupSupport,
    Interval,
    bootstrap_accuracies,
    difference_interval,
    group_support,
    resampled_accuracy_interval,
)
from mirip.metrics.pairwise import PairCounter

Floats = NDArray[np.float64]

Comparison = Literal["better", "worse", "within noise", "undecided"]

BETTER: Comparison = "better"
WORSE: Comparison = "worse"
WITHIN_NOISE: Comparison = "within noise"
UNDECIDED: Comparison = "undecided"
COMPARISONS = (BETTER, WORSE, WITHIN_NOISE, UNDECIDED)

# The variance over members is a mean over these resamples, so a few are enough.
_RESAMPLES_OF_MEMBERS = 200


def comparison(difference: Interval) -> Comparison:
    """Return whether a paired difference is beyond noise, which it is when its interval excludes 0.

    Too few groups decide nothing, see `GroupSupport.small_sample`.
    """
    if difference.small_sample:
        return UNDECIDED
    if difference.low > 0:
        return BETTER
    return WORSE if difference.high < 0 else WITHIN_NOISE


def comparison_text(verdict: Comparison, subject: str, other: str) -> str:
    """Say a verdict in words, without a full stop: "the model is better than ridge"."""
    return {
        BETTER: f"{subject} is better than {other}",
        WORSE: f"{subject} is worse than {other}",
        WITHIN_NOISE: f"{subject} is within noise of {other}: no difference is shown",
        UNDECIDED: f"whether {subject} is better than {other} is undecided: there are too few groups",
    }[verdict]


class Compared(NamedTuple):
    """Another scoring of the same images (a baseline, a shortcut), compared with the model.

    Attributes:
        name: of the other scoring.
        accuracy: its pairwise accuracy, in [0, 1].
        interval: of that accuracy.
        margin: the model's accuracy minus this one.
        difference: the paired interval of the margin, within [-1, 1].
    """

    name: str
    accuracy: float
    interval: Interval
    margin: float
    difference: Interval

    @property
    def verdict(self) -> Comparison:
        """How the model compares with it."""
        return comparison(self.difference)

    def row(self) -> dict[str, float]:
        """Return its columns in a table: pairwise_accuracy, margin, and the ends of both intervals."""
        return {
            "pairwise_accuracy": self.accuracy,
            "ci_low": self.interval.low,
            "ci_high": self.interval.high,
            "margin": self.margin,
            "margin_ci_low": self.difference.low,
            "margin_ci_high": self.difference.high,
        }


def compare_with_model(
    names: Sequence[str],
    accuracies: Sequence[float],
    replicates: Floats,
    *,
    model: int,
    support: GroupSupport,
    confidence: float,
) -> list[Compared]:
    """Compare M scorings with one of them, the model, on the same resamples.

    Args:
        names: of the M scorings.
        accuracies: their M pairwise accuracies on the sample itself.
        replicates: (R, M) accuracies on resamples, as `bootstrap_accuracies` returns them.
        model: which of the M is the model.
        support: the groups behind it all.
        confidence: nominal coverage of the intervals.

    Returns:
        One entry for each scoring, also the model itself, in their order.
    """
    return [
        Compared(
            name,
            accuracy,
            resampled_accuracy_interval(accuracy, of_one, support, confidence=confidence),
            accuracies[model] - accuracy,
            Interval(0.0, 0.0, support.small_sample)  # of the model and itself
            if k == model % len(names)
            else difference_interval(
                accuracies[model] - accuracy, replicates[:, model] - of_one, support, confidence=confidence
            ),
        )
        for k, (name, accuracy, of_one) in enumerate(zip(names, accuracies, replicates.T, strict=True))
    ]


class ModelComparison(NamedTuple):
    """Two models, a and b, on one test split.

    Attributes:
        accuracy_a: pairwise accuracy of the mean score of a's members, in [0, 1]; NaN without any cross-tier pair.
        interval_a: of accuracy_a.
        accuracy_b: of b.
        interval_b: of accuracy_b.
        difference: accuracy_a - accuracy_b.
        interval: of the difference, within [-1, 1].
        verdict: of a against b, one of COMPARISONS.
        members_a: number of a's members; with 1, the spread over a's training seeds is in none of the intervals.
        members_b: of b's.
        support: the groups behind it all.
        n_images: N.
        out_of_fold: whether the scores are of models that saw none of the image's group, rather than of a test split.
        within_context: whether only pairs within a context count, since the images are of several.
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
    n_images: int
    out_of_fold: bool = False
    within_context: bool = False


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
        members_a: (n, N) scores of a's n members, higher is better, on one scale, so that their mean is a's score;
            (N,) for a model of one member.
        members_b: the same for b.
        tier_rank: (N,) integers from 0, higher is better.
        group_id: (N,) labels of what is resampled together.
        rng: source of the resamples; with `stream(seed, "bootstrap")` they are those of the stage evaluate.
        n_bootstrap: resamples over groups.
        confidence: nominal coverage of all intervals.
        context: (N,) labels; only pairs of one context count. None: all pairs.

    Raises:
        ValueError: shapes differ, or a score is not finite.
    """
    models = [np.atleast_2d(np.asarray(members, dtype=np.float64)) for members in (members_a, members_b)]
    means = np.stack([members.mean(axis=0) for members in models])  # (2, N)
    support = group_support(tier_rank, group_id, context)
    replicates = bootstrap_accuracies(means, tier_rank, group_id, rng=rng, n_bootstrap=n_bootstrap, context=context)
    # Each further use of randomness has a generator of its own, so that the resamples above do not depend on it.
    *of_members, of_a, of_b = rng.spawn(4)
    spreads = [
        _seed_spread(members, tier_rank, group_id, context, own)
        for members, own in zip(models, of_members, strict=True)
    ]
    noise = [
        np.sqrt(spread.beyond_images) * own.standard_normal(n_bootstrap)
        for spread, own in zip(spreads, (of_a, of_b), strict=True)
    ]
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
    interval = difference_interval(
        a - b,
        np.clip(between + noise[0] - noise[1], -1.0, 1.0),
        support,
        confidence=confidence,
        degrees=_degrees(between, support, spreads),
    )
    if np.array_equal(*means):
        interval = Interval(0.0, 0.0, interval.small_sample)
    return ModelComparison(
        a,
        own[0],
        b,
        own[1],
        a - b,
        interval,
        comparison(interval),
        len(models[0]),
        len(models[1]),
        support,
        means.shape[1],
    )


class _SeedSpread(NamedTuple):
    """Variances of an accuracy over training seeds: in all, and what resamples of images do not show; degrees of it."""

    in_all: float
    beyond_images: float
    degrees: int


def _seed_spread(
    members: Floats, tier_rank: ArrayLike, group_id: ArrayLike, context: ArrayLike | None, rng: np.random.Generator
) -> _SeedSpread:
    """Measure how much the accuracy of the mean of (n, N) members varies with their seeds; one member shows nothing."""
    n = len(members)
    if n == 1:
        return _SeedSpread(0.0, 0.0, 0)
    without = (members.sum(axis=0) - members) / (n - 1)  # (n, N): the mean score without one member
    here = np.array([PairCounter(mean, tier_rank, context).count().micro for mean in without])
    resampled = bootstrap_accuracies(
        without, tier_rank, group_id, rng=rng, n_bootstrap=_RESAMPLES_OF_MEMBERS, context=context
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
    # What is left of a spread is a difference of two estimates, so it is less sure than each of them.
    unsure = of_images**2 / support.degrees
    unsure += sum(spread.beyond_images * spread.in_all / spread.degrees for spread in spreads if spread.degrees)
    return whole**2 / unsure if unsure else support.degrees
