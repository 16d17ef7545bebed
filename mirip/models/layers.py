"""The trainable layers: projector and score head, alone or n of them side by side.

n heads are trained at once by stacked layers, whose parameters have a leading axis of n: one batched operation for
all of them. Member k computes what the plain layer with the k-th slice of the parameters computes, up to float32
rounding.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional


class Projector(nn.Module):
    """An MLP from backbone features to a smaller embedding: in_dim -> hidden_dim -> out_dim.

    Features enter standardised by the mean and deviation of the training split (`fit_standardizer`); both are
    buffers, so that they travel with the weights. Each layer is followed by LayerNorm and GELU.

    Args:
        in_dim: width of the features, D.
        hidden_dim: width of the hidden layer.
        out_dim: width of the embedding.
        dropout: share of hidden units dropped in training, in [0, 1).
        n_heads: 1, or n for n projectors side by side, whose parameters have a leading axis of n.
    """

    feature_mean: torch.Tensor
    feature_std: torch.Tensor

    def __init__(
        self, in_dim: int = 1024, hidden_dim: int = 512, out_dim: int = 256, dropout: float = 0.1, n_heads: int = 1
    ) -> None:
        super().__init__()
        # Buffers, not parameters: no gradient, yet part of the checkpoint.
        self.register_buffer("feature_mean", torch.zeros(in_dim))
        self.register_buffer("feature_std", torch.ones(in_dim))
        self.layers = nn.Sequential(
            linear_layer(n_heads, in_dim, hidden_dim),
            layer_norm_layer(n_heads, hidden_dim),
            nn.GELU(),
            StreamedDropout(dropout),
            linear_layer(n_heads, hidden_dim, out_dim),
            layer_norm_layer(n_heads, out_dim),
            nn.GELU(),
            StreamedDropout(dropout),
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
        embedding: torch.Tensor = self.layers(self.standardised(features))  # (B, D) -> (B, 256)
        return embedding

    def standardised(self, features: torch.Tensor) -> torch.Tensor:
        """Return features (..., in_dim) less the mean, over the deviation, of the training split."""
        return (features - self.feature_mean).div_(self.feature_std)


class ScoreHead(nn.Module):
    """Two layers from an embedding to one score: in_dim -> hidden_dim -> 1. Higher is better.

    With `n_heads` above 1 it holds n such heads, whose parameters have a leading axis of n.
    """

    def __init__(self, in_dim: int = 256, hidden_dim: int = 64, n_heads: int = 1) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            linear_layer(n_heads, in_dim, hidden_dim), nn.GELU(), linear_layer(n_heads, hidden_dim, 1)
        )

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        """Score `embedding` (B, in_dim) float32 as (B, 1) float32; (n, B, in_dim) as (n, B, 1) with n heads."""
        score: torch.Tensor = self.layers(embedding)  # (B, 256) -> (B, 1)
        return score


class LinearMember(nn.Module):
    """A weighted sum of the standardised features, (..., in_dim) -> (...); fitted beside the training, not by it.

    Weights and bias are buffers: no gradient, yet part of the checkpoint.
    """

    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(self, in_dim: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(in_dim))
        self.register_buffer("bias", torch.zeros(()))

    def forward(self, standardised: torch.Tensor) -> torch.Tensor:
        """Score standardised features (..., in_dim) float32 as (...) float32."""
        return standardised @ self.weight + self.bias


@dataclass
class DropoutStreams:
    """Where the dropout of n heads comes from: a generator each, so that no head's draws depend on the others.

    Attributes:
        generators: n of them, on the device of the inputs.
        rows: how many of a head's input rows are real, n numbers; the rows after them are padding and draw nothing.
    """

    generators: Sequence[torch.Generator]
    rows: Sequence[int]


class _BatchedLinear(torch.autograd.Function):
    """x (n, B, in), weight (n, out, in), bias (n, out) -> (n, B, out).

    Autograd's own gradient of a transposed weight comes out transposed, and copying it costs as much as a product.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        return torch.bmm(x, weight.mT).add_(bias[:, None])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor, torch.Tensor]:
        x, weight = ctx.saved_tensors
        of_x = torch.bmm(gradient, weight) if ctx.needs_input_grad[0] else None
        return of_x, torch.bmm(gradient.mT, x), gradient.sum(dim=1)


