import itertools

import numpy as np
import pytest

from mirip.data.folds import allocate, shares_off

_FRACTIONS = np.array([0.8, 0.1, 0.1])


def _images(counts: np.ndarray, sides: np.ndarray) -> np.ndarray:
    return np.stack([counts[sides == side].sum(axis=0) for side in range(3)])


def test_groups_of_one_are_dealt_out_to_the_image() -> None:
    counts = np.repeat(np.eye(3, dtype=np.int64), [100, 40, 10], axis=0)
    sides = allocate(counts, _FRACTIONS, seed=0, max_drift=5.0)
    np.testing.assert_array_equal(_images(counts, sides), [[80, 32, 8], [10, 4, 1], [10, 4, 1]])


def test_shares_off_are_percentage_points() -> None:
    np.testing.assert_allclose(shares_off(np.array([[3, 1], [1, 3]])), [[25, -25], [-25, 25]])


def test_a_split_of_no_share_stays_empty() -> None:
    counts = np.repeat(np.eye(2, dtype=np.int64), [20, 20], axis=0)
    sides = allocate(counts, np.array([0.75, 0.25, 0.0]), seed=0, max_drift=5.0)
    assert set(sides.tolist()) == {0, 1}


@pytest.mark.parametrize("seed", range(4))
def test_is_as_good_as_trying_everything(seed: int) -> None:
    counts = np.random.default_rng(seed).integers(0, 5, size=(8, 2))
    counts[counts.sum(axis=1) == 0] = 1
    fractions = np.array([0.5, 0.25, 0.25])
    fair = fractions[:, None] * counts.sum(axis=0)

    def cost(sides: np.ndarray) -> float:
        images = _images(counts, sides)
        return float(((images - fair) ** 2 / fair).sum() + 1e6 * (images == 0).sum())

    best = min(cost(np.array(sides)) for sides in itertools.product(range(3), repeat=8))
    assert cost(allocate(counts, fractions, seed=1, max_drift=100.0)) <= best * 1.2 + 1e-9
