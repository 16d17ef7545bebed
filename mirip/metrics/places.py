"""The places of scored images in an order, and how far each could be off.

By the model of pairs, P(a beats b) = sigmoid((score_a - score_b) / temperature), which is that of an order by
score / temperature plus independent Gumbel noise (Yellott 1977, Journal of Mathematical Psychology 15).
"""

from collections.abc import Sequence
from itertools import combinations
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mirip.metrics.calibration import win_probability

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
Name = TypeVar("Name")

N_DRAWS = 4000
_QUANTILES = (0.05, 0.95)
_DRAWS_AT_ONCE = 1 << 22  # numbers
_LARGEST_EXPONENT = 700.0  # of a float64


class Places(NamedTuple):
    """An order of N images, the best first.

    Attributes:
        order: (N,) which image has the 1st, 2nd, ... place; images of one score in the order in which they came.
        first, last: (N,) of each image, the 5th and the 95th percentile of its places, from 1.
        bands: (start, stop) of each maximal run of two or more places within which every pair is too close to call,
            from 0, stop excluded. Runs may overlap.
    """

    order: Codes
    first: Codes
    last: Codes
    bands: list[tuple[int, int]]


class Pair(NamedTuple, Generic[Name]):
    """Two images by their names, and which is better.

    Attributes:
        a, b: names.
        p_a_is_better: P(a beats b).
        better: a or b; None where the pair is too close to call.
    """

    a: Name
    b: Name
    p_a_is_better: float
    better: Name | None


def places(scores: ArrayLike, temperature: float, min_confidence: float, *, rng: np.random.Generator) -> Places:
    """Order images by their scores.

    Args:
        scores: (N,) finite numbers, higher is better.
        temperature: > 0, in units of the score.
        min_confidence: a pair is too close to call if neither image is better with this probability.
        rng: draws the noise.
    """
    values = np.asarray(scores, dtype=np.float64)
    order = np.argsort(-values, kind="stable")
    first, last = place_intervals(values, temperature, rng=rng)
    return Places(order, first, last, bands(values[order], temperature, min_confidence))


def place_intervals(
    scores: ArrayLike, temperature: float, *, rng: np.random.Generator, n_draws: int = N_DRAWS
) -> tuple[Codes, Codes]:
    """Return the 5th and the 95th percentile of each image's place, from 1, as two int64 arrays (N,).

    Args:
        scores: (N,) finite numbers, higher is better.
        temperature: > 0, in units of the score.
        rng: draws the noise.
        n_draws: orders that are drawn.
    """
    worth = np.asarray(scores, dtype=np.float64) / temperature
    n = len(worth)
    drawn = np.empty((n_draws, n), dtype=np.int32)
    block = max(1, _DRAWS_AT_ONCE // max(n, 1))
    for start in range(0, n_draws, block):
        noisy = worth + rng.gumbel(size=(min(block, n_draws - start), n))
        order = np.argsort(-noisy, axis=1)
        np.put_along_axis(drawn[start : start + block], order, np.arange(1, n + 1, dtype=np.int32)[None], axis=1)
    low, high = np.quantile(drawn, _QUANTILES, axis=0, method="nearest") if n else (np.empty(0), np.empty(0))
    return low.astype(np.int64), high.astype(np.int64)


def pairs(scored: Sequence[tuple[Name, float]], temperature: float, min_confidence: float) -> list[Pair[Name]]:
    """Say of each two of N images which is better: all N (N - 1) / 2 pairs, in the order in which the images came.

    Args:
        scored: (N,) names, such as rows or paths, each with a finite score, higher is better.
        temperature: > 0, in units of the score.
        min_confidence: a pair is too close to call if neither image is better with this probability.
    """
    found = []
    for (a, score_a), (b, score_b) in combinations(scored, 2):
        chance = float(win_probability(score_a - score_b, temperature))
        better = a if chance >= 0.5 else b
        found.append(Pair(a, b, chance, None if is_too_close(chance, min_confidence) else better))
    return found


def percentile_interval(scores: ArrayLike, known: ArrayLike, temperature: float) -> tuple[Floats, Floats]:
    """Return the 5th and the 95th percentile of each image's percentile among known images, as two arrays (N,).

    With noise g, an image beats one of score s with probability exp(-exp(-((score - s) / temperature + g))). The mean
    over the known images rises with g, so that its percentiles are its values at those of g.

    Args:
        scores: (N,) finite numbers, higher is better.
        known: (Q,) scores of the known images at evenly spaced quantiles, the lowest first.
        temperature: > 0, in units of the score.
    """
    ahead = (np.asarray(scores, dtype=np.float64)[:, None] - np.asarray(known, dtype=np.float64)) / temperature
    weights = np.ones(ahead.shape[1])
    weights[[0, -1]] = 0.5  # of the trapezoidal rule
    low, high = (
        100 * np.average(np.exp(-np.exp(np.minimum(_LARGEST_EXPONENT, -(ahead + gumbel)))), axis=1, weights=weights)
        for gumbel in -np.log(-np.log(_QUANTILES))
    )
    return low, high


def is_too_close(probability: float, min_confidence: float) -> bool:
    """Tell whether a pair is too close to call, from P(one of them is better)."""
    return max(probability, 1 - probability) < min_confidence


def bands(ordered: ArrayLike, temperature: float, min_confidence: float) -> list[tuple[int, int]]:
    """Return the maximal runs of two or more places within which every pair is too close to call.

    Args:
        ordered: (N,) scores, the best first.
        temperature: > 0, in units of the score.
        min_confidence: of a call, in [0.5, 1).

    Returns:
        (start, stop) of each, from 0, stop excluded, in order.
    """
    values = np.asarray(ordered, dtype=np.float64)

    def are_close(start: int, end: int) -> bool:
        # P rises with the difference of scores, so that the first against the last decides for all between.
        return is_too_close(float(win_probability(values[start] - values[end], temperature)), min_confidence)

    found: list[tuple[int, int]] = []
    stop = 0
    for start in range(len(values)):
        reached = stop
        while stop < len(values) and (stop <= start or are_close(start, stop)):
            stop += 1
        if stop - start > 1 and stop > reached:
            found.append((start, stop))
    return found


def place_coverage(
    scores: ArrayLike,
    tier_rank: ArrayLike,
    temperature: float,
    *,
    rng: np.random.Generator,
    n_lists: int = 200,
    n_draws: int = 400,
) -> float:
    """Return how often an image's true place lies in the interval of its place; NaN without a list.

    A list holds one image of each tier, drawn at random, so that its true order is known.

    Args:
        scores: (N,) out of fold.
        tier_rank: (N,) integers, higher is better.
        temperature: > 0, fitted on other images.
        rng: draws lists and noise.
        n_lists: lists that are drawn.
        n_draws: orders that are drawn for each.
    """
    values, rank = np.asarray(scores, dtype=np.float64), np.asarray(tier_rank, dtype=np.int64)
    tiers = [values[rank == tier] for tier in np.unique(rank)[::-1]]
    if len(tiers) < 2:
        return float("nan")
    covered = []
    for _ in range(n_lists):
        drawn = np.array([rng.choice(of_tier) for of_tier in tiers])
        first, last = place_intervals(drawn, temperature, rng=rng, n_draws=n_draws)
        true = np.arange(1, len(tiers) + 1)
        covered.append((first <= true) & (true <= last))
    return float(np.mean(covered))
