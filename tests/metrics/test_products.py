"""A flag that a BLAS leaves behind fails nothing; a result that is not finite does."""

import numpy as np
import pytest
from stray_flags import with_stray_flags

from mirip.errors import DataError
from mirip.metrics import image_issues, shortcuts
from mirip.metrics.columns import Column
from mirip.metrics.products import finite, stray_flags_ignored, times


@pytest.fixture
def matrix():
    return np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)


def test_the_flag_is_one_that_numpy_warns_of(matrix):
    with pytest.raises(RuntimeWarning, match="invalid value"):
        _ = with_stray_flags(matrix) @ matrix.T


def test_a_product_is_what_numpy_makes_of_it_whatever_flag_is_left(matrix):
    found = times(with_stray_flags(matrix), matrix.T)
    assert found.dtype == np.float32
    assert np.array_equal(found, matrix @ matrix.T)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_result_that_is_not_finite_is_an_error_that_says_so(matrix, value):
    matrix[3, 1] = value
    with pytest.raises(DataError, match=r"a product of matrices holds .* not finite, 1 of 40: .*mirip cache verify"):
        times(matrix, np.eye(6, dtype=np.float32)[:, 1])


def test_an_overflow_is_an_error_of_ours_and_no_warning():
    with pytest.raises(DataError, match="2 of 2"):
        times(np.full((2, 3), 1e30, dtype=np.float32), np.full(3, 1e30, dtype=np.float32))


def test_what_is_finite_is_returned_as_it_is(matrix):
    assert finite(matrix, "a matrix") is matrix


def test_within_the_context_no_flag_warns():
    with stray_flags_ignored():
        assert np.isnan(np.float32(np.inf) - np.float32(np.inf))


def test_the_look_for_near_duplicates_survives_a_stray_flag(matrix, monkeypatch):
    side = np.arange(40) % 4 == 0
    expected = image_issues.near_duplicates(matrix, side, rng=np.random.default_rng(0))
    unit = image_issues._unit
    monkeypatch.setattr(image_issues, "_unit", lambda *given: with_stray_flags(unit(*given)))
    found = image_issues.near_duplicates(matrix, side, rng=np.random.default_rng(0))
    assert found.typical_distance == expected.typical_distance


def test_shortcuts_survive_a_stray_flag(matrix):
    predictors = {"number": [Column("number", "number", matrix[:, 0].astype(np.float64))]}
    fold, rank = np.arange(40) % 4, np.random.default_rng(1).integers(0, 3, 40)
    expected = shortcuts.Shortcuts(predictors, fold)
    found = shortcuts.Shortcuts(predictors, fold)
    found._design = with_stray_flags(found._design)  # of which all its products are made
    assert np.array_equal(found.scores(rank), expected.scores(rank))
    assert np.array_equal(found.agreement(rank[None]), expected.agreement(rank[None]))
