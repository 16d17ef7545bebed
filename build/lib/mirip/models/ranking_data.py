"""Images as the training sees them: features, tiers and contexts as arrays."""

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray


@dataclass(frozen=True)
class RankingData:
    """Images as a trainer sees them: features (N, D) float, tier_rank (N,) int, higher better, context (N,) codes."""

    features: NDArray[np.floating]
    tier_rank: NDArray[np.integer]
    context: NDArray[np.integer]

    def __len__(self) -> int:
        return len(self.tier_rank)

    def digest(self) -> str:
        """Return a sha256 of features, tiers and contexts, 64 hexadecimal digits."""
        parts = (self.features, self.tier_rank.astype(np.int64), self.context.astype(np.int64))
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
