import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from whole_intervals import paired_difference_interval

from mirip.metrics.comparison import comparison
from mirip.metrics.intervals import (
    GroupSupport,
    Interval,
    accuracy_interval,
    bootstrap_accuracies,
    group_support,
    group_weights,
    percentile_interval,
    seed_spread,
    target_verdict,
)
from mirip.metrics.pairwise import pairwise_accuracy


def simulated(rng, n_groups=60, n_images=90, noise=1.0):
    group = np.concatenate([np.arange(n_groups), rng.integers(0, n_groups, n_images - n_groups)])
    rank = rng.choice(4, size=n_images, p=[0.25, 0.4, 0.25, 0.1])
    scores = 0.7 * rank + noise * (rng.normal(size=n_groups)[group] + rng.normal(size=n_images)) / np.sqrt(2)
    return scores, rank, group


def test_a_resample_draws_whole_groups_and_as_many_as_there_are():
    group = np.array(["b", "a", "b", "c"])
    weights = np.concatenate(list(group_weights(group, 200, np.random.default_rng(0))))
    assert weights.shape == (200, 4)
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights[:, [0, 1, 3]].sum(axis=1) == 3).all()
    assert weights.mean(axis=0) == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize("n_contexts", [1, 2])
def test_a_group_that_is_drawn_twice_has_its_inner_pairs_twice(n_contexts):
    """And each of its pairs with another group that is drawn twice four times, by a double loop over all pairs."""
    scores, rank, group = simulated(np.random.default_rng(1), 8, 24)
    scores = np.round(scores)  # some tie
    context = np.arange(24) % n_contexts
    rng = np.random.default_rng(5)
    found = bootstrap_accuracies(scores, rank, group, rng=rng, n_bootstrap=20, context=context)[:, 0]
    weights = np.concatenate(list(group_weights(group, 20, np.random.default_rng(5))))
    n_groups = len(np.unique(group))
    for replicate, drawn in zip(found, weights, strict=True):
        right = whole = 0.0
        for better in range(24):
            for worse in np.flatnonzero((rank < rank[better]) & (context == context[better])):
                same = group[better] == group[worse]
                weight = drawn[better] * (n_groups - 1) / n_groups if same else drawn[better] * drawn[worse]
                right += weight * ((scores[better] > scores[worse]) + 0.5 * (scores[better] == scores[worse]))
                whole += weight
        assert replicate == pytest.approx(right / whole)


def test_few_large_groups_do_not_move_the_mean_of_resamples():
    """Six groups of twenty whose images are ordered better within a group than between groups."""
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(6), 20)
    shifts = []
    for _ in range(60):
        rank = rng.integers(0, 3, 120)
        scores = 0.7 * rank + 1.5 * rng.normal(size=6)[group] + 0.5 * rng.normal(size=120)
        resampled = bootstrap_accuracies(scores, rank, group, rng=rng, n_bootstrap=100)
        shifts.append(resampled.mean() - pairwise_accuracy(scores, rank))
    assert abs(np.mean(shifts)) < 0.004


def test_the_same_generator_gives_the_same_interval():
    scores, rank, group = simulated(np.random.default_rng(2))
    first, second = (accuracy_interval(scores, rank, group, rng=np.random.default_rng(7)) for _ in range(2))
    assert first == second
    assert first.low < pairwise_accuracy(scores, rank) < first.high
    assert not first.small_sample


@pytest.mark.parametrize(("n_groups", "n_images"), [(60, 90), (15, 25)])
def test_intervals_cover_the_truth_about_as_often_as_they_say(n_groups, n_images):
    rng = np.random.default_rng(3)
    truth = pairwise_accuracy(*simulated(rng, 8000, 12_000)[:2])
    covered = []
    for _ in range(150):
        scores, rank, group = simulated(rng, n_groups, n_images)
        interval = accuracy_interval(scores, rank, group, rng=rng, n_bootstrap=300)
        covered.append(interval.low <= truth <= interval.high)
    assert 0.90 <= np.mean(covered) <= 0.995


def test_images_of_one_group_widen_the_interval():
    rng = np.random.default_rng(4)
    rank = np.repeat(rng.integers(0, 3, 40), 5)
    scores = np.repeat(rng.normal(size=40), 5)
    by_group = accuracy_interval(scores, rank, np.repeat(np.arange(40), 5), rng=rng)
    by_image = accuracy_interval(scores, rank, np.arange(200), rng=rng)
    assert by_group.high - by_group.low > 1.5 * (by_image.high - by_image.low)


