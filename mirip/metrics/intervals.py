"""How sure an accuracy is: bootstrap over groups, and a verdict on a target.

Pairs share images, and images of one group are similar, so neither pairs nor images are independent: groups are.
A resample draws as many groups as there are, with replacement; a group's multiplicity becomes the weight of its rows,
and a pair weighs w_i * w_j (Efron & Tibshirani 1993, An Introduction to the Bootstrap, ch. 8; Field & Welsh 2007 for
the clustered case).

The interval of a difference is the expanded percentile of Hesterberg 2015 (The American Statistician 69): the quantiles
are taken at Phi(-sqrt((f + 1) / f) * t_f) instead of alpha / 2, which undoes the bootstrap's narrowness, a factor
sqrt(f / (f + 1)), and the normal quantile where Student's is due; f are the degrees of freedom that the groups have. It
respects the range of an accuracy, needs no acceleration constant to be estimated from few groups (as BCa does), widens
by itself where groups are few (by 1.13 at 15 groups, 1.44 at 6), and equals the plain percentile for many.

Groups that are in more pairs count for more, so f is not always their number less one. Of two tiers, of which one has K
groups, each pair has one of the K in it, and f is about K - 1 (`group_support`). Of four tiers a rare one is in few of
the pairs, and f is nearly the number of groups.

The interval of an accuracy is that or, where it reaches further, Wilson's score interval (1927, Journal of the American
Statistical Association 22) on an effective number of independent pairs, as surveys do for shares near 0 and 1 (Korn &
Graubard 1998, Survey Methodology 24; Dean & Pagano 2015, Journal of Survey Statistics and Methodology 3) and Newcombe
2006 (Statistics in Medicine 25) for this very accuracy. Percentiles alone collapse there: a sample without a wrong pair
has no resample with one. Away from the ends the two nearly agree.

How often it holds the truth is simulated in benchmarks/interval_coverage.py (1,000 test splits a setting, tier shares
of 4/37/49/10 %, half of the variance in the group; 95 % nominal, give or take 0.7 points). At a true accuracy of 0.72
with 92 groups, mixed and of one tier each, 94.6 % and 95.4 %, with 40 groups 95.6 to 97.0 %, with 15 97.7 to 98.8 %; at
0.95 and 0.98 94.7 to 96.8 % with 92 and 40, where percentiles fall to 87.3 %; the binomial formula on all pairs holds
it in 11 to 42 %. On small test splits of two tiers it is a cautious one, above 99 %. No formula helps where a tier
has only a handful of groups: of 15 groups of one tier each, one has tier S, and the interval is 51 points wide.
Below 30 groups, or 7 degrees of freedom, an interval is therefore flagged as of a small sample, and decides nothing:
benchmarks/rare_tiers.py simulates what verdicts come out where one tier has 1 to 16 groups.
"""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mirip.metrics.pairwise import PairCounter, chunks, context_codes, pairwise_accuracy
from mirip.metrics.products import times

Floats = NDArray[np.float64]
Verdict = Literal["met", "missed", "undecided"]

MIN_GROUPS = 30
MIN_DEGREES = 7.0

_SHARED_IMAGE_CORRELATION = 1 / 3
_NO_WIDTH = 1e-9  # of an interval: rounding errors of resamples that all agree


class Interval(NamedTuple):
    """Bounds of an interval, and whether it rests on too few groups to be taken at its word."""

    low: float
    high: float
    small_sample: bool


class GroupSupport(NamedTuple):
    """What is behind an accuracy, worked out from tiers and groups alone; see `group_support`.

    Attributes:
        n_groups: distinct groups.
        fewest_in_tier: distinct groups of the tier that has fewest, of the tiers present.
        independent_pairs: how many pairs that share nothing would tell an accuracy as surely.
        degrees: of freedom that a variance over these groups has, at least 1.
    """

    n_groups: int
    fewest_in_tier: int
    independent_pairs: float
    degrees: float

    @property
    def small_sample(self) -> bool:
        """Below 30 groups, or 7 degrees of freedom: too few for any verdict."""
        return self.n_groups < MIN_GROUPS or self.degrees < MIN_DEGREES


