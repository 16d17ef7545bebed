"""Cross-tier pairs: two images of different tiers, of which one is known to be better.

The number of pairs grows with the square of the images, so none is ever stored. Rows are sorted by tier within their
context; row p then beats the `below[p]` rows that come first in its context, and the running sum of `below` numbers
all pairs from 0 without a gap. Any pair is found from its number by one binary search.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, overload

import numpy as np

_ROUNDS = 6


def count_cross_tier_pairs(tier_rank: np.ndarray, context: np.ndarray | None = None) -> int:
    """Count unordered pairs of different tiers, without making them.

    Args:
        tier_rank: integers of shape (N,).
        context: of shape (N,); if given, only pairs within one context count.

    Returns:
        (n^2 - sum over tiers of n_t^2) / 2, summed over contexts.
    """
    ranks = np.unique(np.asarray(tier_rank), return_inverse=True)[1]
    block = _blocks(context, len(ranks))
    per_tier = np.unique(np.stack([block, ranks]), axis=1, return_counts=True)[1]
    return (sum(int(n) ** 2 for n in np.bincount(block)) - sum(int(n) ** 2 for n in per_tier)) // 2


class PairwiseDataset(Sequence[tuple[Any, Any, int]]):
    """Cross-tier pairs in random orientation: item -> (i, j, label), +1 when i is better, -1 when j is.

    All pairs, or `n_pairs` different ones drawn uniformly. Memory is O(N) whatever the number of pairs.

    Args:
        tier_rank: integers of shape (N,), higher is better.
        context: of shape (N,), needed for `same_context`.
        same_context: only pairs within one context.
        n_pairs: how many pairs to draw; None, or more than there are, means all of them in fixed order.
        seed: of the draw and of the orientation.
        features: of shape (N, D); if given, items are (features[i], features[j], label).

    Raises:
        ValueError: shapes do not fit, or `same_context` without `context`.
    """

    def __init__(
        self,
        tier_rank: np.ndarray,
        *,
        context: np.ndarray | None = None,
        same_context: bool = False,
        n_pairs: int | None = None,
        seed: int = 42,
        features: Any = None,
    ) -> None:
        tier_rank = np.asarray(tier_rank)
        if tier_rank.ndim != 1:
            raise ValueError(f"tier_rank must have shape (N,), got {tier_rank.shape}")
        if same_context and context is None:
            raise ValueError("same_context needs the context of each image")
        for name, values in (("context", context), ("features", features)):
            if values is not None and len(values) != len(tier_rank):
                raise ValueError(f"{name} has {len(values)} rows, tier_rank {len(tier_rank)}")
        if n_pairs is not None and n_pairs < 0:
            raise ValueError(f"n_pairs must not be negative, got {n_pairs}")
        block = _blocks(context if same_context else None, len(tier_rank))
        self._order = np.lexsort((tier_rank, block))
        ranks, block = tier_rank[self._order], block[self._order]
        positions = np.arange(len(ranks))
        new_block = np.append(True, block[1:] != block[:-1])[: len(block)]
        new_tier = new_block | np.append(True, ranks[1:] != ranks[:-1])[: len(ranks)]
        self._block_start = np.maximum.accumulate(np.where(new_block, positions, 0))
        below = np.maximum.accumulate(np.where(new_tier, positions, 0)) - self._block_start
        self._ends = np.cumsum(below, dtype=np.int64)
        self._below = below
        self._total = int(self._ends[-1]) if len(ranks) else 0
        self._drawn = n_pairs is not None and n_pairs < self._total
        self._length = n_pairs if n_pairs is not None and self._drawn else self._total
        self._seed = seed
        self._features = features

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> tuple[Any, Any, int]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[tuple[Any, Any, int]]: ...
    def __getitem__(self, index: int | slice) -> tuple[Any, Any, int] | Sequence[tuple[Any, Any, int]]:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"pair {index} of {len(self)}")
        i, j, label = (int(values[0]) for values in self.take(np.array([index % len(self)])))
        return (i, j, label) if self._features is None else (self._features[i], self._features[j], label)

    def take(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return many pairs at once.

        Args:
            positions: integers of shape (B,), each in 0..len - 1.

        Returns:
            i and j, int64 of shape (B,), and label, int8 of shape (B,).
        """
        number = np.asarray(positions, dtype=np.int64)
        if self._drawn:
            number = _permuted(number, self._total, self._seed)
        better = np.searchsorted(self._ends, number, side="right")
        worse = self._block_start[better] + number - (self._ends[better] - self._below[better])
        i, j = self._order[better], self._order[worse]
        turned = (_mixed(number.astype(np.uint64), _key(self._seed, _ROUNDS)) & np.uint64(1)).astype(bool)
        return np.where(turned, j, i), np.where(turned, i, j), np.where(turned, -1, 1).astype(np.int8)

    def batches(self, batch_size: int, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield every pair once, in random order.

        Args:
            batch_size: pairs a batch; the last batch may be smaller.
            rng: decides the order.

        Yields:
            (i, j, label) as `take` returns them.
        """
        order_seed = int(rng.integers(1 << 62))
        for start in range(0, len(self), batch_size):
            positions = np.arange(start, min(start + batch_size, len(self)))
            yield self.take(_permuted(positions, len(self), order_seed))


def _blocks(context: np.ndarray | None, n_rows: int) -> np.ndarray:
    if context is None:
        return np.zeros(n_rows, dtype=np.int64)
    return np.unique(np.asarray(context), return_inverse=True)[1].astype(np.int64)


def _permuted(numbers: np.ndarray, total: int, seed: int) -> np.ndarray:
    """Map numbers below `total` one to one to numbers below `total`, in no visible order and without a table.

    A Feistel network over the next power of four, walked on until the value is in range (Black and Rogaway 2002,
    "Ciphers with arbitrary finite domains").
    """
    half_bits = np.uint64(max(1, -(-(total - 1).bit_length() // 2)))
    mask = (np.uint64(1) << half_bits) - np.uint64(1)
    result = np.asarray(numbers, dtype=np.uint64)
    todo = np.ones(len(result), dtype=bool)
    while todo.any():
        left, right = result[todo] >> half_bits, result[todo] & mask
        for round_number in range(_ROUNDS):
            left, right = right, left ^ (_mixed(right, _key(seed, round_number)) & mask)
        result[todo] = (left << half_bits) | right
        todo[todo] = result[todo] >= total
    return result.astype(np.int64)


@lru_cache(maxsize=256)
def _key(seed: int, round_number: int) -> np.uint64:
    return np.uint64(np.random.SeedSequence([seed, round_number]).generate_state(1, np.uint64)[0])


def _mixed(values: np.ndarray, key: np.uint64) -> np.ndarray:
    """Hash uint64 values: the output function of SplitMix64 (Steele, Lea, Flood 2014)."""
    z = values ^ key
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
