import numpy as np
import pytest

from mirip.metrics.unlikeness import feature_spread


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_what_lies_elsewhere_is_farther_than_nearly_all_of_the_rest() -> None:
    usual = _rng().normal(size=(400, 40)) @ _rng(1).normal(size=(40, 40))
    spread = feature_spread(usual, max_fitted=1000, rng=_rng())
    limit = np.quantile(spread.distance(usual), 0.99)
    others = _rng(2).normal(size=(50, 40)) @ _rng(1).normal(size=(40, 40))
    assert (spread.distance(others) > limit).mean() < 0.1
    assert (spread.distance(others + 40) > limit).all()
    assert (spread.distance(_rng(3).normal(0, 60, size=(50, 40))) > limit).mean() > 0.9


def test_a_feature_that_never_varies_does_no_harm() -> None:
    rows = np.concatenate([_rng().normal(size=(60, 5)), np.ones((60, 3))], axis=1)
    assert np.isfinite(feature_spread(rows, max_fitted=100, rng=_rng()).distance(rows)).all()


def test_of_many_images_some_are_drawn() -> None:
    rows = _rng().normal(size=(500, 8))
    some, all_of_them = (feature_spread(rows, max_fitted=n, rng=_rng()).distance(rows) for n in (200, 500))
    assert np.corrcoef(some, all_of_them)[0, 1] > 0.8


def test_too_few_images_say_nothing() -> None:
    with pytest.raises(ValueError, match="9 images are too few"):
        feature_spread(np.zeros((9, 4)), max_fitted=100, rng=_rng())
