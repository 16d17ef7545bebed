import tracemalloc

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.preprocessing import OneHotEncoder

from mirip.metrics.columns import Column
from mirip.metrics.pairwise import pairwise_accuracy
from mirip.metrics.shortcuts import _PENALTIES, Shortcuts, _encode, _width

N = 240


@pytest.fixture
def labelled():
    """Tier ranks of 120 groups of two, dealt to four folds."""
    group = np.repeat(np.arange(N // 2), 2)
    return np.random.default_rng(0).integers(0, 4, N), group % 4


def accuracy_of(columns, labelled):
    rank, fold = labelled
    return pairwise_accuracy(Shortcuts({"it": columns}, fold).scores(rank)[0], rank, context=fold)


def test_a_number_that_follows_the_tier_orders_the_pairs(labelled):
    assert accuracy_of([Column("size", "number", labelled[0] * 10.0)], labelled) == 1


def test_a_number_that_is_low_in_the_middle_is_used_as_well(labelled):
    distance = np.random.default_rng(2).choice([-1.0, 1.0], N) * (labelled[0] + 0.5)
    assert accuracy_of([Column("size", "number", distance)], labelled) > 0.95


def test_a_category_that_follows_the_tier_orders_the_pairs(labelled):
    scrambled = np.array([2, 0, 3, 1])[labelled[0]]
    assert accuracy_of([Column("school", "category", scrambled)], labelled) == 1


def test_a_useless_column_is_near_chance(labelled):
    noise = np.random.default_rng(3).normal(size=N)
    assert accuracy_of([Column("noise", "number", noise)], labelled) == pytest.approx(0.5, abs=0.12)


def test_a_label_of_each_row_is_not_learned_by_heart(labelled):
    assert accuracy_of([Column("id", "category", np.arange(N))], labelled) == 0.5


def test_missing_numbers_are_a_value_of_their_own(labelled):
    rank, _ = labelled
    assert accuracy_of([Column("n", "number", np.where(rank == 0, np.nan, rank.astype(float)))], labelled) > 0.95


def test_labels_of_a_fold_are_not_looked_at_when_it_is_scored(labelled):
    rank, fold = labelled
    predictors = {"c": [Column("c", "number", np.random.default_rng(0).normal(size=N))]}
    other = np.where(fold == 0, 3 - rank, rank)
    first, second = (Shortcuts(predictors, fold).scores(r)[0][fold == 0] for r in (rank, other))
    assert np.array_equal(first, second)


def test_two_folds_leave_nothing_to_choose_a_penalty_on():
    with pytest.raises(ValueError, match="2 folds, at least 3"):
        Shortcuts({"c": [Column("c", "number", np.arange(4.0))]}, np.array([0, 0, 1, 1]))


def _encoded(column):
    features = np.empty((len(column.values), _width(column)))
    _encode(column, features)
    return features


def by_refitting(columns, rank, fold):
    """Score by scikit-learn, one regression after the other."""
    x = np.column_stack([_encoded(column) for column in columns])
    scores = np.zeros(len(rank))
    for k in np.unique(fold):
        errors = []
        for penalty in _PENALTIES:
            left = 0.0
            for j in set(np.unique(fold)) - {k}:
                rest = (fold != k) & (fold != j)
                model = Ridge(alpha=penalty).fit(x[rest], rank[rest])
                left += ((model.predict(x[fold == j]) - rank[fold == j]) ** 2).sum()
            errors.append(left)
        best = Ridge(alpha=_PENALTIES[int(np.argmin(errors))]).fit(x[fold != k], rank[fold != k])
        scores[fold == k] = best.predict(x[fold == k])
    return scores


def test_scores_are_those_of_nested_cross_validation_by_scikit_learn(labelled):
    rank, fold = labelled
    rng = np.random.default_rng(4)
    columns = [
        Column("n", "number", rank + 2 * rng.normal(size=N)),
        Column("c", "category", (rank + rng.integers(0, 6, N)).astype(np.int64)),
    ]
    ours = Shortcuts({"one": columns[:1], "both": columns}, fold).scores(rank)
    for scores, parts in zip(ours, (columns[:1], columns), strict=True):
        expected = by_refitting(parts, rank, fold)
        for k in range(4):  # but for each fold's constant, which orders nothing
            difference = scores[fold == k] - expected[fold == k]
            assert difference == pytest.approx(np.full(len(difference), difference[0]), abs=1e-6)


def test_agreement_is_the_correlation_of_scores_fitted_to_each_tier_vector(labelled):
    rank, fold = labelled
    rng = np.random.default_rng(5)
    fitted = Shortcuts({"n": [Column("n", "number", rank + rng.normal(size=N))]}, fold)
    tiers = np.stack([rank, rng.permutation(rank), rng.permutation(rank)])
    for found, vector in zip(fitted.agreement(tiers)[:, 0], tiers, strict=True):
        scores = fitted.scores(vector)[0]
        by_fold = [np.corrcoef(scores[fold == k], vector[fold == k])[0, 1] for k in range(4)]
        assert found == pytest.approx(np.mean(by_fold), abs=1e-6)


def test_agreement_of_what_says_nothing_is_0(labelled):
    rank, fold = labelled
    assert Shortcuts({"id": [Column("id", "category", np.arange(N))]}, fold).agreement(rank[None, :]) == 0


def test_categories_are_encoded_as_by_scikit_learn():
    codes = np.array([2, 0, 2, 1, 2, 0])
    expected = OneHotEncoder(sparse_output=False).fit_transform(codes[:, None])
    found = _encoded(Column("c", "category", codes))
    assert sorted(map(tuple, found.T)) == sorted(map(tuple, expected.T))


def test_memory_holds_the_features_once_and_a_fold_of_them():
    rng = np.random.default_rng(0)
    n, n_codes = 80_000, 50
    columns = [Column(str(seed), "category", rng.integers(0, n_codes, n)) for seed in range(2)]
    fold, rank = rng.integers(0, 8, n), rng.integers(0, 4, n)
    tracemalloc.start()
    try:
        Shortcuts({"both": columns}, fold).scores(rank)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.6 * n * 2 * n_codes * 8
