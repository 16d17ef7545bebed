"""Losses: what they say of known differences, and that all pairs of a step count as they should."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mirip.errors import ParamsError
from mirip.models.losses import all_pairs_loss, pair_loss
from mirip.params import TrainParams

ONE = torch.tensor(1)


def test_squared_loss_wants_scores_as_far_apart_as_the_tiers() -> None:
    found = pair_loss(torch.tensor([2.0, 2.0, -1.0]), torch.tensor([2, 1, 3]), TrainParams(loss="squared"))
    assert found.tolist() == [0.0, 1.0, 16.0]


def test_squared_loss_of_all_pairs_is_least_for_the_ranks_themselves() -> None:
    tiers, context = torch.tensor([0, 3, 1, 1, 2]), torch.zeros(5, dtype=torch.int64)
    loss = all_pairs_loss(tiers.float() + 7, tiers, context, TrainParams(loss="squared"))
    assert loss is not None
    assert loss.item() == 0


def test_logistic_loss_is_the_negative_log_of_the_win_probability() -> None:
    difference = torch.tensor([-2.0, 0.0, 3.0])
    expected = [-math.log(1 / (1 + math.exp(-d))) for d in difference.tolist()]
    assert pair_loss(difference, ONE, TrainParams()).tolist() == pytest.approx(expected, rel=1e-5)


def test_margin_loss_is_zero_beyond_the_margin() -> None:
    config = TrainParams(loss="margin", margin=0.5)
    assert pair_loss(torch.tensor([-1.0, 0.2, 0.5, 9.0]), ONE, config).tolist() == pytest.approx([1.5, 0.3, 0.0, 0.0])


@given(
    st.lists(st.tuples(st.floats(-5, 5), st.integers(0, 3), st.integers(0, 2)), min_size=2, max_size=12),
    st.sampled_from(["natural", "balanced"]),
    st.sampled_from(["any", "same"]),
    st.sampled_from(["logistic", "margin", "squared"]),
)
def test_loss_of_a_step_is_that_of_a_double_loop(images, balance, fair, loss) -> None:
    config = TrainParams(pair_balance=balance, pair_context=fair, loss=loss)
    losses: dict[tuple[int, int], list[float]] = {}
    for score_a, tier_a, context_a in images:
        for score_b, tier_b, context_b in images:
            if tier_a > tier_b and (fair == "any" or context_a == context_b):
                d = score_a - score_b
                value = {
                    "logistic": math.log1p(math.exp(-d)),
                    "margin": max(0, 1 - d),
                    "squared": (d - tier_a + tier_b) ** 2,
                }
                losses.setdefault((tier_a, tier_b), []).append(value[loss])
    scores, tiers, contexts = (torch.tensor(column) for column in zip(*images, strict=True))
    found = all_pairs_loss(scores.float(), tiers, contexts, config)
    if not losses:
        assert found is None
        return
    flat = [value for values in losses.values() for value in values]
    expected = np.mean(flat) if balance == "natural" else np.mean([np.mean(values) for values in losses.values()])
    assert found is not None
    assert found.item() == pytest.approx(float(expected), rel=1e-4, abs=1e-5)


def test_an_unknown_loss_is_refused_with_those_there_are() -> None:
    unknown = TrainParams().model_copy(update={"loss": "hinge"})
    with pytest.raises(ParamsError, match=r"train\.loss is 'hinge', .* one of logistic, margin, squared"):
        pair_loss(torch.zeros(2), ONE, unknown)
