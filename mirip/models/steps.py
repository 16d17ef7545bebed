"""What one training step looks at, as index arrays."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


def image_batches(n_images: int, images_per_step: int, rng: np.random.Generator) -> Iterator[Indices]:
    """Yield a random partition of all images into batches of nearly equal size, at most `images_per_step` each.

    Equal sizes, since a last batch of a few images would weigh as much as a full one and hold hardly a pair.
    """
    n_steps = -(-n_images // images_per_step)
    yield from np.array_split(rng.permutation(n_images), n_steps)


def anchored_pairs(
    tier_rank: NDArray[np.integer], context: NDArray[np.integer], rng: np.random.Generator
) -> tuple[Indices, Indices]:
    """Pair every image once with a random image of another tier in the same context.

    Args:
        tier_rank: (N,), higher is better.
        context: (N,) codes; all equal where any two images may be compared.
        rng: source of the partners and of the order.

    Returns:
        better (P,) and worse (P,), P <= N: an image without a possible partner is left out. O(N log N).
    """
    order = np.lexsort((tier_rank, context))
    sorted_context, sorted_tier = context[order], tier_rank[order]
    context_start, context_end = _runs(sorted_context)
    tier_start, tier_end = _runs(sorted_context.astype(np.int64) * (int(tier_rank.max()) + 1) + sorted_tier)
    n_partners = (context_end - context_start) - (tier_end - tier_start)
    anchors = np.flatnonzero(n_partners)
    partners = context_start[anchors] + rng.integers(0, n_partners[anchors])
    own_tier = tier_start[anchors]
    partners += np.where(partners >= own_tier, tier_end[anchors] - own_tier, 0)
    shuffled = rng.permutation(len(anchors))
    first, second = order[anchors[shuffled]], order[partners[shuffled]]
    first_is_better = tier_rank[first] > tier_rank[second]
    return np.where(first_is_better, first, second), np.where(first_is_better, second, first)


def _runs(values: NDArray[np.integer]) -> tuple[Indices, Indices]:
    """For each element of a sorted array, where its run of equal values starts and ends (exclusive)."""
    return np.searchsorted(values, values, side="left"), np.searchsorted(values, values, side="right")
