"""Losses on score differences of cross-tier pairs.

LOSSES has one entry for each loss. A new one is an entry there and its name in `TrainParams.loss`, which has to list it
because params.py is below this room; a test compares the two.
"""

from collections.abc import Callable

import torch
from torch.nn import functional

from mirip.errors import ParamsError
from mirip.params import TrainParams


def logistic(difference: torch.Tensor, gap: torch.Tensor, config: TrainParams) -> torch.Tensor:
    """Return log(1 + exp(-d)): the negative log-likelihood of Bradley & Terry (1952), as in RankNet (2005)."""
    return functional.softplus(-difference)


def margin(difference: torch.Tensor, gap: torch.Tensor, config: TrainParams) -> torch.Tensor:
    """Return max(0, margin - d): a pair costs nothing once it is ordered by more than `config.margin`."""
    return functional.relu(config.margin - difference)


def squared(difference: torch.Tensor, gap: torch.Tensor, config: TrainParams) -> torch.Tensor:
    """Return (d - g)^2, g being how many tiers the two are apart: RankRLS (Pahikkala et al. 2007)."""
    return (difference - gap) ** 2


# Name in train.loss -> (score(better) - score(worse) of any shape, tiers apart, config) -> the loss of each pair.
LOSSES: dict[str, Callable[[torch.Tensor, torch.Tensor, TrainParams], torch.Tensor]] = {
    "logistic": logistic,
    "margin": margin,
    "squared": squared,
}


def pair_loss(difference: torch.Tensor, gap: torch.Tensor, config: TrainParams) -> torch.Tensor:
    """Return the loss of each pair, float32 of the shape of `difference`.

    Args:
        difference: score(better) - score(worse), float32 of any shape.
        gap: how many tiers the two are apart, 1 or more; of a shape that fits.
        config: the loss.

    Raises:
        ParamsError: no loss has the name `config.loss`.
    """
    if config.loss not in LOSSES:
        raise ParamsError(f"train.loss is {config.loss!r}, which is no loss", f"set it to one of {', '.join(LOSSES)}")
    return LOSSES[config.loss](difference, gap, config)


def all_pairs_loss(
    scores: torch.Tensor, tier_rank: torch.Tensor, context: torch.Tensor, config: TrainParams
) -> torch.Tensor | None:
    """Mean loss over all cross-tier pairs among M images, each scored once.

    Args:
        scores: (M,) float32.
        tier_rank: (M,) int64, higher is better.
        context: (M,) int64; used only where `config.pair_context` is "same".
        config: loss, pair_balance ("balanced" gives each pair of tiers the same weight) and pair_context.

    Returns:
        A scalar, or None where the images hold no such pair.
    """
    if config.loss == "squared":
        return _squared_by_sums(scores, tier_rank, context, config)
    by_tier = [(tier_rank[members[0]], scores[members], context[members]) for members in _tier_members(tier_rank)]
    sums: list[torch.Tensor] = []
    counts: list[torch.Tensor] = []
    for worse, (worse_rank, worse_scores, worse_context) in enumerate(by_tier):
        for better_rank, better_scores, better_context in by_tier[worse + 1 :]:
            difference = better_scores[:, None] - worse_scores[None, :]  # (P,), (Q,) -> (P, Q)
            losses = pair_loss(difference, better_rank - worse_rank, config)
            if config.pair_context == "same":
                fair = better_context[:, None] == worse_context[None, :]
                losses, count = losses * fair, fair.sum()
            else:
                count = torch.tensor(losses.numel(), device=scores.device)
            if count > 0:
                sums.append(losses.sum())
                counts.append(count)
    if not sums:
        return None
    if config.pair_balance == "balanced":
        return torch.stack([total / count for total, count in zip(sums, counts, strict=True)]).mean()
    return torch.stack(sums).sum() / torch.stack(counts).sum()


def _squared_by_sums(
    scores: torch.Tensor, tier_rank: torch.Tensor, context: torch.Tensor, config: TrainParams
) -> torch.Tensor | None:
    """Return `all_pairs_loss` of the squared loss without its M^2 pairs.

    With e = score - tier_rank a pair's loss is (e_b - e_w)^2. Over all pairs of n_b and n_w images it sums up to
    n_w sum(e_b^2) + n_b sum(e_w^2) - 2 sum(e_b) sum(e_w), so that the sums of each tier, within each context, suffice.
    """
    n_tiers = int(tier_rank.max()) + 1
    block = (
        torch.unique(context, return_inverse=True)[1] if config.pair_context == "same" else torch.zeros_like(context)
    )
    cell = block * n_tiers + tier_rank
    e = scores - tier_rank
    e = e - e.detach().mean()  # a shift of all changes no pair, and keeps the sums small
    values = torch.stack([torch.ones_like(e), e, e**2])  # (3, M)
    # A product with one-hot cells, not index_add, which does not give the same bits twice on a GPU.
    cells = functional.one_hot(cell, (int(block.max()) + 1) * n_tiers).to(scores.dtype)  # (M, C * K)
    count, total, square = (values @ cells).view(3, -1, n_tiers)  # (C, K) each
    lower = torch.ones(n_tiers, n_tiers, device=scores.device, dtype=torch.bool).tril(-1)
    pairs = (count.T @ count)[lower]  # (K, K) -> one for each pair of tiers
    losses = (count.T @ square + square.T @ count - 2 * total.T @ total)[lower]
    if not pairs.any():
        return None
    if config.pair_balance == "balanced":
        losses, pairs = losses[pairs > 0] / pairs[pairs > 0], torch.ones_like(pairs[pairs > 0])
    mean: torch.Tensor = losses.sum() / pairs.sum()
    return mean


def weighted_pair_loss(
    scores: torch.Tensor, places: torch.Tensor, gap: torch.Tensor, weight: torch.Tensor, config: TrainParams
) -> torch.Tensor:
    """Weighted mean loss, a scalar, of P pairs among M images, each scored once.

    Args:
        scores: (M,) float32.
        places: (2, P) int64, the places in `scores` of the better and the worse image of each pair.
        gap: (P,) int64, how many tiers the two are apart.
        weight: (P,) float32.
        config: the loss.
    """
    better, worse = scores[places]  # (M,) at (2, P) -> (2, P)
    return (weight * pair_loss(better - worse, gap, config)).mean()


def _tier_members(tier_rank: torch.Tensor) -> list[torch.Tensor]:
    """Indices of each tier's images, worst tier first."""
    return [torch.nonzero(tier_rank == rank).flatten() for rank in torch.unique(tier_rank)]
