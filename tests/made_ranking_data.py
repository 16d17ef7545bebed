"""Made-up features of which the first tells the tier, and a head small enough for them."""

import numpy as np

from mirip.models.ranking_data import RankingData
from mirip.params import HeadParams, TrainParams

SMALL = HeadParams(hidden_dim=16, embedding_dim=8, score_hidden_dim=4)
QUICK = TrainParams(head=SMALL, learning_rate=0.01, max_epochs=10, images_per_step=128, device="cpu")


def made_data(n: int, seed: int, signal: float = 2.0) -> RankingData:
    rng = np.random.default_rng(seed)
    tier = rng.integers(0, 4, n)
    features = rng.normal(size=(n, 24)).astype(np.float32)
    features[:, 0] += signal * tier
    return RankingData(features, tier, rng.integers(0, 2, n))
