"""Exact accuracy over all cross-tier pairs, by sorting and counting in N log N.

A cross-tier pair is two images of different tiers. It counts 1 if the image of the better tier has the higher
score, 1/2 if the scores are equal, else 0. With two tiers the mean is the area under the ROC curve, i.e. the
Mann-Whitney statistic with ties as half (Hanley & McNeil 1982, Radiology 143).

Rows may have weights; a pair then weighs w_i * w_j. A bootstrap over groups is many such weight vectors.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

# Rows x weight vectors held at once: a few arrays of 8 bytes each stay below about 100 MB.
_MAX_CELLS = 2_000_000


@dataclass(frozen=True)
class TierPairCounts:
    """Pairs and wins of each ordered tier pair, for one weighting or R of them.

    Attributes:
        wins: (..., K, K) float64; [b, w] is the weight of pairs of tier_rank b > w that the scores order rightly.
        pairs: (..., K, K) float64; [b, w] is the weight of all such pairs. Both are 0 where b <= w.
    """

    wins: Floats
    pairs: Floats

    @property
    def micro(self) -> Floats:
        """Accuracy over all pairs, each with the same weight, (...,) in [0, 1]; NaN where there is no pair."""
        return _ratio(self.wins.sum(axis=(-2, -1)), self.pairs.sum(axis=(-2, -1)))

    @property
    def macro(self) -> Floats:
        """Mean accuracy of the tier pairs that have any pair, (...,) in [0, 1]; NaN where none has."""
        present = self.pairs > 0
        accuracy = np.where(present, self.accuracy, 0.0)
        return _ratio(accuracy.sum(axis=(-2, -1)), present.sum(axis=(-2, -1)).astype(np.float64))

    @property
    def accuracy(self) -> Floats:
        """Accuracy of each tier pair, (..., K, K) in [0, 1]; NaN where it has no pair."""
        return _ratio(self.wins, self.pairs)

    def gap(self, distance: int) -> tuple[Floats, Floats]:
        """Return wins and pairs (...,) of tiers that are `distance` >= 1 apart."""
        wins = np.trace(self.wins, offset=-distance, axis1=-2, axis2=-1)
        return wins, np.trace(self.pairs, offset=-distance, axis1=-2, axis2=-1)


class PairCounter:
    """Sorts one vector of scores once, and then counts under any weights.

    Args:
        scores: (N,) finite numbers, higher is better.
        tier_rank: (N,) integers from 0, higher is better.
        context: (N,) labels of any kind; only pairs of one context count. None: any two images may be compared.
        n_tiers: K; None takes the highest rank + 1.

    Raises:
        ValueError: shapes differ, a score is not finite, or a rank lies outside 0..K-1.
    """

    def __init__(
        self, scores: ArrayLike, tier_rank: ArrayLike, context: ArrayLike | None = None, *, n_tiers: int | None = None
    ) -> None:
        values, rank = _checked(scores, tier_rank)
        self.n_images = len(values)
        self.n_tiers = int(rank.max(initial=-1)) + 1 if n_tiers is None else n_tiers
        if rank.max(initial=0) >= self.n_tiers > 0:
            raise ValueError(f"tier_rank goes up to {rank.max()}, n_tiers is {self.n_tiers}")
        block = np.zeros(self.n_images, dtype=np.int64) if context is None else context_codes(context)
        # Sorted by context, then score: the rows that a row beats are one run of this order, found by bisection.
        order = np.lexsort((values, block))
        # One integer per distinct (context, score), in that order: all counting below is on these.
        changes = (np.diff(block[order]) != 0) | (np.diff(values[order]) != 0)
        keys = np.concatenate([[0], np.cumsum(changes)])[: self.n_images]
        first_key = keys[np.searchsorted(block[order], np.arange(block.max(initial=0) + 1))] if len(order) else keys
        ends = np.append(first_key[1:], keys[-1] + 1) if len(order) else keys
        members = [np.flatnonzero(rank[order] == tier) for tier in range(self.n_tiers)]
        self._rows = [order[m] for m in members]
        # What does not depend on the weights is found once: a bootstrap asks for thousands of weightings.
        self._pairs: list[tuple[int, int, Indices, Indices, Indices, Indices]] = []
        for better in range(self.n_tiers):
            own = members[better]
            own_block = block[order[own]]
            for worse in range(better):
                theirs = keys[members[worse]]
                # Of the worse tier's rows: how many are below, and up to, each row's score; where its context is.
                below = np.searchsorted(theirs, keys[own], side="left")
                up_to = np.searchsorted(theirs, keys[own], side="right")
                start = np.searchsorted(theirs, first_key[own_block], side="left")
                end = np.searchsorted(theirs, ends[own_block], side="left")
                if len(own) and len(theirs):
                    self._pairs.append((better, worse, below, up_to, start, end))

    def count(self, weights: ArrayLike | None = None) -> TierPairCounts:
        """Count wins and pairs of all tier pairs.

        Args:
            weights: None for 1 each, (N,), or (R, N) for R weightings at once; numbers >= 0. Memory stays bounded
                whatever R.

        Returns:
            Counts of shape (K, K), or (R, K, K). Weights that are integers are counted exactly below 2^52.
        """
        rows = np.ones(self.n_images) if weights is None else np.asarray(weights)
        if rows.shape[-1:] != (self.n_images,) or rows.ndim > 2:
            raise ValueError(f"weights have shape {rows.shape}, expected ({self.n_images},) or (R, {self.n_images})")
        many = np.atleast_2d(rows)
        wins = np.zeros((len(many), self.n_tiers, self.n_tiers))
        pairs = np.zeros_like(wins)
        for chunk in chunks(len(many), self.n_images):
            wins[chunk], pairs[chunk] = self._count(many[chunk])
        return TierPairCounts(wins, pairs) if rows.ndim == 2 else TierPairCounts(wins[0], pairs[0])

    def count_each(self) -> tuple[Floats, Floats]:
        """Return, for each row, how many rows of worse tiers it beats and how many there are, (N,) float64 both."""
        wins, pairs = np.zeros(self.n_images), np.zeros(self.n_images)
        for better, _, below, up_to, start, end in self._pairs:
            wins[self._rows[better]] += (below + up_to) * 0.5 - start
            pairs[self._rows[better]] += end - start
        return wins, pairs

    def _count(self, weights: NDArray[np.generic]) -> tuple[Floats, Floats]:
        # Weight vectors lie side by side, (n, R): a row is gathered in one piece.
        own = [np.ascontiguousarray(weights[:, rows].T, dtype=np.float64) for rows in self._rows]
        cumulated = [np.concatenate([np.zeros((1, len(weights))), np.cumsum(w, axis=0)]) for w in own]
        wins = np.zeros((len(weights), self.n_tiers, self.n_tiers))
        pairs = np.zeros_like(wins)
        for better, worse, below, up_to, start, end in self._pairs:
            c = cumulated[worse]
            # The rows of a context lie together, with one start and one end, so that their summed weight is enough.
            first = np.flatnonzero(np.append(True, start[1:] + end[1:] != start[:-1] + end[:-1]))
            together = np.diff(cumulated[better][np.append(first, len(start))], axis=0)  # (contexts, R)
            # The mean of "below" and "up to" counts a tie as half; the rows of earlier contexts are taken off.
            beaten = c[below] if np.array_equal(below, up_to) else (c[below] + c[up_to]) * 0.5
            wins[:, better, worse] = np.einsum("nr,nr->r", own[better], beaten)
            wins[:, better, worse] -= np.einsum("cr,cr->r", together, c[start[first]])
            pairs[:, better, worse] = np.einsum("cr,cr->r", together, c[end[first]] - c[start[first]])
        return wins, pairs


def pairwise_accuracy(
    scores: ArrayLike, tier_rank: ArrayLike, *, context: ArrayLike | None = None, weights: ArrayLike | None = None
) -> float:
    """Return the share of cross-tier pairs that the scores order rightly, ties as half.

    Args:
        scores: (N,) finite numbers, higher is better.
        tier_rank: (N,) integers from 0, higher is better.
        context: (N,) labels; only pairs of one context count. None: all pairs.
        weights: (N,) numbers >= 0; a pair weighs w_i * w_j. None: 1 each.

    Returns:
        A float in [0, 1]; NaN where there is no cross-tier pair.

    Raises:
        ValueError: shapes differ, or a score is not finite.
    """
    return float(PairCounter(scores, tier_rank, context).count(None if weights is None else np.ravel(weights)).micro)


def rank_correlations(scores: ArrayLike, tier_rank: ArrayLike) -> tuple[float, float]:
    """Return Kendall's tau-b and Spearman's rho of scores (N,) and tier ranks (N,), NaN where either is constant.

    Tau-b (Kendall 1945, Biometrika 33) allows for ties, of which tiers are full; both by scipy, in N log N.
    """
    from scipy.stats import kendalltau, spearmanr

    values, rank = _checked(scores, tier_rank)
    if len(np.unique(values)) < 2 or len(np.unique(rank)) < 2:
        return float("nan"), float("nan")
    return float(kendalltau(values, rank).statistic), float(spearmanr(values, rank).statistic)


def sample_fair_pairs(
    tier_rank: ArrayLike, block: ArrayLike, *, rng: np.random.Generator, max_pairs: int
) -> tuple[Indices, Indices]:
    """Return cross-tier pairs within blocks as `sample_pairs` does, about `max_pairs` of them where there are more.

    Args:
        tier_rank: (N,) integers, higher is better.
        block: (N,) codes; only pairs of one block count.
        rng: source of the draws.
        max_pairs: each block gives its share of so many.

    Returns:
        better (P,) and worse (P,), int64 row numbers.
    """
    rank, codes = np.asarray(tier_rank), np.asarray(block)
    blocks = [np.flatnonzero(codes == code) for code in np.unique(codes)]
    n_pairs = [(len(rows) ** 2 - (np.bincount(rank[rows]) ** 2).sum()) // 2 for rows in blocks]
    share = min(1.0, max_pairs / max(sum(n_pairs), 1))
    better, worse = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    for rows, n in zip(blocks, n_pairs, strict=True):
        own_better, own_worse = sample_pairs(rank[rows], rng=rng, max_pairs=int(np.ceil(n * share)))
        better.append(rows[own_better])
        worse.append(rows[own_worse])
    return np.concatenate(better), np.concatenate(worse)


def sample_pairs(tier_rank: ArrayLike, *, rng: np.random.Generator, max_pairs: int) -> tuple[Indices, Indices]:
    """Return all cross-tier pairs, or, where there are more than `max_pairs`, so many drawn at random.

    Drawn with replacement, each pair equally likely. For what needs single pairs (a fit, a histogram); accuracy
    is counted exactly by `PairCounter`.

    Args:
        tier_rank: (N,) integers, higher is better.
        rng: source of the draw; not used where all pairs are returned.
        max_pairs: bound of memory and time.

    Returns:
        better (P,) and worse (P,), int64 row numbers.
    """
    rank = np.asarray(tier_rank)
    members = [np.flatnonzero(rank == tier) for tier in np.unique(rank)]
    tiers = [(b, w) for b in range(len(members)) for w in range(b)]
    if not tiers:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    sizes = np.array([len(members[b]) * len(members[w]) for b, w in tiers])
    if sizes.sum() <= max_pairs:
        parts = [(np.repeat(members[b], len(members[w])), np.tile(members[w], len(members[b]))) for b, w in tiers]
    else:
        drawn = rng.multinomial(max_pairs, sizes / sizes.sum())
        parts = [
            (rng.choice(members[b], size=n), rng.choice(members[w], size=n))
            for (b, w), n in zip(tiers, drawn, strict=True)
        ]
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def context_codes(*labels: ArrayLike) -> Indices:
    """Number the distinct labels of (N,), or the combinations of several labels, from 0 in sorted order, int64."""
    numbered = [np.unique(np.asarray(each), return_inverse=True)[1].reshape(-1).astype(np.int64) for each in labels]
    codes = numbered[0]
    for more in numbered[1:]:
        codes = context_codes(codes * (int(more.max(initial=0)) + 1) + more)
    return codes


def chunks(n_vectors: int, length: int) -> Iterator[slice]:
    """Cut `n_vectors` vectors of `length` into runs that fit the memory bound."""
    step = max(1, _MAX_CELLS // max(length, 1))
    yield from (slice(start, min(start + step, n_vectors)) for start in range(0, n_vectors, step))


def _checked(scores: ArrayLike, tier_rank: ArrayLike) -> tuple[Floats, Indices]:
    values, rank = np.asarray(scores, dtype=np.float64), np.asarray(tier_rank, dtype=np.int64)
    if values.ndim != 1 or values.shape != rank.shape:
        raise ValueError(f"scores have shape {values.shape} and tier_rank {rank.shape}, expected (N,) both")
    if not np.isfinite(values).all():
        raise ValueError(f"{(~np.isfinite(values)).sum()} of {len(values)} scores are not finite")
    if rank.min(initial=0) < 0:
        raise ValueError(f"tier_rank goes down to {rank.min()}, expected 0 or more")
    return values, rank


def _ratio(part: Floats, whole: Floats) -> Floats:
    """Divide, NaN where the whole is 0."""
    ratio = np.full(np.shape(whole), np.nan)
    np.divide(part, whole, out=ratio, where=np.asarray(whole) > 0)
    return ratio
