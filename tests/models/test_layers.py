"""Projector and score head: shapes, sizes and standardisation."""

import pytest
import torch

from mirip.models.projector import Projector
from mirip.models.score_head import ScoreHead


def test_shapes_are_1024_to_256_to_1() -> None:
    embedding = Projector().eval()(torch.randn(5, 1024))
    assert embedding.shape == (5, 256)
    assert ScoreHead()(embedding).shape == (5, 1)


def test_hidden_sizes_are_512_and_64() -> None:
    widths = [layer.out_features for layer in Projector().layers if isinstance(layer, torch.nn.Linear)]
    assert widths == [512, 256]
    assert [layer.out_features for layer in ScoreHead().layers if isinstance(layer, torch.nn.Linear)] == [64, 1]


def test_standardised_features_make_scale_and_offset_irrelevant() -> None:
    features = torch.randn(50, 8)
    torch.manual_seed(0)
    plain = Projector(8, 4, 3).eval()
    torch.manual_seed(0)
    moved = Projector(8, 4, 3).eval()
    plain.fit_standardizer(features)
    moved.fit_standardizer(1000 * features + 7)
    torch.testing.assert_close(plain(features), moved(1000 * features + 7), rtol=1e-3, atol=1e-4)


def test_a_constant_feature_does_not_blow_up() -> None:
    projector = Projector(3, 4, 2)
    projector.fit_standardizer(torch.tensor([[1.0, 5.0, 0.0], [2.0, 5.0, 0.0]]))
    assert projector.feature_std.tolist() == pytest.approx([0.5, 1.0, 1.0])
