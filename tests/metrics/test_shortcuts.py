import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge

from mirip.metrics.pairwise import pairwise_accuracy
from mirip.metrics.shortcuts import Column, _ridge_path, column_of, shortcut_scores

N = 200


@pytest.fixture
def labelled():
    """Tier ranks, groups of two, and a training side of three quarters."""
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(N // 2), 2)
    return rng.integers(0, 4, N), group, group < 75


def judged(columns, labelled):
    rank, group, train = labelled
    scores = shortcut_scores(columns, rank, group, train, folds=5, rng=np.random.default_rng(1))
    return pairwise_accuracy(scores[~train], rank[~train])


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (np.arange(20), "number"),
        (np.arange(20) % 7, "category"),
        (np.arange(20) % 7 / 2, "number"),
        ([f"{k / 10}" for k in range(20)], "number"),
        ([f"2024-01-{k + 1:02d}" for k in range(20)], "number"),
        (pd.date_range("2024-01-01", periods=20), "number"),
        (["oil", "ink"] * 10, "category"),
        ([True, False] * 10, "category"),
        (["oil", None] * 10, "category"),
        ([1.5, None] * 10, "number"),
    ],
)
def test_a_column_is_read_as_numbers_or_categories(values, kind):
    column = column_of("c", pd.Series(values))
    assert isinstance(column, Column)
    assert column.kind == kind
    assert len(column.values) == 20


@pytest.mark.parametrize(
    ("values", "reason"), [(["same"] * 20, "one value"), ([f"work {k}" for k in range(20)], "20 values in 20 rows")]
)
def test_a_column_that_can_predict_nothing_is_left_out_with_a_reason(values, reason):
    assert reason in column_of("c", pd.Series(values))


def test_a_number_is_cut_into_tenths_and_missing():
    values = np.append(np.arange(100.0), np.nan)
    codes = Column("c", "number", values).codes
    assert np.bincount(codes).tolist() == [1] + [10] * 10
    assert Column("c", "number", np.array([np.nan, np.nan])).codes.tolist() == [0, 0]


def test_a_number_that_follows_the_tier_orders_the_pairs(labelled):
    assert judged([Column("size", "number", labelled[0] * 10.0)], labelled) == 1


def test_a_number_that_is_low_in_the_middle_is_used_as_well(labelled):
    distance = np.random.default_rng(2).choice([-1.0, 1.0], N) * (labelled[0] + 0.5)
    assert judged([Column("size", "number", distance)], labelled) > 0.95


def test_a_category_that_follows_the_tier_orders_the_pairs(labelled):
    scrambled = np.array([2, 0, 3, 1])[labelled[0]]
    assert judged([Column("school", "category", scrambled)], labelled) == 1


def test_a_useless_column_is_near_chance(labelled):
    noise = np.random.default_rng(3).normal(size=N)
    assert judged([Column("noise", "number", noise)], labelled) == pytest.approx(0.5, abs=0.15)


def test_a_label_of_each_training_row_is_not_learned_by_heart(labelled):
    rank, _, train = labelled
    codes = np.where(train, np.arange(N), N)
    assert judged([Column("id", "category", codes)], labelled) == 0.5
    assert rank[train].std() > 0


def test_missing_numbers_and_unseen_categories_are_scored(labelled):
    rank, group, train = labelled
    numbers = np.where(rank == 0, np.nan, rank.astype(float))
    codes = np.where(train, rank, rank + 10)
    columns = [Column("n", "number", numbers), Column("c", "category", codes)]
    assert np.isfinite(shortcut_scores(columns, rank, group, train, folds=5, rng=np.random.default_rng(0))).all()
    assert judged(columns[:1], labelled) > 0.95


def test_labels_outside_the_training_side_are_not_looked_at(labelled):
    rank, group, train = labelled
    column = [Column("c", "number", np.random.default_rng(0).normal(size=N))]
    other = np.where(train, rank, 3 - rank)
    first, second = (
        shortcut_scores(column, r, group, train, folds=5, rng=np.random.default_rng(0)) for r in (rank, other)
    )
    assert np.array_equal(first, second)


def test_ridge_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 4)) + 5, rng.normal(size=30)
    mean, coefficients = _ridge_path(x, y, np.array([0.1, 10.0]))
    assert mean == pytest.approx(y.mean())
    for column, penalty in enumerate((0.1, 10.0)):
        assert coefficients[:, column] == pytest.approx(Ridge(alpha=penalty).fit(x, y).coef_)
