"""A head of no hidden layer: how far a straight line gets with our own loss and training."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mirip.models.ranking import PairwiseRankingModel
from mirip.models.ranking_data import RankingData
from mirip.models.trainer import Trainer
from mirip.params import TrainParams


def linear_model(feature_dim: int, config: TrainParams) -> PairwiseRankingModel:
    """Build a model whose score is a weighted sum of the standardised features (D,), `config.seeds` being 1."""
    model = PairwiseRankingModel(feature_dim=feature_dim, config=config)
    model.projector.layers = nn.Sequential()  # the standardised features as they are
    model.score_head.layers = nn.Sequential(nn.Linear(feature_dim, 1))
    return model


def linear_scores(
    train: RankingData, val: RankingData, test_x: NDArray[np.floating], config: TrainParams
) -> NDArray[np.float64]:
    """Train a linear head as `config` says, its epoch chosen by `val`, and score features (M, D) as (M,) float64.

    Raises:
        DataError: a side holds no cross-tier pair.
    """
    alone = config.model_copy(update={"seeds": 1, "device": "cpu"})  # judged where there may be no GPU
    model = Trainer(alone, make_model=linear_model).fit(train, val).model
    with torch.inference_mode():
        scores = model.score(torch.from_numpy(np.asarray(test_x, dtype=np.float32)))
    return np.asarray(scores.numpy(), dtype=np.float64)
