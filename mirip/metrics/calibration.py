"""From scores to probabilities, and how far those can be believed.

What is fitted here (temperature, ordinal thresholds, percentiles) is fitted on out-of-fold scores of the training
split; the measures are taken on the test split. Both look at single pairs, of which there are quadratically many:
callers draw them with `mirip.metrics.pairwise.sample_pairs`, all of them up to a cap.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mirip.metrics.pairwise import sample_pairs

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]

N_BINS = 10
_SLOPE_PRECISION = 1e-4
_TIER_PSEUDO_COUNT = 1e-2


def win_probability(difference: ArrayLike, temperature: float) -> Floats:
    """Return P(a beats b) = 1 / (1 + exp(-(score_a - score_b) / temperature)), of the shape of `difference`.

    The model of Bradley & Terry 1952 (Biometrika 39) on log-worths score / temperature.

    Args:
        difference: score_a - score_b, any shape.
        temperature: > 0, in units of the score.
    """
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}, expected a number above 0")
    return np.asarray(_sigmoid(np.asarray(difference, dtype=np.float64) / temperature), dtype=np.float64)


def fit_temperature(
    scores: ArrayLike, tier_rank: ArrayLike, *, rng: np.random.Generator, max_pairs: int = 200_000
) -> float:
    """Fit the temperature by maximum likelihood over cross-tier pairs (Guo et al. 2017, ICML, for pairs).

    Minimises mean log(1 + exp(-d / T)), d the better image's score minus the worse one's, over T between 1/1000 and
    1000 times the spread of d: the least T where the scores separate the tiers wholly, the largest where they
    say nothing. The likelihood is concave in 1/T, so that the bounded search finds the optimum.

    Args:
        scores: (N,) finite numbers, higher is better; out of fold, else T comes out too low.
        tier_rank: (N,) integers, higher is better.
        rng: draws `max_pairs` pairs where there are more.
        max_pairs: cap of the number of pairs looked at.

    Returns:
        T > 0; 1.0 where there is no pair, or all scores are equal.
    """
    from scipy.optimize import minimize_scalar

    values = np.asarray(scores, dtype=np.float64)
    better, worse = sample_pairs(tier_rank, rng=rng, max_pairs=max_pairs)
    difference = values[better] - values[worse]
    spread = float(np.sqrt(np.mean(difference**2))) if len(difference) else 0.0
    if spread == 0:
        return 1.0
    scaled = difference / spread

    def loss(log_temperature: float) -> float:
        return float(np.mean(np.logaddexp(0.0, -scaled * np.exp(-log_temperature))))

    bound = np.log(1000.0)
    found = minimize_scalar(loss, bounds=(-bound, bound), method="bounded", options={"xatol": 1e-7})
    return spread * float(np.exp(found.x))


def fit_ordinal(scores: ArrayLike, tier_rank: ArrayLike, n_tiers: int) -> tuple[float, Floats]:
    """Fit P(tier_rank <= k | score) = sigmoid(threshold_k - slope * score) by maximum likelihood.

    The cumulative logit (proportional odds) model of McCullagh 1980 (JRSS B 42). Each tier gets 1/100 of an
    observation at the mean score and the slope a normal prior of deviation 100 on the standardised score, so that
    an empty tier or a perfect separation gives finite numbers; neither shows where there is data.

    Args:
        scores: (N,) finite numbers, higher is better; out of fold.
        tier_rank: (N,) integers in 0..K-1, higher is better.
        n_tiers: K >= 2.

    Returns:
        slope, and thresholds (K-1,) float64, strictly increasing.

    Raises:
        ValueError: fewer than two tiers, or no score.
    """
    from scipy.optimize import minimize

    values, rank = np.asarray(scores, dtype=np.float64), np.asarray(tier_rank, dtype=np.int64)
    if n_tiers < 2 or not len(values):
        raise ValueError(f"an ordinal model needs two tiers and a score, got {n_tiers} tiers, {len(values)} scores")
    mean, deviation = float(values.mean()), float(values.std())
    if deviation <= 1e-9 * np.abs(values).max():
        deviation = 1.0  # equal but for rounding
    x = np.concatenate([(values - mean) / deviation, np.zeros(n_tiers)])
    y = np.concatenate([rank, np.arange(n_tiers)])
    weight = np.concatenate([np.ones(len(values)), np.full(n_tiers, _TIER_PSEUDO_COUNT)])

    # Start where slope 0 has its optimum: the logits of the cumulated shares.
    shares = np.cumsum(np.bincount(y, weights=weight, minlength=n_tiers))[:-1] / weight.sum()
    cuts = np.log(shares / (1 - shares))
    start = np.concatenate([[0.0, cuts[0]], np.log(np.diff(cuts))])
    # Far beyond any optimum, but within what exp can take: without them a line search diverges on separable data.
    bounds = [(-1e4, 1e4), (-1e4, 1e4), *([(-15.0, 10.0)] * (n_tiers - 2))]
    options = {"gtol": 1e-8, "ftol": 1e-14, "maxiter": 1000}
    found = minimize(
        _ordinal_loss, start, args=(x, y, weight), jac=True, method="L-BFGS-B", bounds=bounds, options=options
    )
    slope, thresholds = _unpack(found.x)
    return slope / deviation, thresholds + slope * mean / deviation


def tier_probabilities(scores: ArrayLike, slope: float, thresholds: ArrayLike) -> Floats:
    """Return the probability of each tier, (N, K) float64; column k is tier_rank k, a row sums to 1.

    Args:
        scores: (N,) higher is better.
        slope: of `fit_ordinal`.
        thresholds: (K-1,) of `fit_ordinal`, increasing.
    """
    cuts = np.asarray(thresholds, dtype=np.float64)
    logits = cuts[None, :] - slope * np.asarray(scores, dtype=np.float64)[:, None]  # (N, K-1)
    at_most = np.pad(_sigmoid(logits), ((0, 0), (1, 1)), constant_values=((0, 0), (0.0, 1.0)))
    return np.asarray(np.diff(at_most, axis=1), dtype=np.float64)


def score_percentiles(scores: ArrayLike) -> Floats:
    """Return the 0th, 1st, ... 100th percentile of scores (N,) as (101,) float64, linear between scores."""
    values = np.asarray(scores, dtype=np.float64)
    if not len(values):
        raise ValueError("percentiles of no score")
    return np.quantile(values, np.linspace(0.0, 1.0, 101))


def percentile_of(score: ArrayLike, percentiles: ArrayLike) -> Floats:
    """Return the percentile in [0, 100] of a score, of the shape of `score`.

    Args:
        score: any shape.
        percentiles: (101,) of `score_percentiles`. A score that takes up a range of percentiles gets its middle.
    """
    values, grid = np.asarray(score, dtype=np.float64), np.asarray(percentiles, dtype=np.float64)
    rank = np.linspace(0.0, 100.0, len(grid))
    # Where several percentiles are equal, interp gives the range's upper end, and its lower end seen from above.
    upper, lower = np.interp(values, grid, rank), 100 - np.interp(-values, -grid[::-1], rank)
    return np.asarray((upper + lower) / 2, dtype=np.float64)


def expected_calibration_error(better_wins: ArrayLike) -> float:
    """Return the expected calibration error of pair probabilities, in [0, 0.5]; NaN without pairs.

    Mean over ten equal bins of the confidence max(p, 1 - p), weighted by their pairs, of |accuracy - confidence|
    (Naeini et al. 2015, AAAI; Guo et al. 2017).

    Args:
        better_wins: (P,) probability that was given to the truly better image of each pair.
    """
    table = reliability_table(better_wins)
    if not len(table):
        return float("nan")
    return float(np.average((table["accuracy"] - table["confidence"]).abs(), weights=table["n_pairs"]))


def brier_score(better_wins: ArrayLike) -> float:
    """Return the Brier score mean((1 - p)^2) of pair probabilities (P,), 0.25 at p = 1/2; NaN without pairs.

    Brier 1950 (Monthly Weather Review 78), in its form for two outcomes.
    """
    p = np.asarray(better_wins, dtype=np.float64)
    return float(np.mean((1 - p) ** 2)) if len(p) else float("nan")


def reliability_table(better_wins: ArrayLike) -> "pd.DataFrame":
    """Return confidence against accuracy in ten equal bins of max(p, 1 - p), which lies in [0.5, 1].

    Args:
        better_wins: (P,) probability that was given to the truly better image of each pair.

    Returns:
        A row for each bin that has pairs: bin (1 to 10), confidence (their mean), accuracy (p = 1/2 as half), n_pairs.
    """
    import pandas as pd

    p = np.asarray(better_wins, dtype=np.float64)
    confidence, correct = np.maximum(p, 1 - p), _correct(p)
    index = np.clip(((confidence - 0.5) * 2 * N_BINS).astype(np.int64), 0, N_BINS - 1)
    count = np.bincount(index, minlength=N_BINS)
    used = count > 0
    return pd.DataFrame(
        {
            "bin": np.flatnonzero(used) + 1,
            "confidence": np.bincount(index, weights=confidence, minlength=N_BINS)[used] / count[used],
            "accuracy": np.bincount(index, weights=correct, minlength=N_BINS)[used] / count[used],
            "n_pairs": count[used],
        }
    )


def coverage_table(better_wins: ArrayLike, min_confidence: ArrayLike | None = None) -> "pd.DataFrame":
    """Return accuracy against coverage when pairs below a confidence are left open as too close to call.

    The risk-coverage curve of El-Yaniv & Wiener 2010 (JMLR 11), in accuracy.

    Args:
        better_wins: (P,) probability that was given to the truly better image of each pair.
        min_confidence: least confidences; None takes 0.50, 0.55, ... 0.95.

    Returns:
        min_confidence, coverage (share of pairs called), accuracy (of those; p = 1/2 as half); a row where any is.
    """
    import pandas as pd

    p = np.asarray(better_wins, dtype=np.float64)
    levels = np.linspace(0.5, 0.95, 10) if min_confidence is None else np.asarray(min_confidence, dtype=np.float64)
    order = np.argsort(-np.maximum(p, 1 - p), kind="stable")
    confidence = np.maximum(p, 1 - p)[order]
    called = np.searchsorted(-confidence, -levels, side="right")
    right = np.concatenate([[0.0], np.cumsum(_correct(p)[order])])
    used = called > 0
    return pd.DataFrame(
        {
            "min_confidence": np.round(levels[used], 6),
            "coverage": called[used] / max(len(p), 1),
            "accuracy": right[called[used]] / called[used],
        }
    )


def _sigmoid(x: ArrayLike) -> Floats:
    """Return 1 / (1 + exp(-x)) without overflow; scipy's takes longer to import than an image to score."""
    values = np.asarray(x, dtype=np.float64)
    small = np.exp(-np.abs(values))
    return np.asarray(np.where(values >= 0, 1.0, small) / (1.0 + small), dtype=np.float64)


