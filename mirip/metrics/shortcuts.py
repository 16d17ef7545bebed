"""Predictors that do not see what is depicted: cross-fitted ridge regressions of the tier index on a few columns.

Folds are of whole groups. Every row is scored by a regression that saw no row of its fold, with a penalty chosen on the
other folds alone. That keeps a column of many values (a school, a camera) from memorising the tiers. Scores of two
folds come from two regressions and differ by more than the rows do, so they are compared within a fold only. If they
were pooled, a held-out fold that is better than the rest would be predicted lower than the rest, a bias against any
signal (Airola et al. 2011, Computational Statistics & Data Analysis 55; Parker et al. 2007, BMC Bioinformatics 8).

A ridge regression is linear in what it predicts, so that fitting it again to thousands of permuted tiers takes sums of
products per fold and no further look at the rows. A test may therefore permute first and fit afterwards, as it must:
the scores of one fold depend on the tiers of the others, and permuting under fixed scores would call chance a finding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray

from mirip.metrics.columns import Column
from mirip.metrics.products import times

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

_PENALTIES = np.logspace(-2, 4, 7)
_MAX_CATEGORIES = 500
_DIGITS = 9  # of a score, in tiers: what says nothing must tie, not be ordered by rounding errors


@dataclass(frozen=True)
class _Tiers:
    """B tier vectors as the regressions see them: sums over each of K folds.

    Attributes:
        total: (K, B), of the tiers.
        square: (K, B), of their squares.
        product: (K, P, B), of features times tiers.
    """

    total: Floats
    square: Floats
    product: Floats


class Shortcuts:
    """M predictors, each of some columns, cross-fitted on the same folds.

    Args:
        predictors: name -> columns of N values each. Numbers enter by their rank and its square, categories by one
            indicator a value (the 500 most frequent). A value that a fold's other rows lack says nothing.
        fold: (N,) int64 from 0, three folds or more; all rows of a group are in one.

    Raises:
        ValueError: there are fewer than three folds, which leave nothing to choose a penalty on.
    """

    def __init__(self, predictors: Mapping[str, Sequence[Column]], fold: NDArray[np.integer]) -> None:
        self.names = list(predictors)
        self._fold, self._n_folds = fold, int(fold.max(initial=-1)) + 1
        if self._n_folds < 3:
            raise ValueError(f"{self._n_folds} folds, at least 3 are needed")
        distinct = {id(column): column for columns in predictors.values() for column in columns}
        ends = np.cumsum([0, *(_width(column) for column in distinct.values())])
        places = {key: np.arange(*span) for key, span in zip(distinct, pairwise(ends), strict=True)}
        self._features = [
            np.concatenate([np.empty(0, dtype=np.int64), *(places[id(column)] for column in columns)])
            for columns in predictors.values()
        ]
        # The largest thing in memory: it is made in its place, and copied a fold at a time.
        self._design = np.empty((len(fold), int(ends[-1])))
        for column, (start, end) in zip(distinct.values(), pairwise(ends), strict=True):
            _encode(column, self._design[:, start:end])
        self._design -= self._design.mean(axis=0)
        self._rows = [np.flatnonzero(fold == k) for k in range(self._n_folds)]

    def scores(self, tier_rank: NDArray[np.integer]) -> Floats:
        """Return (M, N) float64, higher is better; those of two folds are not comparable.

        Args:
            tier_rank: (N,) integers, higher is better.
        """
        tiers = self._summed(tier_rank[None, :])
        scores = np.zeros((len(self.names), len(self._fold)))
        for row, (features, ridge) in enumerate(zip(self._features, self._ridges, strict=True)):
            for rows, coefficients in zip(self._rows, ridge.coefficients(tiers, features), strict=True):
                scores[row, rows] = times(self._design[np.ix_(rows, features)], coefficients[:, 0])
        return np.round(scores, _DIGITS)

    def agreement(self, tiers: NDArray[np.integer]) -> Floats:
        """Fit to B tier vectors (B, N), and correlate each one's out-of-fold scores with it.

        Returns:
            (B, M) float64 in [-1, 1]: Pearson's correlation within a fold, averaged over folds by their size; 0 in
            a fold where either is constant. It grows with the accuracy over pairs within a fold, for which it stands
            in: that would have to be sorted again for each permutation.
        """
        summed = self._summed(tiers)
        size = np.array([len(rows) for rows in self._rows], dtype=np.float64)
        variance = summed.square - summed.total**2 / np.maximum(size, 1)[:, None]
        found = np.zeros((len(tiers), len(self.names)))
        for column, (features, ridge) in enumerate(zip(self._features, self._ridges, strict=True)):
            for k, coefficients in enumerate(ridge.coefficients(summed, features)):
                if not size[k]:
                    continue
                # The correlation follows from sums of products alone, so a permutation never touches single rows.
                mean = ridge.total[k] / size[k]
                covariance = _dot(coefficients, summed.product[k][features] - np.outer(mean, summed.total[k]))
                spread = _dot(coefficients, times(ridge.gram[k] - size[k] * np.outer(mean, mean), coefficients))
                scale = np.sqrt(np.maximum(spread, 0) * np.maximum(variance[k], 0))
                moved = scale > 10**-_DIGITS * size[k]
                found[moved, column] += size[k] * covariance[moved] / scale[moved]
        return found / max(float(size.sum()), 1.0)

    @cached_property
    def _ridges(self) -> list["_Ridge"]:
        size = np.array([len(rows) for rows in self._rows], dtype=np.float64)
        n_features = self._design.shape[1]
        total, gram = np.empty((len(size), n_features)), np.empty((len(size), n_features, n_features))
        for k, rows in enumerate(self._rows):
            block = self._design[rows]
            total[k], gram[k] = block.sum(axis=0), times(block.T, block)
        return [_Ridge(size, total[:, f], gram[:, f[:, None], f]) for f in self._features]

    def _summed(self, tiers: NDArray[np.integer]) -> _Tiers:
        of_fold = [tiers[:, rows].astype(np.float64) for rows in self._rows]  # (B, n)
        return _Tiers(
            np.stack([values.sum(axis=1) for values in of_fold]),
            np.stack([(values**2).sum(axis=1) for values in of_fold]),
            np.stack([times(self._design[rows].T, values.T) for rows, values in zip(self._rows, of_fold, strict=True)]),
        )


class _Ridge:
    """One predictor's regressions: for each fold on all others, and for each two folds on all but these.

    Args:
        size: (K,) rows of each fold.
        total: (K, P) sums of the features over each fold.
        gram: (K, P, P) sums of products of features.
    """

    def __init__(self, size: Floats, total: Floats, gram: Floats) -> None:
        self.size, self.total, self.gram = size, total, gram
        folds = range(len(size))
        self._without = {left_out: self._decomposed(left_out) for n in (1, 2) for left_out in combinations(folds, n)}
        # Of each pair of folds, the products of one fold's features about the mean of the rest, in its eigenbasis.
        self._evaluated = {
            (pair, k): _rotated(self._about(k, self._without[pair][0]), self._without[pair][2])
            for pair in combinations(folds, 2)
            for k in pair
        }

    def coefficients(self, tiers: _Tiers, features: Indices) -> list[Floats]:
        """Return for each of K folds the (P, B) coefficients that are fitted to the tiers of all others."""
        product = tiers.product[:, features]
        n_features, n_vectors = product.shape[1:]
        errors = np.zeros((len(self.size), len(_PENALTIES), n_vectors))
        for pair in combinations(range(len(self.size)), 2):
            mean, values, vectors = self._without[pair]
            projected, mean_tier = self._projected(pair, product, tiers.total)
            shrunk = projected[:, None, :] / (values[:, None] + _PENALTIES)[:, :, None]  # (P, penalties, B)
            side_by_side = shrunk.reshape(n_features, len(_PENALTIES) * n_vectors)
            for tried, held_out in (pair, pair[::-1]):
                # Squared error on the rows of fold `tried`, without the part that no penalty changes. The
                # penalty is chosen without the held-out fold, so it never sees what it will predict.
                about = product[tried] - mean[:, None] * tiers.total[tried]
                about -= (self.total[tried] - self.size[tried] * mean)[:, None] * mean_tier
                linear = times(vectors.T, about)[:, None, :]
                square = times(self._evaluated[pair, tried], side_by_side).reshape(shrunk.shape)
                errors[held_out] += np.einsum("pab,pab->ab", shrunk, square - 2 * linear)
        # Of equals the strongest: a predictor that helps nowhere shrinks to nothing.
        best = _PENALTIES[len(_PENALTIES) - 1 - np.argmin(errors[:, ::-1], axis=1)]  # (K, B)
        fitted = []
        for k in range(len(self.size)):
            _, values, vectors = self._without[k,]
            projected, _ = self._projected((k,), product, tiers.total)
            fitted.append(times(vectors, projected / (values[:, None] + best[k])))
        return fitted

    def _decomposed(self, left_out: tuple[int, ...]) -> tuple[Floats, Floats, Floats]:
        """Mean (P,) of the features but for some folds, eigenvalues (P,) and eigenvectors of their centred products."""
        kept = self._kept(left_out)
        mean = self.total[kept].sum(axis=0) / max(self.size[kept].sum(), 1)
        centred = self.gram[kept].sum(axis=0) - self.size[kept].sum() * np.outer(mean, mean)
        values, vectors = np.linalg.eigh(centred)
        return mean, np.maximum(values, 0), vectors

    def _projected(self, left_out: tuple[int, ...], product: Floats, total: Floats) -> tuple[Floats, Floats]:
        """Centred products of features and tiers but for some folds, (P, B) in the eigenbasis; the mean tier (B,)."""
        kept = self._kept(left_out)
        mean, _, vectors = self._without[left_out]
        tier_total = total[kept].sum(axis=0)
        return (
            times(vectors.T, product[kept].sum(axis=0) - np.outer(mean, tier_total)),
            tier_total / max(self.size[kept].sum(), 1),
        )

    def _about(self, k: int, centre: Floats) -> Floats:
        """Products of fold k's features about a centre, (P, P)."""
        cross = np.outer(self.total[k], centre)
        return np.asarray(self.gram[k] - cross - cross.T + self.size[k] * np.outer(centre, centre), dtype=np.float64)

    def _kept(self, left_out: tuple[int, ...]) -> list[int]:
        return [k for k in range(len(self.size)) if k not in left_out]


