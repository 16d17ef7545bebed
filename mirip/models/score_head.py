"""The trainable score of an embedding."""

import torch
from torch import nn


class ScoreHead(nn.Module):
    """Two layers from an embedding to one score: in_dim -> hidden_dim -> 1. Higher is better."""

    def __init__(self, in_dim: int = 256, hidden_dim: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(in_dim, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, 1))

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        """Score `embedding` (B, in_dim) float32 as (B, 1) float32."""
        score: torch.Tensor = self.layers(embedding)  # (B, 256) -> (B, 1)
        return score
