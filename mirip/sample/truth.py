"""What only the maker of the sample can know: the skill behind each artwork, and how well anyone could rank them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mirip.sample.artists import DEPARTMENT_BONUS, TIER_SHARES, Artwork
from mirip.sample.planted import PLANTED, UNUSABLE

_ABOUT = (
    "Read by no stage. `score` is what the best possible ranker gives an artwork: the skill it was drawn with plus the "
    "department's bonus; the rest of the tier is label noise. Its accuracy is over all pairs of artworks of different "
    "tier among `artworks` without the unusable ones; a tie counts half. For the accuracy on other pairs, such as "
    "those of the test split, compare `score` there."
)


def best_ranker_accuracy(tiers: Sequence[str], scores: Sequence[float]) -> tuple[float, int]:
    """Return the share of cross-tier pairs that `scores` order as the tiers do, ties counted half, and their number."""
    right, total = 0.0, 0
    by_tier = [
        np.sort([score for tier, score in zip(tiers, scores, strict=True) if tier == name]) for name in TIER_SHARES
    ]
    for position, better in enumerate(by_tier):
        for worse in by_tier[position + 1 :]:
            below = np.searchsorted(worse, better, side="left").sum()
            not_above = np.searchsorted(worse, better, side="right").sum()
            right += (below + not_above) / 2
            total += len(better) * len(worse)
    return float(right / total) if total else float("nan"), total


def truth(
    seed: int,
    artworks: Sequence[Artwork],
    paths: Sequence[str],
    spoiled: Mapping[str, int],
    originals: Mapping[str, int],
) -> dict[str, Any]:
    """Return the content of truth.json for artworks and their image paths, in the metadata's order."""
    unusable = {spoiled[kind] for kind in UNUSABLE}
    usable = [artwork for artwork in artworks if artwork.index not in unusable]
    accuracy, n_pairs = best_ranker_accuracy(
        [artwork.tier for artwork in usable], [artwork.merit for artwork in usable]
    )
    skill_alone, _ = best_ranker_accuracy([artwork.tier for artwork in usable], [artwork.skill for artwork in usable])
    planted = {
        kind: {"image_path": paths[spoiled[kind]], "what": what}
        | ({"copy_of": paths[originals[kind]]} if kind in originals else {})
        for kind, what in PLANTED.items()
    }
    return {
        "about": _ABOUT,
        "seed": seed,
        "best_ranker": {"accuracy": accuracy, "accuracy_by_skill_alone": skill_alone, "n_pairs": n_pairs},
        "department_bonus": DEPARTMENT_BONUS,
        "planted": planted,
        "artworks": [
            {
                "image_path": path,
                "tier": artwork.tier,
                "department": artwork.department,
                "skill": artwork.skill,
                "score": artwork.merit,
                "usable": artwork.index not in unusable,
            }
            for artwork, path in zip(artworks, paths, strict=True)
        ],
    }