class StackedLinear(nn.Module):
    """n linear layers: weight (n, out_dim, in_dim), bias (n, out_dim)."""

    def __init__(self, n_heads: int, in_dim: int, out_dim: int) -> None:
        super().__init__()
        plain = [nn.Linear(in_dim, out_dim) for _ in range(n_heads)]
        self.weight = nn.Parameter(torch.stack([layer.weight.detach() for layer in plain]))
        self.bias = nn.Parameter(torch.stack([layer.bias.detach() for layer in plain]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `x` (n, B, in_dim), or (B, in_dim) for all heads, to (n, B, out_dim)."""
        mapped: torch.Tensor = _BatchedLinear.apply(x.expand(len(self.weight), *x.shape[-2:]), self.weight, self.bias)
        return mapped


class StackedLayerNorm(nn.Module):
    """n LayerNorms over the last axis: weight (n, dim), bias (n, dim)."""

    def __init__(self, n_heads: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n_heads, dim))
        self.bias = nn.Parameter(torch.zeros(n_heads, dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise `x` (n, B, dim)."""
        by_head = zip(x, self.weight, self.bias, strict=True)  # the fused operation knows one weight at a time
        return torch.stack([functional.layer_norm(own, own.shape[-1:], weight, bias) for own, weight, bias in by_head])


class StreamedDropout(nn.Module):
    """Dropout of one head or n, each from its own stream. Without `streams` it is torch's, from the global generator.

    One draw of 64 bits serves four units: a unit is dropped where its 16 bits are among the lowest share p. On the CPU
    this is ten times as fast as a draw for each unit. The share is p within 0.00001.
    """

    streams: DropoutStreams | None = None

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Drop a share p of `x`, (B, dim) or (n, B, dim), in training, and scale the rest by 1 / (1 - p)."""
        if self.streams is None or not self.training or self.p == 0:
            return functional.dropout(x, self.p, self.training)
        heads = x if x.ndim == 3 else x[None]
        # Padding is zeroed rather than drawn: a head's stream moves on by its own rows alone.
        kept = torch.empty_like(heads) if min(self.streams.rows) == heads.shape[1] else torch.zeros_like(heads)
        for head, generator, rows in zip(kept, self.streams.generators, self.streams.rows, strict=True):
            n_units = rows * head.shape[1]
            draws = torch.empty(-(-n_units // 4), dtype=torch.int64, device=x.device)
            bits = draws.random_(-(2**63), None, generator=generator).view(torch.int16)[:n_units]
            torch.ge(bits.view(rows, -1), round(self.p * 2**16) - 2**15, out=head[:rows])
        return x * kept.div_(1 - self.p).view_as(x)


def linear_layer(n_heads: int, in_dim: int, out_dim: int) -> nn.Module:
    """Return a plain linear layer for one head, a stack for more."""
    return nn.Linear(in_dim, out_dim) if n_heads == 1 else StackedLinear(n_heads, in_dim, out_dim)


def layer_norm_layer(n_heads: int, dim: int) -> nn.Module:
    """Return a plain LayerNorm for one head, a stack for more."""
    return nn.LayerNorm(dim) if n_heads == 1 else StackedLayerNorm(n_heads, dim)


def set_streams(model: nn.Module, streams: DropoutStreams | None) -> None:
    """Let all dropout of a model draw from `streams`; None: from the global generator."""
    for module in model.modules():
        if isinstance(module, StreamedDropout):
            module.streams = streams


def clip_each_head(parameters: Sequence[nn.Parameter], max_norm: float) -> None:
    """Scale the gradients (n, ...) of each head to a norm of at most `max_norm`, like `clip_grad_norm_`."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norms = torch.stack([torch.linalg.vector_norm(gradient.flatten(1), dim=1) for gradient in gradients])  # (P, n)
    scale = (max_norm / (torch.linalg.vector_norm(norms, dim=0) + 1e-6)).clamp(max=1.0)  # (n,)
    for gradient in gradients:
        gradient.mul_(scale.view(-1, *[1] * (gradient.ndim - 1)))


@torch.no_grad()
def stack_parameters(stack: nn.Module, models: Sequence[nn.Module]) -> None:
    """Copy the parameters of n plain models into a stacked one, the k-th model's into slice k."""
    states = [dict(model.named_parameters()) for model in models]
    for name, parameter in stack.named_parameters():
        parameter.copy_(torch.stack([state[name] for state in states]))
