"""Layers of n networks side by side: parameters with a leading axis of heads, one batched operation for all.

Head k computes what the plain layer with the k-th slice of the parameters computes, up to float32 rounding.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional


@dataclass
class DropoutStreams:
    """Where the dropout of n heads comes from: a generator each, so that no head's draws depend on the others.

    On the CPU a head draws what `torch.nn.Dropout` draws after `torch.manual_seed` with its generator's seed.

    Attributes:
        generators: n of them, on the device of the inputs.
        rows: how many of a head's input rows are real, n numbers; those behind are padding and draw nothing.
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

    def __init__(self, n_members: int, in_dim: int, out_dim: int) -> None:
        super().__init__()
        plain = [nn.Linear(in_dim, out_dim) for _ in range(n_members)]
        self.weight = nn.Parameter(torch.stack([layer.weight.detach() for layer in plain]))
        self.bias = nn.Parameter(torch.stack([layer.bias.detach() for layer in plain]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `x` (n, B, in_dim), or (B, in_dim) for all heads alike, to (n, B, out_dim)."""
        mapped: torch.Tensor = _BatchedLinear.apply(x.expand(len(self.weight), *x.shape[-2:]), self.weight, self.bias)
        return mapped


class StackedLayerNorm(nn.Module):
    """n LayerNorms over the last axis: weight (n, dim), bias (n, dim)."""

    def __init__(self, n_members: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n_members, dim))
        self.bias = nn.Parameter(torch.zeros(n_members, dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise `x` (n, B, dim)."""
        by_head = zip(x, self.weight, self.bias, strict=True)  # the fused operation knows one weight at a time
        return torch.stack([functional.layer_norm(own, own.shape[-1:], weight, bias) for own, weight, bias in by_head])


class StackedDropout(nn.Module):
    """Dropout of n heads, each from its own stream; set `streams` before training."""

    streams: DropoutStreams | None = None

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Drop a share p of `x` (n, B, dim) in training, and scale the rest by 1 / (1 - p)."""
        if not self.training or self.p == 0:
            return x
        assert self.streams is not None
        kept = torch.empty_like(x) if min(self.streams.rows) == x.shape[1] else torch.zeros_like(x)
        for head, generator, rows in zip(kept, self.streams.generators, self.streams.rows, strict=True):
            head[:rows].bernoulli_(1 - self.p, generator=generator)
        return x * kept.div_(1 - self.p)


def linear_layer(n_members: int, in_dim: int, out_dim: int) -> nn.Module:
    """Return a plain linear layer for one head, a stack for more."""
    return nn.Linear(in_dim, out_dim) if n_members == 1 else StackedLinear(n_members, in_dim, out_dim)


def layer_norm_layer(n_members: int, dim: int) -> nn.Module:
    """Return a plain LayerNorm for one head, a stack for more."""
    return nn.LayerNorm(dim) if n_members == 1 else StackedLayerNorm(n_members, dim)


def dropout_layer(n_members: int, p: float) -> nn.Module:
    """Return plain dropout for one head, separate streams for more."""
    return nn.Dropout(p) if n_members == 1 else StackedDropout(p)


def set_streams(model: nn.Module, streams: DropoutStreams) -> None:
    """Let all dropout of a stacked model draw from `streams`."""
    for module in model.modules():
        if isinstance(module, StackedDropout):
            module.streams = streams


def clip_each_member(parameters: Sequence[nn.Parameter], max_norm: float) -> None:
    """Scale the gradients (n, ...) of each head to a norm of at most `max_norm`, as `clip_grad_norm_` does for one."""
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
