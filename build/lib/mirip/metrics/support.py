"""What stands behind a figure: how many groups, and how many independent pairs they are worth."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

MIN_GROUPS = 30
MIN_GROUPS_PER_TIER = 5

_SHARED_IMAGE_CORRELATION = 1 / 3


class GroupSupport(NamedTuple):
    """How many groups stand behind a figure: in all, and in the tier that has fewest.

    `independent_pairs` says how many pairs that share nothing would tell an accuracy as surely, judged by tiers and
    groups alone, see `group_support`.
    """

    n_groups: int
    fewest_in_tier: int
    independent_pairs: float

    @property
    def small_sample(self) -> bool:
        """Below 30 groups, or 5 in any tier present."""
        return self.n_groups < MIN_GROUPS or self.fewest_in_tier < MIN_GROUPS_PER_TIER


def group_support(tier_rank: ArrayLike, group_id: ArrayLike, context: ArrayLike | None = None) -> GroupSupport:
    """Count the distinct groups of (N,) rows, in all and in the tier that has fewest (of the tiers present).

    The independent pairs are P^2 / (rho * sum of D_g^2), with P cross-tier pairs in all and D_g those that a group's
    images stand in. For two tiers of m and n images, each its own group, that is m n / (rho (m + n)). Of scores that
    say nothing two pairs that share an image correlate by rho = 1/3, whence the variance (m + n + 1) / (12 m n) of
    Mann & Whitney 1947 (Annals of Mathematical Statistics 18); of better scores by 1/4 to 1/3 under the exponential
    model of Hanley & McNeil 1982. The number is a cautious one, for where the data show too few wrong pairs to measure
    their own spread: the images of a group count as if they were one, since nothing says how alike they are, and that
    an image of a middle tier wins and loses is not set off.

    Args:
        tier_rank: (N,) integers from 0.
        group_id: (N,) labels.
        context: (N,) labels; only pairs of one context count. None: all pairs.
    """
    rank, group = np.asarray(tier_rank, dtype=np.int64), np.asarray(group_id)
    per_tier = [len(np.unique(group[rank == tier])) for tier in np.unique(rank)]
    names, member = np.unique(group, return_inverse=True)
    block = np.zeros(len(rank), dtype=np.int64) if context is None else np.unique(context, return_inverse=True)[1]
    cell = block.reshape(-1) * (rank.max(initial=0) + 1) + rank
    others = np.bincount(block.reshape(-1))[block.reshape(-1)] - np.bincount(cell)[cell] if len(rank) else rank
    of_group = np.bincount(member.reshape(-1), weights=others, minlength=len(names))
    squares = _SHARED_IMAGE_CORRELATION * float((of_group**2).sum())
    worth = (float(others.sum()) / 2) ** 2 / squares if squares else 0.0
    return GroupSupport(len(names), min(per_tier, default=0), worth)
