"""AdamW with cosine annealing, by torch's own update of the parameters.

torch.optim.AdamW computes the same, but its constructor imports torch's compiler. That takes two seconds, as long as a
small training, and the compiler is not used here. The function underneath is public too, and does not import it.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.optim.adamw import adamw

from mirip.params import TrainParams


class AdamW:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, ICLR), betas 0.9 and 0.999, epsilon 1e-8.

    Args:
        parameters: what is updated; their gradients are read from `.grad`, and one without a gradient is left alone.
        weight_decay: share of a parameter that decays in a step, in units of the learning rate.
    """

    def __init__(self, parameters: Sequence[torch.nn.Parameter], weight_decay: float) -> None:
        self._parameters = list(parameters)
        self._weight_decay = weight_decay
        self._means = [torch.zeros_like(parameter) for parameter in self._parameters]
        self._squares = [torch.zeros_like(parameter) for parameter in self._parameters]
        self._steps = [torch.zeros((), device=parameter.device) for parameter in self._parameters]

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Update the parameters by their gradients."""
        with_gradient = [k for k, parameter in enumerate(self._parameters) if parameter.grad is not None]

        def chosen(of_all: Sequence[Any]) -> list[torch.Tensor]:
            return [of_all[k] for k in with_gradient]

        adamw(
            chosen(self._parameters),
            chosen([parameter.grad for parameter in self._parameters]),
            chosen(self._means),
            chosen(self._squares),
            [],
            chosen(self._steps),
            fused=True,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=learning_rate,
            weight_decay=self._weight_decay,
            eps=1e-8,
            maximize=False,
        )

    def state_dict(self) -> dict[str, list[torch.Tensor]]:
        """Return what a resumption needs."""
        return {"means": self._means, "squares": self._squares, "steps": self._steps}

    def load_state_dict(self, state: dict[str, list[torch.Tensor]]) -> None:
        """Go on from what `state_dict` returned."""
        own = self.state_dict()
        for name, values in state.items():
            for mine, value in zip(own[name], values, strict=True):
                mine.copy_(value)


def cosine_rate(config: TrainParams, epoch: int) -> float:
    """Return the learning rate of an epoch from 1: cosine annealing (Loshchilov & Hutter 2017, ICLR) without restarts.

    It falls from `learning_rate` to `scheduler_eta_min` in `scheduler_t_max` epochs and then stays.
    """
    share = min(epoch - 1, config.scheduler_t_max) / config.scheduler_t_max
    low, high = config.scheduler_eta_min, config.learning_rate
    return low + (high - low) * (1 + math.cos(math.pi * share)) / 2
