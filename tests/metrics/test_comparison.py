import numpy as np
import pytest
from whole_intervals import paired_difference_interval

from mirip.metrics.comparison import compare_models
from mirip.metrics.intervals import accuracy_interval
from mirip.metrics.pairwise import pairwise_accuracy


def side(rng, n_groups=92, n_images=276):
    """Tier ranks, groups, and what every model finds hard about each image."""
    group = np.concatenate([np.arange(n_groups), rng.integers(0, n_groups, n_images - n_groups)])
    rank = rng.choice(4, size=n_images, p=[0.10, 0.49, 0.37, 0.04])
    return rank, group, (rng.normal(size=n_groups)[group] + rng.normal(size=n_images)) / np.sqrt(2)


def trained(rng, rank, hard, n_members, *, signal=0.7, seed_spread=0.1):
    """Heads whose training seeds decide how much of the tier they learn."""
    slopes = signal + seed_spread * rng.normal(size=(n_members, 1))
    return slopes * rank + hard + 0.3 * rng.normal(size=(n_members, len(rank)))


def verdicts(n_members, runs, **options):
    found = []
    for run in range(runs):
        rng = np.random.default_rng(run)
        rank, group, hard = side(rng)
        a, b = (trained(rng, rank, hard, n_members, **options) for _ in range(2))
        found.append(compare_models(a, b, rank, group, rng=rng, n_bootstrap=300).verdict)
    return found


@pytest.mark.slow
def test_models_that_differ_by_their_seeds_alone_are_within_noise():
    assert np.mean([verdict != "within noise" for verdict in verdicts(3, 60)]) <= 0.12


def test_without_several_heads_the_spread_over_seeds_passes_for_a_difference():
    """Why the spread has to be in the interval: with one head each, about half of such pairs look different."""
    assert np.mean([verdict != "within noise" for verdict in verdicts(1, 60)]) > 0.3


def test_a_clear_difference_is_seen_from_both_sides():
    rng = np.random.default_rng(0)
    rank, group, hard = side(rng)
    good = trained(rng, rank, hard, 5, signal=1.2, seed_spread=0.02)
    poor = trained(rng, rank, hard, 5, signal=0.3, seed_spread=0.02)
    forth = compare_models(good, poor, rank, group, rng=np.random.default_rng(1))
    back = compare_models(poor, good, rank, group, rng=np.random.default_rng(1))
    assert (forth.verdict, back.verdict) == ("better", "worse")
    assert forth.difference == -back.difference > 0.1
    assert forth.interval.low < forth.difference < forth.interval.high


@pytest.mark.parametrize(
    ("a", "b", "rank"),
    [
        ([0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [0, 0, 0, 1, 1, 1]),
        ([0, 1, 2, 3, 4, 5], [0, 0, 0, 0, 0, 0], [0, 0, 0, 1, 1, 1]),
        ([0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1]),
        ([0, 1], [1, 0], [0, 1]),
    ],
)
def test_a_handful_of_artworks_decides_nothing_and_has_a_width(a, b, rank):
    found = compare_models(a, b, rank, np.arange(len(rank)), rng=np.random.default_rng(0))
    assert found.verdict == "undecided"
    for interval in (found.interval, found.interval_a, found.interval_b):
        assert interval.high - interval.low > 0.2


def test_of_equal_scores_the_difference_is_none():
    rng = np.random.default_rng(0)
    rank, group, hard = side(rng)
    found = compare_models(hard, hard, rank, group, rng=rng)
    assert (found.interval[:2], found.verdict) == ((0, 0), "within noise")


def test_of_single_heads_it_is_the_paired_bootstrap():
    rng = np.random.default_rng(2)
    rank, group, hard = side(rng)
    a, b = (trained(rng, rank, hard, 1)[0] for _ in range(2))
    found = compare_models(a, b, rank, group, rng=np.random.default_rng(3))
    assert found.interval == paired_difference_interval(a, b, rank, group, rng=np.random.default_rng(3))
    assert found.interval_b == accuracy_interval(b, rank, group, rng=np.random.default_rng(3))
    assert (found.accuracy_a, found.accuracy_b) == (pairwise_accuracy(a, rank), pairwise_accuracy(b, rank))
    assert (found.members_a, found.members_b) == (1, 1)


def test_heads_that_agree_add_nothing():
    rng = np.random.default_rng(4)
    rank, group, hard = side(rng)
    a, b = (trained(rng, rank, hard, 1) for _ in range(2))
    many = compare_models(np.repeat(a, 4, axis=0), np.repeat(b, 4, axis=0), rank, group, rng=np.random.default_rng(5))
    one = compare_models(a, b, rank, group, rng=np.random.default_rng(5))
    assert many.interval == pytest.approx(one.interval)
    assert many.members_a == 4


def test_a_spread_over_seeds_widens_the_interval_of_the_model_that_has_it():
    rng = np.random.default_rng(6)
    rank, group, hard = side(rng)
    a, b = trained(rng, rank, hard, 3, seed_spread=0.3), trained(rng, rank, hard, 1)
    found = compare_models(a, b, rank, group, rng=np.random.default_rng(7))
    blind = compare_models(a.mean(axis=0), b, rank, group, rng=np.random.default_rng(7))
    assert found.interval.high - found.interval.low > 1.2 * (blind.interval.high - blind.interval.low)
    assert found.interval_b == blind.interval_b


@pytest.mark.slow
@pytest.mark.parametrize(("n_members", "most"), [(3, 1.45), (5, 1.3)])
def test_what_seeds_do_to_single_images_counts_once(n_members, most):
    """Resampling images shows it already: an interval that knows of the heads need not be much wider for it."""
    widths = []
    for run in range(30):
        rng = np.random.default_rng(run)
        rank, group, hard = side(rng, 80, 150)
        a, b = (trained(rng, rank, hard, n_members, seed_spread=0.0) for _ in range(2))
        both = (a, b), (a.mean(axis=0), b.mean(axis=0))
        found = [compare_models(*pair, rank, group, rng=rng, n_bootstrap=300).interval for pair in both]
        widths.append([interval.high - interval.low for interval in found])
    known, blind = np.mean(widths, axis=0)
    assert known < most * blind


def test_of_one_tier_nothing_is_known():
    heads = np.random.default_rng(0).normal(size=(3, 40))
    found = compare_models(heads, heads + 1, np.zeros(40, int), np.arange(40), rng=np.random.default_rng(0))
    assert np.isnan(found.difference)
    assert found.interval[:2] == (-1, 1)
    assert found.verdict == "undecided"


def test_only_pairs_of_one_context_count():
    rng = np.random.default_rng(8)
    rank, group, hard = side(rng)
    context = rng.integers(0, 3, len(rank))
    a = trained(rng, rank, hard, 2) + 5 * context
    found = compare_models(a, a[:1], rank, group, rng=rng, context=context)
    assert found.accuracy_a == pairwise_accuracy(a.mean(axis=0), rank, context=context)


def test_scores_of_other_images_are_refused():
    with pytest.raises(ValueError, match="shape"):
        compare_models([[0.0, 1.0]], [[0.0, 1.0, 2.0]], [0, 1], [0, 1], rng=np.random.default_rng(0))


def test_a_score_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="not finite"):
        compare_models([[0.0, np.nan]], [[0.0, 1.0]], [0, 1], [0, 1], rng=np.random.default_rng(0))
