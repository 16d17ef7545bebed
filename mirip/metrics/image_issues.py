"""Single images to look at: near-duplicates across the split, label issues and outliers.

Near-duplicates are two images in two splits that the backbone sees as one: the model may know a part of the test split
by heart. Identical files and close perceptual hashes are in one group before the split; what is left are crops, other
lighting, a second photo of one drawing. Distances are chords between standardised feature vectors of unit length,
sqrt(2 - 2 cos). What is near depends on the backbone and the collection, so the unit is the typical distance from an
image to its nearest one in another split: a pair is reported below half of its median, and in a low dimension below
what chance would leave somewhere among so many images. Near a point, the nearest of many neighbours lies within r
with probability 1 - exp(-c r^d), d being the intrinsic dimension (Levina & Bickel 2004, NIPS 17); d follows from the
median and the upper quartile of the nearest distances. Both hold while fewer than about four in ten images have a
duplicate in another split; where most have one, duplicates are the typical case, and none is reported.

Label issues are images whose score disagrees most with their tier: look there first for a mistyped tier. Outliers are
the images least like the rest: a photo of a person, an advert, a blank page.

At most 5,000 images are searched for near-duplicates, against all others in blocks, so the time is linear in N.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mirip.metrics.pairwise import context_codes
from mirip.metrics.products import times
from mirip.metrics.unlikeness import FEWEST, feature_spread

Floats = NDArray[np.float64]

_NEAR = 0.5
_CHANCE = 0.01  # of a pair reported among images that are all different
_MAX_SEARCHED = 5_000
_MAX_FITTED = 20_000
_BLOCK = 4096


@dataclass(frozen=True)
class NearDuplicates:
    """What `near_duplicates` found.

    Attributes:
        pairs: row, other_row (int, of the smaller and the other split), cosine, relative_distance (chord over the
            typical nearest distance); the closest first.
        n_searched: images that were searched for.
        n_candidates: images that could have been: those of all splits but the largest.
        typical_distance: median chord to the nearest image of another split; NaN where nothing was searched.
        threshold: relative distance below which a pair is reported.
    """

    pairs: pd.DataFrame
    n_searched: int
    n_candidates: int
    typical_distance: float
    threshold: float


def near_duplicates(
    features: NDArray[np.floating],
    split: NDArray[np.generic],
    *,
    rng: np.random.Generator,
    max_searched: int = _MAX_SEARCHED,
) -> NearDuplicates:
    """Find images whose nearest image in another split is far nearer than is usual.

    Args:
        features: (N, D) finite.
        split: (N,) labels. Images of all splits but the largest are looked for among those of all other splits.
        rng: draws those that are searched for, where there are more than `max_searched`.
        max_searched: bound of the time.
    """
    _, code, counts = np.unique(split, return_inverse=True, return_counts=True)
    candidates = np.flatnonzero(code != counts.argmax()) if len(counts) else np.empty(0, dtype=np.int64)
    searched = candidates
    if len(candidates) > max_searched:
        searched = np.sort(rng.choice(candidates, max_searched, replace=False))
    columns = ["row", "other_row", "cosine", "relative_distance"]
    if not len(searched):
        return NearDuplicates(pd.DataFrame(columns=columns), 0, 0, np.nan, _NEAR)
    nearest, chord = _nearest(features, code, searched)
    cosine = 1 - chord**2 / 2
    typical = float(np.median(chord))
    threshold = _threshold(chord)
    near = np.flatnonzero(chord < threshold * typical)
    pairs = pd.DataFrame(
        {
            "row": searched[near],
            "other_row": nearest[near],
            "cosine": cosine[near],
            "relative_distance": chord[near] / typical,
        },
        columns=columns,
    ).sort_values(["relative_distance", "row"], ignore_index=True)
    both_ways = np.sort(pairs[["row", "other_row"]].to_numpy(), axis=1)  # two small splits find each other
    once = ~pd.DataFrame(both_ways).duplicated().to_numpy()
    return NearDuplicates(pairs[once].reset_index(drop=True), len(searched), len(candidates), typical, threshold)


def _nearest(
    features: NDArray[np.floating], split: NDArray[np.int64], searched: NDArray[np.int64]
) -> tuple[NDArray[np.int64], Floats]:
    """Return for each searched row its nearest row of another split, and the chord between them."""
    mean, scale = _standardisation(features)
    wanted = _unit(features[searched], mean, scale)
    best = np.full(len(searched), -np.inf, dtype=np.float32)
    nearest = np.full(len(searched), -1, dtype=np.int64)
    for block in _blocks(len(features)):
        cosine = times(wanted, _unit(features[block], mean, scale).T)
        # An image may only find images of other splits.
        cosine[split[searched][:, None] == split[block][None, :]] = -np.inf
        place = cosine.argmax(axis=1)
        found = cosine[np.arange(len(searched)), place]
        closer = found > best
        best[closer], nearest[closer] = found[closer], place[closer] + block.start
    # Near 1 a cosine of float32 is too coarse to tell one small distance from another.
    chord = np.linalg.norm(wanted - _unit(features[nearest], mean, scale), axis=1)
    return nearest, chord.astype(np.float64)


def _threshold(chord: Floats) -> float:
    """Relative distance below which none of the (Q,) nearest distances is expected to fall by chance."""
    middle, upper = np.quantile(chord, [0.5, 0.75])
    if not middle > 0 or not upper > middle:
        return _NEAR
    dimension = np.log(2) / np.log(upper / middle)  # of F(r) = 1 - exp(-c r^d) at 1/2 and 3/4
    return float(min(_NEAR, (_CHANCE / len(chord)) ** (1 / dimension)))


def _standardisation(features: NDArray[np.floating]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and inverse deviation (D,) of each feature; 0 for one that is constant."""
    mean = features.mean(axis=0, dtype=np.float64)
    square = np.zeros_like(mean)
    for block in _blocks(len(features)):
        square += ((features[block] - mean) ** 2).sum(axis=0)
    deviation = np.sqrt(square / max(len(features), 1))
    scale = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 1e-12 * (1 + np.abs(mean)))
    return mean.astype(np.float32), scale.astype(np.float32)


