"""The linear rung: trained as the model is, and no more than a straight line."""

import numpy as np
import pytest

from mirip.metrics.pairwise import pairwise_accuracy
from mirip.models.linear import linear_scores
from mirip.models.ranking_data import RankingData
from mirip.params import TrainParams

CONFIG = TrainParams(learning_rate=0.01, max_epochs=20, images_per_step=64, device="cpu", seeds=4)


def made_data(n: int, seed: int) -> RankingData:
    rng = np.random.default_rng(seed)
    tier = rng.integers(0, 4, n)
    features = rng.normal(size=(n, 12)).astype(np.float32)
    features[:, 0] += tier
    return RankingData(features, tier, np.zeros(n, int))


def test_it_learns_what_a_line_can_tell() -> None:
    test = made_data(200, 2)
    scores = linear_scores(made_data(300, 0), made_data(60, 1), test.features, CONFIG)
    assert scores.shape == (200,)
    assert scores.dtype == np.float64
    assert pairwise_accuracy(scores, test.tier_rank) > 0.8


def test_its_scores_are_linear_in_the_features() -> None:
    a, b = made_data(50, 3).features, made_data(50, 4).features
    train, val = made_data(300, 0), made_data(60, 1)
    at_a, at_b, between = (linear_scores(train, val, x, CONFIG) for x in (a, b, (a + b) / 2))
    assert between == pytest.approx((at_a + at_b) / 2, abs=1e-5)
