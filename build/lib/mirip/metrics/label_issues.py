"""The labels that a ranker contradicts most: first to look at when a mark may have been mistyped."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mirip.metrics.pairwise import context_codes

Floats = NDArray[np.float64]


def label_issues(
    scores: Floats, tier_rank: NDArray[np.integer], fold: NDArray[np.generic], *, count: int = 50
) -> pd.DataFrame:
    """Return the images that stand on the wrong side of most works of other tiers.

    Compared within a fold only, where scores come from one model that saw none of its images.

    Args:
        scores: (N,) out of fold, higher is better.
        tier_rank: (N,) integers from 0, higher is better.
        fold: (N,) labels.
        count: how many at most.

    Returns:
        row (int), score_percentile (share of the fold's works below it, ties as half, in percent) and
        misordered_share (of the fold's works of other tiers, in [0, 1], ties as half); the most label_issues first.
        Images that contradict nothing are left out.
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