def _width(column: Column) -> int:
    """Return how many features a column becomes."""
    return 3 if column.kind == "number" else min(len(np.unique(column.values)), _MAX_CATEGORIES)


def _encode(column: Column, features: Floats) -> None:
    """Write a column as `features` (N, P), each of about unit spread. No label is looked at."""
    if column.kind == "category":
        values, counts = np.unique(column.values, return_counts=True)
        frequent = values[np.argsort(-counts, kind="stable")][:_MAX_CATEGORIES]
        np.equal(column.values[:, None], frequent[None, :], out=features, casting="unsafe")
        return
    present = np.isfinite(column.values)
    known = np.sort(column.values[present])
    filled = np.where(present, column.values, known[len(known) // 2] if len(known) else 0.0)
    below, up_to = np.searchsorted(known, filled, side="left"), np.searchsorted(known, filled, side="right")
    rank = np.where(present, (below + up_to) / max(2 * len(known), 1) - 0.5, 0.0) * np.sqrt(12)
    features[:, 0], features[:, 1], features[:, 2] = rank, rank**2, ~present


def _rotated(matrix: Floats, vectors: Floats) -> Floats:
    return times(times(vectors.T, matrix), vectors)


def _dot(left: Floats, right: Floats) -> Floats:
    """Column by column, (P, B) and (P, B) -> (B,)."""
    return np.asarray(np.einsum("pb,pb->b", left, right), dtype=np.float64)