def _correct(better_wins: Floats) -> Floats:
    return np.where(better_wins == 0.5, 0.5, (better_wins > 0.5).astype(np.float64))


def _unpack(parameters: Floats) -> tuple[float, Floats]:
    """Read slope and increasing thresholds from (slope, first threshold, log gaps)."""
    return float(parameters[0]), parameters[1] + np.concatenate([[0.0], np.cumsum(np.exp(parameters[2:]))])


def _ordinal_loss(parameters: Floats, x: Floats, y: NDArray[np.int64], weight: Floats) -> tuple[float, Floats]:
    """Mean negative log-likelihood of the cumulative logit model, and its gradient.

    With a < b the logits on both sides of a tier, F(b) - F(a) = F(b) * F(-a) * (1 - exp(a - b)), which keeps its
    precision in the tails.
    """
    slope, thresholds = _unpack(parameters)
    n_tiers = len(thresholds) + 1
    has_upper, has_lower = y < n_tiers - 1, y > 0
    upper = thresholds[np.minimum(y, n_tiers - 2)] - slope * x
    lower = thresholds[np.maximum(y - 1, 0)] - slope * x
    gap = np.where(has_upper & has_lower, thresholds[np.minimum(y, n_tiers - 2)] - thresholds[np.maximum(y - 1, 0)], 1)
    inner = has_upper & has_lower
    likelihood = (
        -np.where(has_upper, np.logaddexp(0, -upper), 0)
        - np.where(has_lower, np.logaddexp(0, lower), 0)
        + np.where(inner, np.log(-np.expm1(-gap)), 0)
    )
    slack = np.where(inner, np.exp(-gap) / -np.expm1(-gap), 0)
    by_upper = weight * np.where(has_upper, np.exp(-np.logaddexp(0, upper)) + slack, 0)
    by_lower = weight * np.where(has_lower, -np.exp(-np.logaddexp(0, -lower)) - slack, 0)
    by_threshold = np.bincount(np.minimum(y, n_tiers - 2), weights=by_upper, minlength=n_tiers - 1)
    by_threshold += np.bincount(np.maximum(y - 1, 0), weights=by_lower, minlength=n_tiers - 1)
    by_slope = -np.sum((by_upper + by_lower) * x) - _SLOPE_PRECISION * slope
    from_gap_on = np.cumsum(by_threshold[::-1])[::-1]  # a gap moves all thresholds above it
    gradient = np.concatenate([[by_slope, from_gap_on[0]], from_gap_on[1:] * np.exp(parameters[2:])])
    loss = -np.sum(weight * likelihood) + 0.5 * _SLOPE_PRECISION * slope**2
    return float(loss / weight.sum()), -gradient / weight.sum()