def test_a_small_sample_is_flagged_and_wider_than_its_percentiles():
    support = GroupSupport(10, 4, 5.0, 9.0)
    replicates = np.random.default_rng(0).normal(0.7, 0.05, 5000)
    low, high, small = percentile_interval(replicates, support)
    plain = np.quantile(replicates, [0.025, 0.975])
    assert small
    assert low < plain[0] - 0.01
    assert high > plain[1] + 0.01


def test_with_many_groups_it_is_the_plain_percentile():
    replicates = np.random.default_rng(0).normal(0.7, 0.05, 5000)
    interval = percentile_interval(replicates, GroupSupport(10_000, 100, 5000.0, 9999.0), confidence=0.9)
    assert interval[:2] == pytest.approx(np.quantile(replicates, [0.05, 0.95]), abs=1e-4)


def test_resamples_without_a_tier_or_without_any_pair_are_survived():
    interval = accuracy_interval([0.0, 1.0, 2.0], [0, 1, 2], [1, 2, 3], rng=np.random.default_rng(0))
    assert interval.high == 1
    assert 0 <= interval.low < 0.5
    assert interval.small_sample


def test_one_group_says_nothing():
    rng = np.random.default_rng(0)
    assert accuracy_interval([0.0, 1.0], [0, 1], [1, 1], rng=rng) == Interval(0.0, 1.0, True)
    assert paired_difference_interval([0.0, 1.0], [1.0, 0.0], [0, 1], [1, 1], rng=rng) == Interval(-1.0, 1.0, True)


def test_pairing_cancels_what_is_hard_for_both():
    rng = np.random.default_rng(6)
    scores, rank, group = simulated(rng)
    other = scores + 0.01 * rng.normal(size=len(scores))
    paired = paired_difference_interval(scores, other, rank, group, rng=rng)
    own = accuracy_interval(scores, rank, group, rng=rng)
    assert paired.high - paired.low < 0.2 * (own.high - own.low)
    assert comparison(paired) == "within noise"


def test_a_clear_difference_is_beyond_noise():
    rng = np.random.default_rng(7)
    scores, rank, group = simulated(rng, 200, 300, noise=0.3)
    noise = rng.normal(size=len(scores))
    assert comparison(paired_difference_interval(scores, noise, rank, group, rng=rng)) == "better"
    assert comparison(paired_difference_interval(noise, scores, rank, group, rng=rng)) == "worse"


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.booleans())
def test_verdict_is_met_only_by_the_whole_interval_of_a_large_sample(a, b, target, small):
    low, high = min(a, b), max(a, b)
    found = target_verdict(Interval(low, high, small), target)
    assert (found == "met") == (low >= target and not small)
    assert (found == "missed") == (high < target and not small)


def test_verdict_of_no_number_is_undecided():
    assert target_verdict(Interval(float("nan"), float("nan"), False), 0.6) == "undecided"


def test_a_sample_without_a_wrong_pair_is_not_sure_of_all_others():
    """40 images of four tiers, all in order: another pair may be wrong, and by symmetry right where all are wrong."""
    rank = np.repeat([0, 1, 2, 3], 10)
    best, worst = (
        accuracy_interval(sign * rank, rank, np.arange(40), rng=np.random.default_rng(0)) for sign in (1.0, -1.0)
    )
    assert best.high == 1
    assert 0.8 < best.low < 0.95
    assert worst[:2] == pytest.approx((1 - best.high, 1 - best.low))
    assert target_verdict(best, 0.97) == "undecided"


def test_one_wrong_pair_never_makes_it_surer():
    rank = np.repeat([0, 1], 20)
    ordered = np.arange(40.0)
    swapped = ordered.copy()
    swapped[[19, 20]] = swapped[[20, 19]]
    all_right, one_wrong = (
        accuracy_interval(scores, rank, np.arange(40), rng=np.random.default_rng(0)) for scores in (ordered, swapped)
    )
    assert one_wrong.low < all_right.low
    assert one_wrong.high <= 1


