import numpy as np
import pytest

from mirip.metrics.calibrated_range import calibrated_range
from mirip.metrics.calibration import (
    expected_calibration_error,
    fit_temperature,
    reliability_table,
    tier_probabilities,
    win_probability,
)
from mirip.metrics.pairwise import sample_pairs

THRESHOLDS = [-1.5, 0.5, 2.5]


def drawn(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, the tier probabilities that a cumulative logit model gives them, and tiers drawn from these."""
    rng = np.random.default_rng(seed)
    scores = 1.5 * rng.normal(size=n)
    probability = tier_probabilities(scores, 1.0, THRESHOLDS)
    return scores, probability, (rng.random(n)[:, None] > np.cumsum(probability, axis=1)[:, :-1]).sum(axis=1)


def better_wins(scores, rank, temperature):
    better, worse = sample_pairs(rank, rng=np.random.default_rng(0), max_pairs=10**6)
    return win_probability(scores[better] - scores[worse], temperature)


@pytest.fixture(scope="module")
def temperature() -> float:
    scores, _, rank = drawn(20_000, 0)
    return fit_temperature(scores, rank, rng=np.random.default_rng(0))


@pytest.mark.slow
@pytest.mark.parametrize("n", [40, 150])
def test_a_calibrated_model_exceeds_it_in_about_one_case_of_twenty(n, temperature):
    beyond = []
    for seed in range(1, 121):
        scores, probability, rank = drawn(n, seed)
        high = calibrated_range(
            scores, probability, temperature=temperature, rng=np.random.default_rng(seed), n_sets=60
        ).ece_high
        beyond.append(expected_calibration_error(better_wins(scores, rank, temperature)) > high)
    assert np.mean(beyond) <= 0.12


def test_a_boasting_model_exceeds_it(temperature):
    scores, probability, rank = drawn(300, 3)
    high = calibrated_range(scores, probability, temperature=temperature, rng=np.random.default_rng(0)).ece_high
    assert expected_calibration_error(better_wins(scores, rank, temperature / 4)) > 1.5 * high


@pytest.mark.slow
def test_most_bins_of_a_calibrated_model_lie_in_their_range(temperature):
    inside = []
    for seed in range(40):
        scores, probability, rank = drawn(150, seed)
        table = reliability_table(better_wins(scores, rank, temperature))
        found = calibrated_range(
            scores, probability, temperature=temperature, rng=np.random.default_rng(seed), n_sets=60
        )
        strayed, of_bin = table["accuracy"] - table["confidence"], table["bin"].to_numpy() - 1
        known = np.isfinite(found.low[of_bin])
        inside += ((found.low[of_bin] <= strayed) & (strayed <= found.high[of_bin]))[known].tolist()
    assert np.mean(inside) == pytest.approx(0.95, abs=0.05)


def test_it_is_of_the_probabilities_that_the_model_states(temperature):
    """A model that states only certainties, wrongly, has all its pairs, and so its range, in the last bin."""
    scores, probability, _ = drawn(150, 4)
    found = calibrated_range(scores, probability, temperature=temperature / 1e6, rng=np.random.default_rng(0))
    assert np.isfinite(found.low[-1])
    assert np.isnan(found.low[1:-1]).all()


def test_more_images_narrow_it():
    small, large = (
        calibrated_range(*drawn(n, 1)[:2], temperature=1.0, rng=np.random.default_rng(0)).ece_high for n in (40, 600)
    )
    assert large < small / 2


def test_pairs_of_two_folds_are_not_counted():
    scores, probability, _ = drawn(200, 2)
    whole, halves = (
        calibrated_range(scores, probability, temperature=1.0, rng=np.random.default_rng(0), fold=fold).ece_high
        for fold in (None, np.arange(200) % 20)
    )
    assert halves > whole


def test_the_same_generator_gives_the_same_range_also_of_drawn_pairs():
    scores, probability, _ = drawn(400, 2)
    options = {"temperature": 1.0, "max_pairs": 2000}
    first, second = (calibrated_range(scores, probability, rng=np.random.default_rng(5), **options) for _ in range(2))
    assert np.array_equal(first.low, second.low, equal_nan=True)
    assert first.ece_high == second.ece_high


def test_a_bin_that_no_pair_reaches_has_no_range():
    found = calibrated_range(np.zeros(50), np.full((50, 4), 0.25), temperature=1.0, rng=np.random.default_rng(0))
    assert np.isfinite(found.low[0])
    assert np.isnan(found.high[1:]).all()


@pytest.mark.parametrize("probability", [np.empty((0, 4)), [[0.25] * 4], [[1.0, 0.0]] * 5])
def test_without_pairs_there_is_none(probability):
    scores = np.zeros(len(probability))
    found = calibrated_range(scores, probability, temperature=1.0, rng=np.random.default_rng(0))
    assert np.isnan(found.ece_high)
