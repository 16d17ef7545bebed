"""The trainable projection of frozen features."""

import torch
from torch import nn

from mirip.models.stacked import dropout_layer, layer_norm_layer, linear_layer


class Projector(nn.Module):
    """An MLP from backbone features to a smaller embedding: in_dim -> hidden_dim -> out_dim.

    Features enter standardised by the mean and deviation of the training split (`fit_standardizer`); both are
    buffers, so that they travel with the weights. Each layer is followed by LayerNorm and GELU.

    Args:
        in_dim: width of the features, D.
        hidden_dim: width of the hidden layer.
        out_dim: width of the embedding.
        dropout: share of hidden units dropped in training, in [0, 1).
        n_members: 1, or n for n projectors side by side, whose parameters bear a leading axis of n.
    """

    feature_mean: torch.Tensor
    feature_std: torch.Tensor

    def __init__(
        self, in_dim: int = 1024, hidden_dim: int = 512, out_dim: int = 256, dropout: float = 0.1, n_members: int = 1
    ) -> None:
        super().__init__()
        self.register_buffer("feature_mean", torch.zeros(in_dim))
        self.register_buffer("feature_std", torch.ones(in_dim))
        self.layers = nn.Sequential(
            linear_layer(n_members, in_dim, hidden_dim),
            layer_norm_layer(n_members, hidden_dim),
            nn.GELU(),
            dropout_layer(n_members, dropout),
            linear_layer(n_members, hidden_dim, out_dim),
            layer_norm_layer(n_members, out_dim),
            nn.GELU(),
            dropout_layer(n_members, dropout),
        )

    @torch.no_grad()
    def fit_standardizer(self, features: torch.Tensor) -> None:
        """Take mean and deviation per feature from `features` (N, in_dim); a constant feature keeps deviation 1."""
        std, mean = torch.std_mean(features, dim=0, correction=0)
        self.feature_mean.copy_(mean)
        self.feature_std.copy_(torch.where(std > 1e-6 * (1 + mean.abs()), std, torch.ones_like(std)))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Project `features` (B, in_dim) float32 to (B, out_dim) float32.

        With n heads the output is (n, B, out_dim), and `features` may be (n, B, in_dim): rows of its own for each.
        """
        standardised = (features - self.feature_mean).div_(self.feature_std)
        embedding: torch.Tensor = self.layers(standardised)  # (B, D) -> (B, 256)
        return embedding
