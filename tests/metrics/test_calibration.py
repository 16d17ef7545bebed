import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from mirip.metrics.calibration import (
    brier_score,
    coverage_table,
    expected_calibration_error,
    fit_ordinal,
    fit_temperature,
    percentile_of,
    reliability_table,
    score_percentiles,
    tier_probabilities,
    win_probability,
)

probabilities = st.lists(st.floats(0, 1), min_size=1, max_size=60).map(np.array)


def test_win_probability_is_even_at_no_difference_and_complementary():
    difference = np.array([-3.0, 0.0, 3.0])
    p = win_probability(difference, 2.0)
    assert p[1] == 0.5
    assert p + win_probability(-difference, 2.0) == pytest.approx(1.0)
    assert float(win_probability(2.0, 2.0)) == pytest.approx(1 / (1 + np.exp(-1)))


def test_a_temperature_of_nothing_is_refused():
    with pytest.raises(ValueError, match="temperature is 0"):
        win_probability(1.0, 0.0)


@pytest.mark.parametrize("temperature", [0.2, 1.0, 5.0])
@pytest.mark.parametrize("max_pairs", [2_000_000, 20_000])
def test_temperature_of_simulated_logistic_pairs_is_recovered(temperature, max_pairs):
    # P(tier 1 | score) logistic makes the odds of a pair's order exp(difference / temperature).
    rng = np.random.default_rng(0)
    scores = rng.normal(size=2000) * 3
    rank = (rng.random(2000) < win_probability(scores, temperature)).astype(int)
    assert fit_temperature(scores, rank, rng=rng, max_pairs=max_pairs) == pytest.approx(temperature, rel=0.12)


def test_temperature_scales_with_the_scores():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=100)
    rank = (scores + rng.normal(size=100) > 0).astype(int)
    once, tenfold = (fit_temperature(scores * s, rank, rng=rng) for s in (1, 10))
    assert tenfold == pytest.approx(10 * once, rel=1e-4)


@pytest.mark.parametrize(
    ("scores", "rank"), [([], []), ([1.0, 2.0], [1, 1]), ([1.0, 1.0], [0, 1]), ([0, 1], [0, 1]), ([1, 0], [0, 1])]
)
def test_temperature_is_positive_and_finite_whatever_comes(scores, rank):
    assert 0 < fit_temperature(scores, rank, rng=np.random.default_rng(0)) < np.inf


def test_ordinal_model_of_two_tiers_is_logistic_regression():
    rng = np.random.default_rng(0)
    scores = rng.normal(5, 2, 400)
    rank = (scores + 2 * rng.normal(size=400) > 5).astype(int)
    slope, thresholds = fit_ordinal(scores, rank, 2)
    reference = LogisticRegression(C=1e10, tol=1e-10).fit(scores[:, None], rank)
    assert slope == pytest.approx(reference.coef_[0, 0], rel=1e-2)
    assert thresholds == pytest.approx(-reference.intercept_, rel=1e-2)


def test_ordinal_parameters_of_a_simulation_are_recovered():
    rng = np.random.default_rng(1)
    scores = rng.normal(10, 3, 6000)
    rank = np.searchsorted([3.0, 5.0, 7.0], 0.5 * scores + rng.logistic(size=6000))
    slope, thresholds = fit_ordinal(scores, rank, 4)
    assert slope == pytest.approx(0.5, rel=0.1)
    assert thresholds == pytest.approx([3.0, 5.0, 7.0], rel=0.1)
    shares = np.bincount(rank, minlength=4) / 6000
    assert tier_probabilities(scores, slope, thresholds).mean(axis=0) == pytest.approx(shares, abs=0.005)


@given(st.lists(st.tuples(st.floats(-100, 100), st.integers(0, 3)), min_size=1, max_size=30))
def test_tier_probabilities_sum_to_one_whatever_is_fitted(rows):
    scores, rank = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
    slope, thresholds = fit_ordinal(scores, rank, 4)
    p = tier_probabilities(scores, slope, thresholds)
    assert np.isfinite([slope, *thresholds]).all()
    assert (np.diff(thresholds) > 0).all()
    assert (p >= 0).all()
    assert p.sum(axis=1) == pytest.approx(1.0)


def test_a_better_score_shifts_probability_to_better_tiers():
    p = tier_probabilities([-10.0, 10.0], 1.0, [-1.0, 0.0, 1.0])
    assert p.argmax(axis=1).tolist() == [0, 3]


def test_ordinal_model_needs_data():
    with pytest.raises(ValueError, match="got 4 tiers, 0 scores"):
        fit_ordinal([], [], 4)


def test_percentiles_of_scores():
    percentiles = score_percentiles(np.arange(1001))
    assert percentiles.shape == (101,)
    assert percentile_of([-5.0, 0.0, 250.0, 255.0, 2000.0], percentiles) == pytest.approx([0, 0, 25, 25.5, 100])
    with pytest.raises(ValueError, match="no score"):
        score_percentiles([])


def test_a_score_that_many_share_is_in_their_middle():
    assert float(percentile_of(1.0, score_percentiles([0.0] * 25 + [1.0] * 50 + [2.0] * 25))) == pytest.approx(
        50, abs=1
    )


@given(probabilities)
def test_calibration_error_equals_its_definition(p):
    error = 0.0
    for k in range(10):
        low, high = 0.5 + k / 20, 0.5 + (k + 1) / 20
        confidence = np.maximum(p, 1 - p)
        inside = [i for i, c in enumerate(confidence) if int((c - 0.5) * 20) == k or (k == 9 and c == 1.0)]
        assert all(low - 1e-9 <= confidence[i] <= high + 1e-9 for i in inside)
        if inside:
            accuracy = np.mean([1.0 if p[i] > 0.5 else 0.5 if p[i] == 0.5 else 0.0 for i in inside])
            error += len(inside) / len(p) * abs(accuracy - np.mean(confidence[inside]))
    assert expected_calibration_error(p) == pytest.approx(error)


def test_honest_probabilities_are_calibrated_and_boasting_ones_are_not():
    rng = np.random.default_rng(0)
    p = rng.uniform(0.5, 1, 50_000)
    better_wins = np.where(rng.random(len(p)) < p, p, 1 - p)
    assert expected_calibration_error(better_wins) < 0.01
    assert expected_calibration_error(np.where(better_wins > 0.5, 0.99, 0.01)) > 0.2


def test_brier_score_of_certainty_and_of_a_coin():
    assert brier_score([1.0, 1.0]) == 0
    assert brier_score([0.0]) == 1
    assert brier_score([0.5, 0.5]) == 0.25


def test_no_pairs_have_no_calibration():
    assert np.isnan([expected_calibration_error([]), brier_score([])]).all()
    assert len(reliability_table([])) == 0
    assert len(coverage_table([])) == 0


@given(probabilities)
def test_reliability_holds_every_pair_once(p):
    table = reliability_table(p)
    assert table["n_pairs"].sum() == len(p)
    assert table["bin"].between(1, 10).all()


@given(probabilities, st.floats(0.5, 1))
def test_coverage_counts_the_pairs_that_are_called(p, level):
    table = coverage_table(p, [level])
    called = np.maximum(p, 1 - p) >= level
    assert len(table) == int(called.any())
    if called.any():
        assert table["coverage"].iloc[0] == pytest.approx(called.mean())
        expected = np.mean((p[called] > 0.5) + 0.5 * (p[called] == 0.5))
        assert table["accuracy"].iloc[0] == pytest.approx(expected)


def test_coverage_starts_with_every_pair():
    assert coverage_table([0.5, 0.2, 0.9])["coverage"].iloc[0] == 1
