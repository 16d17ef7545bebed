import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import mutual_info_score

from mirip.metrics.permutation import (
    AgainstChance,
    against_chance,
    entropy,
    family_wise_p,
    permuted_tiers,
    tier_information,
)


def test_groups_of_one_size_exchange_their_tiers_whole():
    group = np.repeat(np.arange(10), 3)
    tier = np.repeat(np.arange(10) % 4, 3)
    dealt = np.concatenate(list(permuted_tiers(tier, group, 50, np.random.default_rng(0))))
    assert dealt.shape == (50, 30)
    blocks = dealt.reshape(50, 10, 3)
    assert (blocks == blocks[:, :, :1]).all()
    assert (np.sort(dealt, axis=1) == np.sort(tier)).all()
    assert len(np.unique(dealt, axis=0)) > 40


def test_a_group_of_its_own_size_takes_part():
    group = np.repeat(np.arange(8), [1, 2, 3, 4, 5, 6, 7, 20])
    tier = (group == 7).astype(int)
    dealt = np.concatenate(list(permuted_tiers(tier, group, 50, np.random.default_rng(0))))
    assert (dealt[:, group == 7] == 0).any()
    assert (dealt[:, group == 0] == 1).any()


def test_where_rows_stand_does_not_matter_to_who_goes_together():
    group = np.array([0, 1, 0, 1, 2, 2])
    dealt = np.concatenate(list(permuted_tiers(np.array([0, 1, 0, 1, 2, 2]), group, 30, np.random.default_rng(0))))
    assert all(len(set(row[group == g])) == 1 for row in dealt for g in range(3))


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=40))
def test_information_is_that_of_scikit_learn(rows):
    code, tier = (np.array(column) for column in zip(*rows, strict=True))
    assert tier_information([code])(tier[None, :])[0, 0] == pytest.approx(mutual_info_score(code, tier), abs=1e-9)


def test_entropy_of_even_counts_is_the_logarithm_of_their_number():
    assert entropy(np.array([[5, 5, 5, 5], [20, 0, 0, 0]])) == pytest.approx([np.log(4), 0])


def test_within_a_fold_groups_exchange_tiers_with_their_own_fold_only():
    group = np.repeat(np.arange(40), 2)
    fold = group % 2
    tier = np.where(fold == 0, group % 4, 7)
    dealt = np.concatenate(list(permuted_tiers(tier, group, 30, np.random.default_rng(0), fold=fold)))
    assert (dealt[:, fold == 1] == 7).all()
    assert len(np.unique(dealt, axis=0)) > 20


def test_all_statistics_are_taken_of_the_same_permutations():
    tier = np.arange(20) % 4
    first, second = against_chance(
        [lambda tiers: tiers[:, :1].astype(float), lambda tiers: 2.0 * tiers[:, :1]],
        tier,
        np.arange(20),
        n_permutations=50,
        rng=np.random.default_rng(0),
    )
    assert np.array_equal(2 * first.null, second.null)
    assert (first.observed, second.observed) == (0.0, 0.0)
    assert len(np.unique(first.null)) == 4


def test_the_best_of_many_useless_statistics_is_no_finding():
    rng = np.random.default_rng(0)
    below = [
        min(
            p.min()
            for p in family_wise_p([AgainstChance(null[0, :9], null[1:, :9]), AgainstChance(null[0, 9:], null[1:, 9:])])
        )
        < 0.05
        for null in rng.normal(size=(400, 200, 15))
    ]
    assert 0.02 < np.mean(below) < 0.09


def test_a_statistic_that_differs_is_found_among_useless_ones():
    null = np.random.default_rng(0).normal(size=(999, 15))
    observed = np.array([8.0, *np.zeros(14)])
    (p,) = family_wise_p([AgainstChance(observed, null)])
    assert p[0] == pytest.approx(0.001)
    assert (p[1:] > 0.5).all()


def test_what_no_permutation_moves_is_no_finding():
    (p,) = family_wise_p([AgainstChance(np.array([0.7]), np.full((99, 1), 0.7))])
    assert p[0] == 1
