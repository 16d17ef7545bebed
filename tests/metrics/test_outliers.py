import numpy as np
import pytest

from mirip.metrics.outliers import outliers


def works(seed=0, n=400, dim=64, inner=10):
    """Images that vary along ten directions, and a little along all."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, inner)) @ rng.normal(size=(inner, dim)) + 0.1 * rng.normal(size=(n, dim))


@pytest.mark.parametrize("kind", ["far along the usual directions", "off the usual directions"])
def test_the_odd_ones_come_first(kind):
    features = works()
    odd = [7, 190, 333]
    if kind.startswith("far"):
        features[odd] *= 6
    else:
        features[odd] += 5 * np.random.default_rng(1).normal(size=(3, 64))
    table = outliers(features, rng=np.random.default_rng(0))
    assert set(table["row"][:3]) == set(odd)
    assert table["distance"][2] > 2 * table["distance"][3]
    assert len(table) == 20


def test_distances_are_in_robust_deviations_above_the_median():
    table = outliers(works(n=2000), count=2000, rng=np.random.default_rng(0))
    assert 2.5 < table["distance"][0] < 8
    assert (table["distance"] > 2).mean() < 0.1


def test_a_feature_that_never_varies_changes_nothing():
    features = works()
    features[:, 0] = 3.0
    assert np.isfinite(outliers(features, rng=np.random.default_rng(0))["distance"]).all()


def test_the_same_images_give_the_same_list():
    first, second = (outliers(works(), rng=np.random.default_rng(0)) for _ in range(2))
    assert first.equals(second)


def test_of_a_handful_none_stands_out():
    assert outliers(works(n=5), rng=np.random.default_rng(0)).empty