@pytest.mark.parametrize(("n_images", "truth"), [(40, 0.98), (100, 0.99), (8, 0.80)])
def test_near_the_end_the_interval_holds_the_truth_as_well(n_images, truth):
    rng = np.random.default_rng(0)
    rank, gap = np.repeat([0, 1], n_images // 2), np.sqrt(2) * norm.ppf(truth)
    covered = []
    for _ in range(150):
        scores = gap * rank + rng.normal(size=n_images)
        low, high, _ = accuracy_interval(scores, rank, np.arange(n_images), rng=rng, n_bootstrap=300)
        covered.append(low <= truth <= high)
    assert np.mean(covered) >= 0.92


def test_what_ties_every_pair_is_about_one_half():
    rank = np.repeat([0, 1], 20)
    low, high, _ = accuracy_interval(np.zeros(40), rank, np.arange(40), rng=np.random.default_rng(0))
    assert 0.3 < low < 0.45
    assert high == pytest.approx(1 - low)


def test_where_all_resamples_agree_a_difference_has_a_width():
    """Perfect against reversed, against constant, and two that are perfect; of six images and of sixty."""
    widths = []
    for n in (3, 30):
        rank = np.repeat([0, 1], n)
        for other, difference in ((-rank, 1.0), (np.zeros(2 * n), 0.5), (rank * 2.0 + np.arange(2 * n), 0.0)):
            both = ((rank, other), (other, rank))
            found, turned = (
                paired_difference_interval(a, b, rank, np.arange(2 * n), rng=np.random.default_rng(0)) for a, b in both
            )
            assert found.low < difference - 0.01
            assert difference <= found.high <= 1
            assert found[:2] == pytest.approx((-turned.high, -turned.low))
            assert found.small_sample == (n == 3)
            widths.append(found.high - found.low)
    assert max(widths[3:]) < min(widths[:3])


@pytest.mark.parametrize(
    ("n_groups", "degrees", "small"), [(29, 20.0, True), (30, 7.0, False), (30, 6.9, True), (500, 6.9, True)]
)
def test_what_counts_as_a_small_sample(n_groups, degrees, small):
    assert GroupSupport(n_groups, 4, 20.0, degrees).small_sample is small


def test_degrees_are_groups_less_one_where_all_weigh_the_same():
    assert group_support(np.arange(40) % 4, np.arange(40)).degrees == pytest.approx(39)
    assert group_support(np.tile(np.arange(4), 10), np.repeat(np.arange(10), 4)).degrees == pytest.approx(9)


@pytest.mark.parametrize("rare", [1, 2, 4, 8, 16])
def test_of_two_tiers_the_rare_one_decides_the_degrees(rare):
    found = group_support([1] * rare + [0] * 1000, np.arange(1000 + rare))
    assert found.degrees == pytest.approx(max(rare - 1, 1), rel=0.05)


def test_of_four_tiers_a_rare_one_is_in_few_pairs_and_decides_little():
    tier = np.repeat([0, 1, 2, 3], [10, 49, 37, 4])
    assert group_support(tier, np.arange(100)).degrees > 70


def test_support_counts_groups_not_images():
    assert group_support([0, 0, 1, 1, 1], ["a", "b", "c", "c", "c"])[:2] == (3, 1)


def bootstrap_worth(rank):
    """How many independent pairs the bootstrap finds scores worth that say nothing, on average."""
    rng, images = np.random.default_rng(0), np.arange(len(rank))
    replicates = (
        bootstrap_accuracies(rng.normal(size=len(rank)), rank, images, rng=rng, n_bootstrap=400) for _ in range(20)
    )
    return np.mean([0.25 / values.var() for values in replicates])


def test_of_scores_that_say_nothing_the_bootstrap_finds_as_many_or_more():
    two, three = np.repeat([0, 1], [60, 140]), np.repeat([0, 1, 2], [60, 100, 40])
    assert bootstrap_worth(two) == pytest.approx(group_support(two, np.arange(200)).independent_pairs, rel=0.1)
    assert bootstrap_worth(three) > group_support(three, np.arange(200)).independent_pairs


def test_of_two_tiers_it_is_the_formula_of_mann_and_whitney():
    assert group_support([0] * 20 + [1] * 30, np.arange(50)).independent_pairs == pytest.approx(3 * 20 * 30 / 50)


def test_images_of_a_group_count_as_one():
    rank = np.repeat([0, 1], 20)
    assert group_support(np.repeat(rank, 5), np.repeat(np.arange(40), 5)).independent_pairs == pytest.approx(
        group_support(rank, np.arange(40)).independent_pairs
    )


def test_only_pairs_of_one_context_count():
    rank, context = np.array([0, 1, 0, 1]), np.array(["a", "a", "b", "b"])
    found = group_support(rank, np.arange(4), context)
    assert found.independent_pairs == pytest.approx(3 * 2**2 / 4)


def test_of_one_tier_there_is_no_pair():
    assert group_support([1, 1], [0, 1]) == GroupSupport(2, 2, 0.0, 1.0)
    assert group_support([], []) == GroupSupport(0, 0, 0.0, 1.0)


def test_the_spread_over_seeds_is_flat_scalars():
    values = [0.7, 0.74, 0.71]
    assert seed_spread("x", values) == pytest.approx(
        {"x_seed_sd": statistics.stdev(values), "x_seed_min": 0.7, "x_seed_max": 0.74}
    )


def test_one_seed_has_no_spread():
    assert seed_spread("x", [0.7]) == {}
    assert seed_spread("x", []) == {}