def group_support(tier_rank: ArrayLike, group_id: ArrayLike, context: ArrayLike | None = None) -> GroupSupport:
    """Count the distinct groups of (N,) rows, in all and in the tier that has fewest (of the tiers present).

    The independent pairs are P^2 / (rho * sum of D_g^2), with P cross-tier pairs in all and D_g those that a group's
    images stand in. For two tiers of m and n images, each its own group, that is m n / (rho (m + n)). Of scores that
    say nothing two pairs that share an image correlate by rho = 1/3, whence the variance (m + n + 1) / (12 m n) of
    Mann & Whitney 1947 (Annals of Mathematical Statistics 18); of better scores by 1/4 to 1/3 under the exponential
    model of Hanley & McNeil 1982. The number is a cautious one, for where the data show too few wrong pairs to measure
    their own spread: the images of a group count as if they were one, since nothing says how similar they are, and that
    an image of a middle tier wins and loses is not set off.

    The degrees of freedom are (sum of V_g)^2 / (sum of V_g^2) - 1 (Satterthwaite 1946, Biometrics Bulletin 2): those of
    a sum of variances over groups, of which each adds V_g, the sum over its images of the square of the pairs that each
    stands in. With G like groups that is G - 1. With K groups of a rare tier against G - K of another one it is about
    K - 1, since every pair has one of the K in it, however many the others are. (D_g^2 in place of V_g, as if the
    images of a group were one, is too cautious where groups differ much in size: 98.3 % coverage at 40 groups.)

    Args:
        tier_rank: (N,) integers from 0.
        group_id: (N,) labels.
        context: (N,) labels; only pairs of one context count. None: all pairs.
    """
    rank, group = np.asarray(tier_rank, dtype=np.int64), np.asarray(group_id)
    per_tier = [len(np.unique(group[rank == tier])) for tier in np.unique(rank)]
    names, member = np.unique(group, return_inverse=True)
    block = np.zeros(len(rank), dtype=np.int64) if context is None else np.unique(context, return_inverse=True)[1]
    cell = block.reshape(-1) * (rank.max(initial=0) + 1) + rank
    others = np.bincount(block.reshape(-1))[block.reshape(-1)] - np.bincount(cell)[cell] if len(rank) else rank
    of_group = np.bincount(member.reshape(-1), weights=others, minlength=len(names))
    squares = float((of_group**2).sum())
    variance = np.bincount(member.reshape(-1), weights=others.astype(np.float64) ** 2, minlength=len(names))
    worth = (float(others.sum()) / 2) ** 2 / (_SHARED_IMAGE_CORRELATION * squares) if squares else 0.0
    degrees = max(float(variance.sum() ** 2 / (variance**2).sum()) - 1, 1.0) if squares else 1.0
    return GroupSupport(len(names), min(per_tier, default=0), worth, degrees)


def group_weights(group_id: ArrayLike, n_bootstrap: int, rng: np.random.Generator) -> Iterator[Floats]:
    """Yield the row weights of resamples over groups, in chunks (R', N) float64 of `n_bootstrap` in all.

    Args:
        group_id: (N,) labels; rows of one label are drawn together.
        n_bootstrap: number of resamples.
        rng: source of the draws; the sum of a resample's group multiplicities is the number of groups.
    """
    names, member = np.unique(np.asarray(group_id), return_inverse=True)
    n_groups = len(names)
    for chunk in chunks(n_bootstrap, max(n_groups, len(member))):
        n = chunk.stop - chunk.start
        # One count for all resamples of the chunk: resample r counts in its own run of n_groups numbers.
        drawn = rng.integers(0, n_groups, size=(n, n_groups)) + np.arange(n)[:, None] * n_groups
        multiplicity = np.bincount(drawn.ravel(), minlength=n * n_groups).reshape(n, n_groups)
        yield multiplicity[:, member.reshape(-1)].astype(np.float64)


