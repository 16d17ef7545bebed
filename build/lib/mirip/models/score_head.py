"""The trainable score of an embedding."""

import torch
from torch import nn

from mirip.models.stacked import linear_layer


class ScoreHead(nn.Module):
    """Two layers from an embedding to one score: in_dim -> hidden_dim -> 1. Higher is better.

    With `n_members` above 1 it holds n such heads, whose parameters bear a leading axis of n.
    """

    def __init__(self, in_dim: int = 256, hidden_dim: int = 64, n_members: int = 1) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            linear_layer(n_members, in_dim, hidden_dim), nn.GELU(), linear_layer(n_members, hidden_dim, 1)
        )

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        """Score `embedding` (B, in_dim) float32 as (B, 1) float32; (n, B, in_dim) as (n, B, 1) with n heads."""
        score: torch.Tensor = self.layers(embedding)  # (B, 256) -> (B, 1)
        return score
