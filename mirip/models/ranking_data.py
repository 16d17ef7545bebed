"""Images as the training sees them: features, tiers and contexts as arrays."""

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray


@dataclass(frozen=True)
class RankingData:
    """Images as a trainer sees them.

    Attributes:
        features: (N, D) float.
        tier_rank: (N,) int, higher is better.
        context: (N,) codes; a comparison is fair within one.
        group: (N,) codes; what is held out together to choose a penalty. None: every image is a group of its own.
    """

    features: NDArray[np.floating]
    tier_rank: NDArray[np.integer]
    context: NDArray[np.integer]
    group: NDArray[np.integer] | None = None

    def __len__(self) -> int:
        return len(self.tier_rank)

    def rows(self, chosen: NDArray[np.generic]) -> "RankingData":
        """Return some of the images, by a mask (N,) or by row numbers."""
        group = None if self.group is None else self.group[chosen]
        return RankingData(self.features[chosen], self.tier_rank[chosen], self.context[chosen], group)

    def digest(self) -> str:
        """Return a sha256 of features, tiers, contexts and groups, 64 hexadecimal digits."""
        codes = (self.tier_rank, self.context, *([] if self.group is None else [self.group]))
        parts = (self.features, *(each.astype(np.int64) for each in codes))
        hashed = hashlib.sha256()
        for part in parts:
            hashed.update(np.ascontiguousarray(part).tobytes())
        return hashed.hexdigest()

    def tensors(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return features (N, D) float32, tier_rank (N,) int64 and context (N,) int64 on a device."""
        return (
            torch.from_numpy(np.ascontiguousarray(self.features, dtype=np.float32)).to(device),
            torch.from_numpy(self.tier_rank.astype(np.int64)).to(device),
            torch.from_numpy(self.context.astype(np.int64)).to(device),
        )