def bootstrap_accuracies(
    score_sets: ArrayLike,
    tier_rank: ArrayLike,
    group_id: ArrayLike,
    *,
    rng: np.random.Generator,
    n_bootstrap: int = 2000,
    context: ArrayLike | None = None,
) -> Floats:
    """Resample the pairwise accuracy of M score vectors, all on the same resamples, so that differences are paired.

    Args:
        score_sets: (M, N), higher is better.
        tier_rank: (N,) integers from 0.
        group_id: (N,) labels.
        rng: source of the resamples.
        n_bootstrap: R.
        context: (N,) labels; only pairs of one context count. None: all pairs.

    Returns:
        (R, M) float64 in [0, 1]; NaN in a resample without any cross-tier pair. A tier that a resample lacks
        contributes no pair to it. Of two groups that are drawn m and n times each pair counts m * n times. Of the pairs
        within a group that is drawn m times each counts m times, not m^2 times, as if each draw were a group of its
        own, and less by (G - 1) / G for G groups, which is the mean of m * n: in the mean over resamples all pairs
        weigh the same.
    """
    sets = np.atleast_2d(np.asarray(score_sets))
    names, first, member = np.unique(np.asarray(group_id), return_index=True, return_inverse=True)
    within = context_codes(member) if context is None else context_codes(context, member)
    counters = [PairCounter(scores, tier_rank, context) for scores in sets]
    inner = [  # (2, G): wins and pairs within each group
        np.stack([np.bincount(member.reshape(-1), each, len(names)) for each in counter.count_each()])
        for counter in (PairCounter(scores, tier_rank, within) for scores in sets)
    ]
    parts = []
    for weights in group_weights(group_id, n_bootstrap, rng):
        drawn = weights[:, first]  # (R', G)
        twice = drawn * (drawn - 1 + 1 / len(names))  # how often too often the weights count the pairs within a group
        accuracies = []
        for counter, (wins, pairs) in zip(counters, inner, strict=True):
            counted = counter.count(weights)
            whole = counted.pairs.sum(axis=(1, 2)) - times(twice, pairs)
            right = counted.wins.sum(axis=(1, 2)) - times(twice, wins)
            accuracies.append(np.divide(right, whole, out=np.full(len(whole), np.nan), where=whole > 0))
        parts.append(np.stack(accuracies, axis=1))
    return np.concatenate(parts)


def percentile_interval(
    replicates: ArrayLike,
    support: GroupSupport,
    *,
    confidence: float = 0.95,
    limits: tuple[float, float] = (0.0, 1.0),
    degrees: float | None = None,
) -> Interval:
    """Return the expanded percentile interval of bootstrap replicates.

    Args:
        replicates: (R,) float64; NaN (a resample without pairs) is left out.
        support: the groups behind it, which decide how far the percentiles are expanded, and the flag.
        confidence: nominal coverage.
        limits: the statistic's range, returned whole where fewer than two groups leave nothing to resample.
        degrees: of freedom of the replicates' variance; None: those of `support`.
    """
    values = np.asarray(replicates, dtype=np.float64)
    values = values[np.isfinite(values)]
    if support.n_groups < 2 or not len(values):
        return Interval(*limits, True)
    from scipy.stats import norm

    tail = norm.cdf(-_expanded_quantile(support.degrees, confidence, degrees))
    low, high = np.quantile(values, [tail, 1 - tail])
    return Interval(float(low), float(high), support.small_sample)


def resampled_accuracy_interval(
    accuracy: float,
    replicates: ArrayLike,
    support: GroupSupport,
    *,
    confidence: float = 0.95,
    degrees: float | None = None,
) -> Interval:
    """Return the interval of an accuracy from its bootstrap replicates: the wider of two at either end.

    One is `percentile_interval`, the other Wilson's score interval on n = a (1 - a) / variance pairs, a the accuracy
    and the variance that of the replicates: the number of independent pairs that tell as much. Where less than one
    independent pair is wrong (or right), n * min(a, 1 - a) <= 1, a resample cannot show how many others could have
    been, and n is held to what tiers and groups allow, `support.independent_pairs`; where all resamples agree, to that
    alone.

    Args:
        accuracy: of the sample itself, in [0, 1]; NaN where it has no pair.
        replicates: (R,) float64; NaN (a resample without pairs) is left out.
        support: the groups behind it.
        confidence: nominal coverage.
        degrees: as of `percentile_interval`.
    """
    found = percentile_interval(replicates, support, confidence=confidence, degrees=degrees)
    if support.n_groups < 2 or not np.isfinite(replicates).any():
        return found
    values = np.asarray(replicates, dtype=np.float64)
    variance, spread = float(np.var(values[np.isfinite(values)])), accuracy * (1 - accuracy)
    worth = spread / variance if variance > 0 else np.inf
    if not np.isfinite(worth) or spread * min(accuracy, 1 - accuracy) <= variance:
        worth = min(worth, support.independent_pairs)
    low, high = _wilson(accuracy, _expanded_quantile(support.degrees, confidence, degrees) ** 2 / worth)
    return Interval(float(min(found.low, low)), float(max(found.high, high)), found.small_sample)


