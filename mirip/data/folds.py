"""Whole groups dealt out: to splits and folds of given shares (`allocate`), or to equal folds at once (`deal_folds`).

`deal_folds` deals groups like cards, best tier first. That is enough where each fold only has to hold some of every
tier, as for calibration, and it needs no search. `allocate` searches for shares that are close to those of all images;
the split uses it as it is, cross-validation by way of `balanced_folds`.

Groups with the same tier counts are interchangeable, so the search is over numbers of groups of each kind in each
split, a small table even for millions of groups. It deals groups out by chance where there is room, then moves and
swaps some as long as that helps, and does so from several starts.
"""

import numpy as np
from numpy.typing import NDArray

SPLIT_NAMES = ("train", "val", "test")
_MOST_STARTS = 16
_MOST_STARTS_FOR_ABSENT = 200
_DEALT_IN_ALL_STARTS = 20_000
# From so many groups of one make-up on, whole shares of them are dealt out at once.
_MANY = 10
_MOST_ROUNDS = 200
_DELTAS_A_ROUND = 2_000
# An absent tier outweighs any drift, and a drift that is not allowed any fit to the splits' sizes.
_WEIGHT_ABSENT = 1e9
_WEIGHT_DRIFT = 1e3


def allocate(counts: np.ndarray, fractions: np.ndarray, *, seed: int, max_drift: float) -> np.ndarray:
    """Put each group in a split.

    The cost that is kept small is sum over splits s and tiers t of (n_st - f_s n_t)^2 / (f_s n_t), chi-square's
    distance between the images of tier t in split s and their fair number; penalties are added for a tier that is
    absent from a split though it has a group for each, and for a drift above `max_drift`.

    Args:
        counts: int64 of shape (n_groups, n_tiers), images of each tier in each group. Of two groups of one make-up
            the earlier is more likely to be in the first split.
        fractions: float64 of shape (n_splits,), adding up to 1; a split of 0 stays empty.
        seed: of the starts.
        max_drift: percentage points.

    Returns:
        int64 of shape (n_groups,), the split of each group.
    """
    kinds, kind_of_group, n_of_kind = np.unique(counts, axis=0, return_inverse=True, return_counts=True)
    kind_of_group = kind_of_group.ravel()
    used = np.flatnonzero(fractions > 0)
    search = _Search(kinds, n_of_kind, fractions[used], max_drift)
    table = search.best(np.random.default_rng(seed))  # (n_kinds, n_used) groups of each kind in each split
    splits = np.empty(len(counts), dtype=np.int64)
    by_kind = np.argsort(kind_of_group, kind="stable")
    splits[by_kind] = np.repeat(np.tile(used, len(kinds)), table.ravel())
    return splits


