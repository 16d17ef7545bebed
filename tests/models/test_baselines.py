import numpy as np
import pytest

from mirip.metrics.pairwise import pairwise_accuracy
from mirip.models.baselines import knn_scores, ridge_scores

BASELINES = [ridge_scores, knn_scores]


@pytest.fixture
def drawn():
    """Features of 240 works, of which a few directions tell the tier."""
    rng = np.random.default_rng(0)
    rank = rng.integers(0, 4, 240)
    features = rng.normal(size=(240, 30))
    features[:, :3] += rank[:, None] * np.array([1.0, -1.0, 0.5])
    return features.astype(np.float16), rank.astype(np.int8)


@pytest.mark.parametrize("baseline", BASELINES)
def test_a_baseline_learns_what_features_tell_of_the_tier(baseline, drawn):
    x, rank = drawn
    scores = baseline(x[:200], rank[:200], x[200:])
    assert scores.shape == (40,)
    assert scores.dtype == np.float64
    assert pairwise_accuracy(scores, rank[200:]) > 0.85


@pytest.mark.parametrize("baseline", BASELINES)
def test_the_scale_of_a_feature_does_not_matter(baseline, drawn):
    x, rank = drawn
    x = x.astype(np.float64)
    stretched = x * np.linspace(0.1, 50, 30) + np.arange(30)
    assert baseline(x[:200], rank[:200], x[200:]) == pytest.approx(
        baseline(stretched[:200], rank[:200], stretched[200:]), abs=1e-6
    )


@pytest.mark.parametrize("baseline", BASELINES)
def test_a_constant_feature_and_few_images_are_survived(baseline, drawn):
    x, rank = drawn
    x = x[:8].astype(np.float32)
    x[:, 5] = 3
    assert np.isfinite(baseline(x[:5], rank[:5], x[5:])).all()


def test_with_useless_features_ridge_shrinks_to_the_mean():
    rng = np.random.default_rng(1)
    x, rank = rng.normal(size=(150, 300)), rng.integers(0, 4, 150)
    assert ridge_scores(x[:100], rank[:100], x[100:]).std() < 0.4 * rank.std()


def test_a_copy_of_a_training_image_gets_its_tier_from_the_nearest(drawn):
    x, rank = drawn
    assert knn_scores(x[:200], rank[:200], x[:10]) == pytest.approx(rank[:10], abs=1e-3)