def accuracy_interval(
    scores: ArrayLike,
    tier_rank: ArrayLike,
    group_id: ArrayLike,
    *,
    rng: np.random.Generator,
    n_bootstrap: int = 2000,
    confidence: float = 0.95,
    context: ArrayLike | None = None,
) -> Interval:
    """Return the interval of the pairwise accuracy of scores (N,); arguments as `bootstrap_accuracies`.

    Raises:
        ValueError: shapes differ, or a score is not finite.
    """
    replicates = bootstrap_accuracies(scores, tier_rank, group_id, rng=rng, n_bootstrap=n_bootstrap, context=context)
    accuracy = pairwise_accuracy(scores, tier_rank, context=context)
    support = group_support(tier_rank, group_id, context)
    return resampled_accuracy_interval(accuracy, replicates[:, 0], support, confidence=confidence)


def difference_interval(
    difference: float,
    replicates: ArrayLike,
    support: GroupSupport,
    *,
    confidence: float = 0.95,
    degrees: float | None = None,
) -> Interval:
    """Return the interval of a paired difference of accuracies from its bootstrap replicates.

    It is `percentile_interval`. Where all resamples agree, as they do for a model that orders every pair rightly
    against one that orders every pair wrongly, they prove nothing: the interval then is Newcombe's (1998, Statistics in
    Medicine 17, method 10) of two shares, those of pairs that the one model alone and the other alone orders rightly,
    as small as the difference allows, among `support.independent_pairs` pairs.

    Args:
        difference: of the sample itself, in [-1, 1].
        replicates: (R,) float64; NaN (a resample without pairs) is left out.
        support: the groups behind it.
        confidence: nominal coverage.
        degrees: as of `percentile_interval`.
    """
    found = percentile_interval(replicates, support, confidence=confidence, limits=(-1.0, 1.0), degrees=degrees)
    if found.high - found.low > _NO_WIDTH or support.n_groups < 2 or not support.independent_pairs:
        return found
    square = _expanded_quantile(support.degrees, confidence, degrees) ** 2 / support.independent_pairs
    of_a, of_b = max(difference, 0.0), max(-difference, 0.0)
    (low_a, high_a), (low_b, high_b) = _wilson(of_a, square), _wilson(of_b, square)
    below, above = np.hypot(of_a - low_a, high_b - of_b), np.hypot(high_a - of_a, of_b - low_b)
    return Interval(max(difference - below, -1.0), min(difference + above, 1.0), found.small_sample)


def target_verdict(accuracy: Interval, target: float) -> Verdict:
    """Hold an accuracy's interval against a target.

    Met only when the whole interval lies at or above the target, missed when all of it lies below, else
    undecided. A small sample decides nothing.
    """
    if accuracy.small_sample:
        return "undecided"
    if accuracy.high < target:
        return "missed"
    return "met" if accuracy.low >= target else "undecided"


def _wilson(share: float, square: float) -> tuple[float, float]:
    """Bounds of a share of n independent pairs by the score interval; `square` is the quantile squared over n."""
    centre, half = share + square / 2, np.sqrt(square * share * (1 - share) + square**2 / 4)
    return float((centre - half) / (1 + square)), float((centre + half) / (1 + square))


def _expanded_quantile(of_groups: float, confidence: float, degrees: float | None) -> float:
    """Student's quantile, stretched by the bootstrap's narrowness: sqrt((f + 1) / f) * t_f (Hesterberg 2015)."""
    from scipy.stats import t

    stretch = np.sqrt((of_groups + 1) / of_groups)
    return float(stretch * t.ppf((1 + confidence) / 2, of_groups if degrees is None else degrees))


def seed_spread(name: str, by_seed: Sequence[float]) -> dict[str, float]:
    """Return how much a metric varies over n seeds as flat scalars; nothing for one seed.

    They are left out rather than null: `dvc metrics diff` shows a value that is new, not one that was null before.

    Args:
        name: of the metric, e.g. "pairwise_accuracy".
        by_seed: its n values.

    Returns:
        `<name>_seed_sd` (with n - 1), `<name>_seed_min`, `<name>_seed_max`.
    """
    if len(by_seed) < 2:
        return {}
    values = np.asarray(by_seed, dtype=np.float64)
    spread = {"sd": values.std(ddof=1), "min": values.min(), "max": values.max()}
    return {f"{name}_seed_{which}": float(value) for which, value in spread.items()}