def deal_folds(
    group_id: NDArray[np.generic], tier_rank: NDArray[np.integer], n_folds: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Deal whole groups to folds, best tier first, so that every fold holds its share of each tier.

    Args:
        group_id: (N,) labels.
        tier_rank: (N,) integers from 0, higher is better; a group counts by its best image.
        n_folds: how many.
        rng: decides the order of groups of one tier.

    Returns:
        The fold of each image, (N,) from 0.
    """
    groups, members = np.unique(group_id, return_inverse=True)
    best = np.full(len(groups), -1)
    np.maximum.at(best, members, tier_rank)
    order = np.lexsort((rng.random(len(groups)), -best))
    fold_of_group = np.empty(len(groups), dtype=np.int64)
    fold_of_group[order] = np.arange(len(groups)) % n_folds
    return fold_of_group[members]


def balanced_folds(
    group_id: NDArray[np.generic], kind: NDArray[np.integer], n_folds: int, *, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Put whole groups in folds of equal size, each with its share of every kind of image.

    Args:
        group_id: (N,) labels.
        kind: (N,) integers, such as tier ranks; one value throughout balances sizes alone.
        n_folds: 2 or more, at most the number of groups.
        rng: decides which groups go together.

    Returns:
        The fold of each image, (N,) from 0.
    """
    groups, member = np.unique(group_id, return_inverse=True)
    member = member.reshape(-1)
    kinds = np.unique(kind, return_inverse=True)[1].reshape(-1)
    counts = np.zeros((len(groups), int(kinds.max()) + 1), dtype=np.int64)
    np.add.at(counts, (member, kinds), 1)
    order = rng.permutation(len(groups))
    seed = int(rng.integers(2**32))
    fold_of_group = np.empty(len(groups), dtype=np.int64)
    fold_of_group[order] = allocate(counts[order], np.full(n_folds, 1 / n_folds), seed=seed, max_drift=5.0)
    return fold_of_group[member]


def shares_off(images: np.ndarray) -> np.ndarray:
    """Return how far each tier's share in each split is from its share in all, in percentage points.

    Args:
        images: of shape (..., n_splits, n_tiers), number of images.

    Returns:
        Differences of the same shape; those of an empty split are -100 times the shares in all.
    """
    in_split = images / np.maximum(images.sum(axis=-1, keepdims=True), 1)
    tier_totals = images.sum(axis=-2, keepdims=True)
    difference: np.ndarray = 100 * (in_split - tier_totals / np.maximum(tier_totals.sum(axis=-1, keepdims=True), 1))
    return difference


class _Search:
    """Search for a table of groups of each kind in each split."""

    def __init__(self, kinds: np.ndarray, n_of_kind: np.ndarray, fractions: np.ndarray, max_drift: float) -> None:
        self._kinds, self._n_of_kind, self._fractions, self._max_drift = kinds, n_of_kind, fractions, max_drift
        self._fair = fractions[:, None] * (n_of_kind @ kinds)  # (n_splits, n_tiers)
        # A tier with a group for every split must be in every split.
        self._everywhere = n_of_kind @ (kinds > 0) >= len(fractions)

    def best(self, rng: np.random.Generator) -> np.ndarray:
        n_dealt_singly = int(self._n_of_kind[self._n_of_kind < _MANY].sum())
        n_starts = int(np.clip(_DEALT_IN_ALL_STARTS // max(n_dealt_singly, 1), 1, _MOST_STARTS))
        best, best_cost = self._start(rng)
        # Few large groups can leave a tier without a place in some split: such data deserves more starts.
        for start in range(1, _MOST_STARTS_FOR_ABSENT):
            if start >= n_starts and best_cost < _WEIGHT_ABSENT:
                break
            table, cost = self._start(rng)
            if cost < best_cost:
                best, best_cost = table, cost
        return best

    def _start(self, rng: np.random.Generator) -> tuple[np.ndarray, float]:
        table = self._improved(self._dealt(rng), rng)
        return table, float(self._cost(table.T @ self._kinds))

    def _cost(self, images: np.ndarray) -> np.ndarray:
        """Return the cost of allocations, images of shape (..., n_splits, n_tiers) -> (...)."""
        distance = ((images - self._fair) ** 2 / self._fair).sum(axis=(-2, -1))
        absent = ((images == 0) & self._everywhere).sum(axis=(-2, -1)) + (images.sum(axis=-1) == 0).sum(axis=-1)
        excess = np.maximum(np.abs(shares_off(images)) - self._max_drift, 0).sum(axis=(-2, -1))
        cost: np.ndarray = distance + _WEIGHT_DRIFT * excess + _WEIGHT_ABSENT * absent
        return cost

    def _dealt(self, rng: np.random.Generator) -> np.ndarray:
        """Deal out the groups of rare kinds one by one, then the common kinds in whole shares of the room left.

        The scarcest tier comes first, and of its groups the largest. A split is drawn with the odds of its room for
        such a group: large groups have the same chance of each split as small ones, as long as they fit, so that no
        split is one of small groups only.
        """
        table = np.zeros((len(self._kinds), len(self._fractions)), dtype=np.int64)
        gap = self._fair.copy()  # (n_splits, n_tiers), images that a split still needs
        size = self._kinds.sum(axis=1)
        groups_of_tier = self._n_of_kind @ (self._kinds > 0)
        scarcity = np.where(self._kinds > 0, groups_of_tier, np.iinfo(np.int64).max).min(axis=1)
        rare, common = np.flatnonzero(self._n_of_kind < _MANY), np.flatnonzero(self._n_of_kind >= _MANY)
        one_by_one = np.repeat(rare, self._n_of_kind[rare])
        order = np.lexsort((rng.random(len(one_by_one)), -size[one_by_one], scarcity[one_by_one]))
        for kind in one_by_one[order]:
            self._place(kind, table, gap, rng)
        for kind in common[np.argsort(-size[common], kind="stable")]:
            group, n_groups = self._kinds[kind], self._n_of_kind[kind]
            room = np.maximum(gap, 0) @ group
            share = room / room.sum() if room.sum() > 0 else self._fractions
            whole = np.floor(n_groups * share + 1e-9).astype(np.int64)
            table[kind] += whole
            gap -= whole[:, None] * group
            for _ in range(n_groups - whole.sum()):
                self._place(kind, table, gap, rng)
        return table

    def _place(self, kind: int, table: np.ndarray, gap: np.ndarray, rng: np.random.Generator) -> None:
        group = self._kinds[kind]
        odds = np.cumsum(np.maximum(gap - group / 2, 0) @ group)
        if odds[-1] > 0:
            split = int(np.searchsorted(odds, rng.random() * odds[-1], side="right"))
        else:
            # The split whose part of the cost grows least.
            split = int(((2 * gap - group) * group / self._fair).sum(axis=1).argmax())
        table[kind, split] += 1
        gap[split] -= group

    def _improved(self, table: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Move one group, or swap two, as long as that lowers the cost."""
        n_kinds, n_splits = table.shape
        images = table.T @ self._kinds
        cost = float(self._cost(images))
        pairs = [(a, b) for a in range(n_splits) for b in range(n_splits) if a != b]
        for _ in range(_MOST_ROUNDS if pairs else 0):
            there, back = self._deltas(n_kinds, rng)
            delta = self._kinds[there] - np.where(back[:, None] >= 0, self._kinds[back], 0)  # (n_deltas, n_tiers)
            found = (cost - 1e-9, -1, pairs[0])
            for a, b in pairs:
                possible = np.flatnonzero((table[there, a] > 0) & ((back < 0) | (table[back, b] > 0)))
                if not len(possible):
                    continue
                after = np.repeat(images[None], len(possible), axis=0)
                after[:, a] -= delta[possible]
                after[:, b] += delta[possible]
                costs = self._cost(after)
                if costs.min() < found[0]:
                    found = (float(costs.min()), int(possible[costs.argmin()]), (a, b))
            cost, index, (a, b) = found
            if index < 0:
                return table
            table[there[index], [a, b]] += [-1, 1]
            if back[index] >= 0:
                table[back[index], [b, a]] += [-1, 1]
            images = table.T @ self._kinds
        return table

    def _deltas(self, n_kinds: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return kinds to move and kinds to move back for them (-1 for none): all, or a sample where there are many."""
        if n_kinds * (n_kinds + 1) <= _DELTAS_A_ROUND:
            there, back = np.divmod(np.arange(n_kinds * (n_kinds + 1)), n_kinds + 1)
            return there, back - 1
        there, back = rng.integers(n_kinds, size=(2, _DELTAS_A_ROUND))
        return there, np.where(rng.random(_DELTAS_A_ROUND) < 0.5, -1, back)
