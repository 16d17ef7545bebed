import time
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau, spearmanr
from sklearn.metrics import roc_auc_score

from mirip.metrics import pairwise
from mirip.metrics.pairwise import PairCounter, pairwise_accuracy, rank_correlations, sample_pairs

N_TIERS = 4


@st.composite
def scored_images(draw):
    """Scores with many ties, tiers, contexts, and two vectors of integer weights."""
    n = draw(st.integers(1, 25))

    def numbers(low, high):
        return np.array(draw(st.lists(st.integers(low, high), min_size=n, max_size=n)))

    return numbers(-3, 3) / 2, numbers(0, N_TIERS - 1), numbers(0, 2), np.stack([numbers(0, 3), numbers(0, 3)])


def slow_counts(scores, rank, weights, context):
    wins, pairs = np.zeros((N_TIERS, N_TIERS)), np.zeros((N_TIERS, N_TIERS))
    for i in range(len(scores)):
        for j in range(len(scores)):
            if rank[i] > rank[j] and context[i] == context[j]:
                weight = weights[i] * weights[j]
                pairs[rank[i], rank[j]] += weight
                wins[rank[i], rank[j]] += weight * ((scores[i] > scores[j]) + 0.5 * (scores[i] == scores[j]))
    return wins, pairs


@given(scored_images())
def test_counts_equal_those_of_a_double_loop(case):
    scores, rank, context, weights = case
    for labels in (context, np.zeros_like(context)):
        counts = PairCounter(scores, rank, labels, n_tiers=N_TIERS).count(weights)
        for r in range(2):
            wins, pairs = slow_counts(scores, rank, weights[r], labels)
            np.testing.assert_array_equal(counts.wins[r], wins)
            np.testing.assert_array_equal(counts.pairs[r], pairs)


@given(scored_images())
def test_no_context_is_one_context(case):
    scores, rank, context, _ = case
    assert np.array_equal(
        PairCounter(scores, rank).count().wins, PairCounter(scores, rank, np.zeros_like(context)).count().wins
    )


@given(scored_images())
def test_a_weight_is_a_repetition(case):
    scores, rank, _, weights = case
    repeated = np.repeat(np.arange(len(scores)), weights[0])
    expected = pairwise_accuracy(scores[repeated], rank[repeated]) if len(repeated) else float("nan")
    assert pairwise_accuracy(scores, rank, weights=weights[0]) == pytest.approx(expected, nan_ok=True)


@given(scored_images())
def test_two_tiers_give_the_area_under_the_roc_curve(case):
    scores, rank, _, _ = case
    two = rank % 2
    if len(set(two)) == 2:
        assert pairwise_accuracy(scores, two) == pytest.approx(roc_auc_score(two, scores))


@pytest.mark.slow
@given(scored_images())
def test_macro_is_the_mean_over_tier_pairs_that_exist(case):
    scores, rank, _, _ = case
    counts = PairCounter(scores, rank, n_tiers=N_TIERS).count()
    by_pair = [
        roc_auc_score(rank[both] == high, scores[both])
        for low, high in combinations(np.unique(rank), 2)
        for both in [(rank == low) | (rank == high)]
    ]
    assert float(counts.macro) == pytest.approx(np.mean(by_pair) if by_pair else float("nan"), nan_ok=True)


@pytest.mark.slow
@given(scored_images())
def test_accuracy_within_contexts_is_the_share_of_their_pairs(case):
    scores, rank, context, _ = case
    right = [
        (scores[i] > scores[j]) + 0.5 * (scores[i] == scores[j])
        for i in range(len(scores))
        for j in range(len(scores))
        if rank[i] > rank[j] and context[i] == context[j]
    ]
    expected = np.mean(right) if right else float("nan")
    assert pairwise_accuracy(scores, rank, context=context) == pytest.approx(expected, nan_ok=True)


@given(scored_images())
def test_gaps_are_the_pairs_of_one_distance(case):
    scores, rank, _, _ = case
    counts = PairCounter(scores, rank, n_tiers=N_TIERS).count()
    for distance in range(1, N_TIERS):
        right = [
            (scores[i] > scores[j]) + 0.5 * (scores[i] == scores[j])
            for i in range(len(scores))
            for j in range(len(scores))
            if rank[i] - rank[j] == distance
        ]
        assert tuple(map(float, counts.gap(distance))) == (sum(right), len(right))


