import statistics

import pytest

from mirip.metrics.seed_spread import seed_spread


def test_the_spread_over_seeds_is_flat_scalars():
    values = [0.7, 0.74, 0.71]
    assert seed_spread("x", values) == pytest.approx(
        {"x_seed_sd": statistics.stdev(values), "x_seed_min": 0.7, "x_seed_max": 0.74}
    )


def test_one_seed_has_no_spread():
    assert seed_spread("x", [0.7]) == {}
    assert seed_spread("x", []) == {}
