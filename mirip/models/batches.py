"""What one training step looks at, as index arrays."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mirip.metrics.products import times
from mirip.params import TrainParams

Indices = NDArray[np.int64]
Floats = NDArray[np.float64]

_MIN_STEPS = 4
_MIN_IMAGES_PER_STEP = 64


def image_batches(n_images: int, images_per_step: int, rng: np.random.Generator) -> Iterator[Indices]:
    """Yield a random partition of all images into batches of nearly equal size, at most `images_per_step` each.

    Equal sizes, since a last batch of a few images would weigh as much as a full one and hold hardly a pair. At least
    four batches where that leaves 64 images in each: with one step an epoch, early stopping counts single steps.
    """
    n_steps = max(-(-n_images // images_per_step), min(_MIN_STEPS, n_images // _MIN_IMAGES_PER_STEP))
    yield from np.array_split(rng.permutation(n_images), n_steps)


def pair_batches(
    tier_rank: NDArray[np.integer], context: NDArray[np.integer], config: TrainParams, rng: np.random.Generator
) -> Iterator[tuple[Indices, Floats]]:
    """Yield one epoch of cross-tier pairs: each image once as an anchor, with a random image of another tier.

    Args:
        tier_rank: (N,), higher is better.
        context: (N,) codes; looked at only where `config.pair_context` is "same".
        config: batch_size, pair_balance and pair_context.
        rng: source of the partners and of the order.

    Yields:
        Batches of nearly equal size, at most `config.batch_size`: rows (2, P) of the better and the worse image, and
        weights (P,). A weighted mean over all batches estimates the loss over all pairs, natural or balanced: an
        image of a rare tier is drawn more often than its share of the pairs, and weighs less for it.
    """
    fair = context if config.pair_context == "same" else np.zeros_like(context)
    better, worse, n_partners = _anchored_pairs(tier_rank, fair, rng)
    if not len(better):
        return
    weights = 1 / (1 / n_partners[better] + 1 / n_partners[worse])  # over how often this pair is drawn in an epoch
    if config.pair_balance == "balanced":
        weights /= _pairs_of_same_tiers(tier_rank, fair)[tier_rank[better], tier_rank[worse]]
    weights /= weights.mean()
    n_steps = -(-len(better) // config.batch_size)
    for chosen in np.array_split(np.arange(len(better)), n_steps):
        yield np.stack([better[chosen], worse[chosen]]), weights[chosen]


def _anchored_pairs(
    tier_rank: NDArray[np.integer], context: NDArray[np.integer], rng: np.random.Generator
) -> tuple[Indices, Indices, Indices]:
    """Pair every image that has a partner once; return better (P,), worse (P,), and each image's number of partners."""
    # Sorted by context, then tier, the partners of an image are its context's run without its tier's run in the middle.
    order = np.lexsort((tier_rank, context))
    sorted_context, sorted_tier = context[order], tier_rank[order]
    context_start, context_end = _runs(sorted_context)
    tier_start, tier_end = _runs(sorted_context.astype(np.int64) * (int(tier_rank.max(initial=0)) + 1) + sorted_tier)
    n_partners = (context_end - context_start) - (tier_end - tier_start)
    anchors = np.flatnonzero(n_partners)
    # A place among the partners, counted as if its own tier were cut out; from that tier on it moves up by its length.
    partners = context_start[anchors] + rng.integers(0, n_partners[anchors])
    own_tier = tier_start[anchors]
    partners += np.where(partners >= own_tier, tier_end[anchors] - own_tier, 0)
    shuffled = rng.permutation(len(anchors))  # else a batch would hold one context and one tier
    first, second = order[anchors[shuffled]], order[partners[shuffled]]
    first_is_better = tier_rank[first] > tier_rank[second]
    by_image = np.empty_like(n_partners)
    by_image[order] = n_partners
    return np.where(first_is_better, first, second), np.where(first_is_better, second, first), by_image


def _pairs_of_same_tiers(tier_rank: NDArray[np.integer], context: NDArray[np.integer]) -> Floats:
    """Count fair pairs by the tiers of their two images, (K, K)."""
    n_tiers = int(tier_rank.max()) + 1
    codes = np.unique(context, return_inverse=True)[1]
    members = np.zeros((codes.max() + 1, n_tiers))
    np.add.at(members, (codes, tier_rank), 1)
    return times(members.T, members)


def _runs(values: NDArray[np.integer]) -> tuple[Indices, Indices]:
    """For each element of a sorted array, where its run of equal values starts and ends (exclusive)."""
    return np.searchsorted(values, values, side="left"), np.searchsorted(values, values, side="right")