def _unit(features: NDArray[np.floating], mean: NDArray[np.float32], scale: NDArray[np.float32]) -> NDArray[np.float32]:
    standard = (features.astype(np.float32) - mean) * scale
    norm = np.linalg.norm(standard, axis=1, keepdims=True)
    return np.asarray(standard / np.where(norm > 0, norm, 1), dtype=np.float32)


def _blocks(n: int) -> Iterator[slice]:
    yield from (slice(start, min(start + _BLOCK, n)) for start in range(0, n, _BLOCK))


def label_issues(
    scores: Floats, tier_rank: NDArray[np.integer], fold: NDArray[np.generic], *, count: int = 50
) -> pd.DataFrame:
    """Return the images that the model ranks wrongly against most images of other tiers.

    Compared within a fold only, where scores come from one model that saw none of its images.

    Args:
        scores: (N,) out of fold, higher is better.
        tier_rank: (N,) integers from 0, higher is better.
        fold: (N,) labels.
        count: how many at most.

    Returns:
        row (int), score_percentile (share of the fold's images below it, ties as half, in percent) and
        misordered_share (of the fold's images of other tiers, in [0, 1], ties as half); the largest share first.
        Images that are ranked wrongly against none are left out.
    """
    wrong, others, percentile = (np.zeros(len(scores)) for _ in range(3))
    code = context_codes(fold)
    for k in range(int(code.max(initial=-1)) + 1):
        rows = np.flatnonzero(code == k)
        percentile[rows] = 100 * _below(np.sort(scores[rows]), scores[rows]) / len(rows)
        tiers = {int(tier): np.sort(scores[rows[tier_rank[rows] == tier]]) for tier in np.unique(tier_rank[rows])}
        for tier in tiers:
            own = rows[tier_rank[rows] == tier]
            for other, theirs in tiers.items():
                if other != tier:
                    below = _below(theirs, scores[own])
                    wrong[own] += below if other > tier else len(theirs) - below
                    others[own] += len(theirs)
    share = np.divide(wrong, others, out=np.zeros(len(scores)), where=others > 0)
    order = np.argsort(-share, kind="stable")[:count]
    order = order[share[order] > 0]
    return pd.DataFrame({"row": order, "score_percentile": percentile[order], "misordered_share": share[order]})


def _below(theirs: Floats, scores: Floats) -> Floats:
    """Number of sorted values (M,) below each score (n,), ties as half."""
    left, right = np.searchsorted(theirs, scores, side="left"), np.searchsorted(theirs, scores, side="right")
    return np.asarray((left + right) / 2, dtype=np.float64)


def outliers(features: NDArray[np.floating], *, count: int = 20, rng: np.random.Generator) -> pd.DataFrame:
    """Return the images that lie farthest from the rest, as mirip.metrics.unlikeness measures it.

    Args:
        features: (N, D) finite.
        count: how many at most.
        rng: draws the images that the components are taken from, where there are more than 20,000.

    Returns:
        row (int) and distance (in robust deviations above the median image's); the farthest first. Empty below 10
        images, which are too few to say what is usual.
    """
    if len(features) < FEWEST:
        return pd.DataFrame({"row": np.empty(0, dtype=np.int64), "distance": np.empty(0)})
    distance = feature_spread(features, max_fitted=_MAX_FITTED, rng=rng).distance(features)
    order = np.argsort(-distance, kind="stable")[:count]
    return pd.DataFrame({"row": order, "distance": distance[order]})
