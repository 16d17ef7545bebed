import numpy as np
import pytest

from mirip.metrics.intervals import bootstrap_accuracies
from mirip.metrics.support import GroupSupport, group_support


@pytest.mark.parametrize(
    ("n_groups", "fewest", "small"), [(29, 9, True), (30, 5, False), (30, 4, True), (500, 4, True)]
)
def test_what_counts_as_a_small_sample(n_groups, fewest, small):
    assert GroupSupport(n_groups, fewest, 20.0).small_sample is small


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


def test_works_of_a_group_count_as_one():
    rank = np.repeat([0, 1], 20)
    assert group_support(np.repeat(rank, 5), np.repeat(np.arange(40), 5)).independent_pairs == pytest.approx(
        group_support(rank, np.arange(40)).independent_pairs
    )


def test_only_pairs_of_one_context_count():
    rank, context = np.array([0, 1, 0, 1]), np.array(["a", "a", "b", "b"])
    found = group_support(rank, np.arange(4), context)
    assert found.independent_pairs == pytest.approx(3 * 2**2 / 4)


def test_of_one_tier_there_is_no_pair():
    assert group_support([1, 1], [0, 1]) == GroupSupport(2, 2, 0.0)
    assert group_support([], []) == GroupSupport(0, 0, 0.0)
