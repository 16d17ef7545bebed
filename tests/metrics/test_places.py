import numpy as np
import pytest

from mirip.metrics.calibration import win_probability
from mirip.metrics.places import bands, pairs, percentile_interval, place_coverage, place_intervals, places


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_the_order_is_that_of_the_scores_and_ties_keep_theirs() -> None:
    found = places([1.0, 3.0, 1.0, 2.0], 1.0, 0.6, rng=_rng())
    assert found.order.tolist() == [1, 3, 0, 2]
    empty = places([], 1.0, 0.6, rng=_rng())
    assert (empty.order.tolist(), empty.first.tolist(), empty.bands) == ([], [], [])


def test_images_far_apart_have_their_places_and_equal_ones_any() -> None:
    first, last = place_intervals([100.0, 50.0, 0.0], 1.0, rng=_rng())
    assert (first.tolist(), last.tolist()) == ([1, 2, 3], [1, 2, 3])
    first, last = place_intervals([1.0] * 10, 1.0, rng=_rng())
    assert (first.tolist(), last.tolist()) == ([1] * 10, [10] * 10)


@pytest.mark.parametrize("difference", [0.0, 0.5, 1.5, 3.0])
def test_noise_is_that_of_the_model_of_pairs(difference: float) -> None:
    """Of two images, the second is first as often as P says: its interval reaches there where P is above 5 %."""
    chance = float(win_probability(-difference, 1.0))
    first, _ = place_intervals([difference, 0.0], 1.0, rng=_rng(), n_draws=20_000)
    assert (first[1] == 1) == (chance > 0.05)


def test_pairs_name_the_better_image_or_leave_it_open() -> None:
    found = pairs([("x", 0.0), ("y", 5.0), ("z", 0.1)], 1.0, 0.6)
    assert [(pair.a, pair.b, pair.better) for pair in found] == [("x", "y", "y"), ("x", "z", None), ("y", "z", "y")]
    assert [pair.p_a_is_better for pair in found] == pytest.approx(win_probability([-5, -0.1, 4.9], 1.0))
    assert pairs([("x", 0.0)], 1.0, 0.6) == []


def test_a_band_is_a_run_in_which_every_pair_is_too_close_to_call() -> None:
    scores = [5.0, 4.9, 4.8, 1.0, 0.7, 0.4, -9.0]
    found = bands(scores, 1.0, 0.6)  # P reaches 0.6 at a difference of 0.405
    assert found == [(0, 3), (3, 5), (4, 6)]
    for start, stop in found:
        assert float(win_probability(scores[start] - scores[stop - 1], 1.0)) < 0.6
    assert bands([], 1.0, 0.6) == bands([1.0], 1.0, 0.6) == []
    assert bands([2.0, 2.0], 1.0, 0.6) == [(0, 2)]


def test_intervals_cover_the_true_places_where_the_temperature_is_right() -> None:
    rng = _rng()
    rank = rng.integers(0, 4, 4000)
    scores = 1.6 * rank + rng.gumbel(size=4000)
    assert place_coverage(scores, rank, 1.0, rng=rng) > 0.9
    assert place_coverage(scores, rank, 0.05, rng=rng) < 0.85
    assert np.isnan(place_coverage(scores, np.zeros(4000, int), 1.0, rng=rng))


def test_the_range_of_a_percentile_is_that_of_drawn_orders() -> None:
    rng = np.random.default_rng(5)
    known, temperature = np.sort(rng.normal(size=400)), 0.6
    quantiles = np.quantile(known, np.linspace(0, 1, 101))
    scores = np.array([-2.0, 0.1, 1.5])
    low, high = percentile_interval(scores, quantiles, temperature)
    for score, least, most in zip(scores, low, high, strict=True):
        own = score / temperature + rng.gumbel(size=(4000, 1))
        others = known / temperature + rng.gumbel(size=(4000, len(known)))
        drawn = 100 * (own > others).mean(axis=1)
        assert [least, most] == pytest.approx(np.quantile(drawn, [0.05, 0.95]), abs=1.5)


def test_the_range_of_a_percentile_bears_scores_far_out() -> None:
    low, high = percentile_interval([-1e6, 1e6], np.linspace(-1, 1, 101), 0.5)
    assert low == pytest.approx([0, 100])
    assert high == pytest.approx([0, 100])
