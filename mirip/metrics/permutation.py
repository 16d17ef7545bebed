"""What chance alone would show: tiers dealt again to whole groups, and the family-wise test on top of it.

Images of one group are similar, so a permutation of single rows would call any such group a finding. Here groups
of one size exchange their tiers, and the tiers of a group stay together: exact, if groups of one size are
exchangeable. Sizes that fewer than eight groups have are taken together with the next, where a longer group repeats the
tiers of a shorter one.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mirip.metrics.pairwise import chunks

Floats = NDArray[np.float64]
Statistic = Callable[[NDArray[np.int64]], Floats]

_MIN_EXCHANGEABLE = 8


@dataclass(frozen=True)
class AgainstChance:
    """M statistics and their values under chance.

    Attributes:
        observed: (M,) float64, larger is more suspicious.
        null: (B, M) float64 under B permutations.
    """

    observed: Floats
    null: Floats

    @property
    def expected(self) -> Floats:
        """Mean under chance, (M,)."""
        return np.asarray(self.null.mean(axis=0), dtype=np.float64)


def permuted_tiers(
    tier_rank: NDArray[np.integer],
    group_id: NDArray[np.generic],
    n_permutations: int,
    rng: np.random.Generator,
    *,
    fold: NDArray[np.integer] | None = None,
) -> Iterator[NDArray[np.int64]]:
    """Yield (B', N) int64 tier ranks in the order of the rows, each a permutation of whole groups; B' sum up to B.

    With `fold` (N,), one label a group, groups exchange tiers within a fold only: folds that were stratified by
    tier then are so under every permutation, as those that are tested are.
    """
    member = np.unique(group_id, return_inverse=True)[1].reshape(-1)
    size = np.bincount(member)
    fold_of_group = np.zeros(len(size), dtype=np.int64)
    if fold is not None:
        fold_of_group[member] = fold
    by_size = np.lexsort((size, fold_of_group))
    place = np.empty_like(by_size)
    place[by_size] = np.arange(len(by_size))  # groups are known by their place in that order from here on
    size, stratum = size[by_size], _strata(fold_of_group[by_size], size[by_size])
    rows = np.argsort(place[member], kind="stable")  # rows group by group
    start = np.cumsum(size) - size
    owner = np.repeat(np.arange(len(size)), size)
    position = np.arange(len(rows)) - start[owner]
    tier = tier_rank[rows].astype(np.int64)
    for chunk in chunks(n_permutations, len(rows)):
        # A random key within its stratum: sorting by it shuffles all strata at once and mixes none of them.
        keys = stratum + rng.random((chunk.stop - chunk.start, len(size)))
        source = np.argsort(keys, axis=1)[:, owner]  # (B', N): the group whose tiers a row gets
        dealt = np.empty(source.shape, dtype=np.int64)
        # Row i gets the tier of row i of the group that it exchanges with, which repeats where it is shorter.
        dealt[:, rows] = tier[start[source] + position % size[source]]
        yield dealt


def against_chance(
    statistics: Sequence[Statistic],
    tier_rank: NDArray[np.integer],
    group_id: NDArray[np.generic],
    *,
    n_permutations: int,
    rng: np.random.Generator,
    fold: NDArray[np.integer] | None = None,
) -> list[AgainstChance]:
    """Take several sets of statistics of the tiers as they are and, all of them, of the same permutations.

    Args:
        statistics: each takes tiers (B', N) and returns (B', M) float64, larger is more suspicious.
        tier_rank: (N,) integers from 0.
        group_id: (N,) labels, permuted whole.
        n_permutations: B.
        rng: source of the permutations.
        fold: (N,) labels within which groups are permuted; None: one fold.
    """
    observed = [statistic(tier_rank.astype(np.int64)[None, :])[0] for statistic in statistics]
    null: list[list[Floats]] = [[] for _ in statistics]
    for dealt in permuted_tiers(tier_rank, group_id, n_permutations, rng, fold=fold):
        for values, statistic in zip(null, statistics, strict=True):
            values.append(statistic(dealt))
    return [AgainstChance(o, np.concatenate(n)) for o, n in zip(observed, null, strict=True)]


def tier_information(codes: Sequence[NDArray[np.int64]]) -> Statistic:
    """Return what measures how much M columns tell of the tier: the mutual information H(tier) - H(tier | column).

    Args:
        codes: M arrays (N,) int64 from 0.

    Returns:
        A function of tiers (B, N) that gives (B, M) float64 in nats.
    """
    return lambda tiers: np.column_stack([np.empty((len(tiers), 0)), *(_information(code, tiers) for code in codes)])


def family_wise_p(families: Sequence[AgainstChance]) -> list[Floats]:
    """Return p-values of all statistics, each the chance that any statistic of the family would be as extreme.

    The single-step max-statistic of Westfall & Young 1993 (Resampling-based multiple testing, ch. 2), on statistics
    standardised by their mean and deviation under permutation; (1 + exceedances) / (1 + B) (Phipson & Smyth
    2010). A statistic that no permutation moves has p = 1.

    Args:
        families: sets of statistics with the same number B of permutations, tested as one family.

    Returns:
        One (M,) array in (0, 1] for each set.
    """
    null = np.concatenate([_deviations(tested.null, tested.null) for tested in families], axis=1)  # (B, sum of M)
    largest = np.sort(null.max(axis=1, initial=0.0))
    p_values = []
    for tested in families:
        z = _deviations(tested.observed[None, :], tested.null)[0]
        as_large = len(largest) - np.searchsorted(largest, z - 1e-9, side="left")
        p_values.append(np.asarray((1 + as_large) / (1 + len(largest)), dtype=np.float64))
    return p_values


def entropy(counts: NDArray[np.integer]) -> Floats:
    """Return the Shannon entropy in nats of counts (..., V), over the last axis (Shannon 1948)."""
    from scipy.special import xlogy

    total = counts.sum(axis=-1)
    return np.asarray(np.log(total) - xlogy(counts, counts).sum(axis=-1) / total, dtype=np.float64)


def _information(code: NDArray[np.int64], tiers: NDArray[np.int64]) -> Floats:
    """Mutual information of one column (N,) with B tier vectors (B, N), (B,) in nats."""
    n_tiers, n_codes = int(tiers.max()) + 1, int(code.max()) + 1
    cells = n_tiers * n_codes
    joint = np.empty((len(tiers), cells), dtype=np.int64)
    for row, tier in enumerate(tiers):
        joint[row] = np.bincount(code * n_tiers + tier, minlength=cells)
    table = joint.reshape(-1, n_codes, n_tiers)
    return entropy(table.sum(axis=1)) + entropy(table.sum(axis=2)) - entropy(joint)


def _strata(fold: NDArray[np.int64], size: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number groups (G,), ordered by fold and size, by what they are exchanged with: a fold's runs of like sizes."""
    stratum = np.zeros(len(size), dtype=np.int64)
    for k in np.unique(fold):
        of_fold = fold == k
        stratum[of_fold] = stratum.max(initial=-1) + 1 + _size_strata(size[of_fold])
    return stratum


def _size_strata(size: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number runs of ascending group sizes (G,) such that equal sizes share a run and each run has eight groups."""
    sizes, counts = np.unique(size, return_counts=True)
    stratum_of_size, held = np.zeros(len(sizes), dtype=np.int64), 0
    for index, count in enumerate(counts[:-1]):
        held += int(count)
        full = held >= _MIN_EXCHANGEABLE and counts[index + 1 :].sum() >= _MIN_EXCHANGEABLE
        stratum_of_size[index + 1] = stratum_of_size[index] + full
        held = 0 if full else held
    return stratum_of_size[np.searchsorted(sizes, size)]


def _deviations(values: Floats, null: Floats) -> Floats:
    """Standardise by the null's mean and deviation; 0 where it has no spread."""
    deviation = null.std(axis=0)
    moved = deviation > 1e-12
    return np.where(moved, (values - null.mean(axis=0)) / np.where(moved, deviation, 1.0), 0.0)