@given(scored_images())
def test_tau_b_is_concordance_over_what_is_not_tied(case):
    scores, rank, _, _ = case
    if len(set(scores)) > 1 and len(set(rank)) > 1:
        i, j = np.triu_indices(len(scores), 1)
        s, r = np.sign(scores[i] - scores[j]), np.sign(rank[i] - rank[j])
        expected = (s * r).sum() / np.sqrt((s != 0).sum() * (r != 0).sum())
        assert rank_correlations(scores, rank)[0] == pytest.approx(expected)


@given(scored_images())
def test_spearman_is_the_correlation_of_mean_ranks(case):
    scores, rank, _, _ = case
    if len(set(scores)) > 1 and len(set(rank)) > 1:
        mean_ranks = [[np.sum(x < one) + (np.sum(x == one) - 1) / 2 for one in x] for x in (scores, rank)]
        assert rank_correlations(scores, rank)[1] == pytest.approx(np.corrcoef(mean_ranks)[0, 1])


def test_gaps_sum_the_tier_pairs_of_one_distance():
    scores, rank = np.array([0.0, 1.0, 2.0, 1.0]), np.array([0, 1, 2, 2])
    counts = PairCounter(scores, rank).count()
    assert [tuple(map(float, counts.gap(d))) for d in (1, 2)] == [(2.5, 3.0), (2.0, 2.0)]


def test_many_weightings_are_counted_in_pieces_of_bounded_size(monkeypatch):
    rng = np.random.default_rng(0)
    scores, rank, weights = rng.normal(size=50), rng.integers(0, 3, 50), rng.integers(0, 4, (40, 50))
    whole = PairCounter(scores, rank).count(weights).wins
    monkeypatch.setattr(pairwise, "_MAX_CELLS", 150)
    assert np.array_equal(PairCounter(scores, rank).count(weights).wins, whole)


@pytest.mark.parametrize(("scores", "rank"), [([], []), ([1.0], [2]), ([1.0, 2.0], [1, 1])])
def test_no_cross_tier_pair_has_no_accuracy(scores, rank):
    assert np.isnan(pairwise_accuracy(scores, rank))


def test_scores_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="1 of 2 scores are not finite"):
        pairwise_accuracy([float("nan"), 1.0], [0, 1])


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match="expected"):
        pairwise_accuracy([1.0, 2.0, 3.0], [0, 1])
    with pytest.raises(ValueError, match="weights have shape"):
        PairCounter([1.0, 2.0], [0, 1]).count([1.0])


@given(scored_images())
def test_rank_correlations_are_those_of_scipy(case):
    scores, rank, _, _ = case
    if len(set(scores)) > 1 and len(set(rank)) > 1:
        expected = kendalltau(scores, rank, variant="b").statistic, spearmanr(scores, rank).statistic
        assert rank_correlations(scores, rank) == pytest.approx(expected)
    else:
        assert np.isnan(rank_correlations(scores, rank)).all()


@given(st.lists(st.integers(0, 3), max_size=15))
def test_all_pairs_are_listed_where_they_are_few(rank):
    better, worse = sample_pairs(rank, rng=np.random.default_rng(0), max_pairs=1000)
    expected = {(i, j) for i in range(len(rank)) for j in range(len(rank)) if rank[i] > rank[j]}
    assert len(better) == len(expected)
    assert set(zip(better.tolist(), worse.tolist(), strict=True)) == expected


def test_many_pairs_are_drawn_evenly():
    rank = np.repeat([0, 1, 3], [60, 30, 10])
    better, worse = sample_pairs(rank, rng=np.random.default_rng(0), max_pairs=2000)
    assert len(better) == 2000
    assert (rank[better] > rank[worse]).all()
    share = np.mean((rank[better] == 1) & (rank[worse] == 0))
    assert share == pytest.approx(1800 / 2700, abs=0.03)


def test_a_hundred_thousand_images_are_evaluated_in_seconds():
    rng = np.random.default_rng(0)
    rank = rng.integers(0, 4, 100_000)
    scores = rank + rng.normal(size=len(rank))
    rank_correlations(scores[:10], rank[:10])  # the import of scipy is not what is timed
    context = rng.integers(0, 20, len(rank)).astype(str)
    start = time.process_time()
    PairCounter(scores, rank).count()
    PairCounter(scores, rank, context).count()
    rank_correlations(scores, rank)
    assert time.process_time() - start < 2
