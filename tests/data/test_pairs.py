import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirip.data.pairs import PairwiseDataset, count_cross_tier_pairs

_ROWS = st.lists(st.tuples(st.integers(-3, 5), st.sampled_from("abc")), max_size=30)


def _brute_force(ranks: np.ndarray, context: np.ndarray | None) -> set[tuple[int, int]]:
    """Return (better, worse) of every cross-tier pair."""
    return {
        (i, j)
        for i, j in itertools.permutations(range(len(ranks)), 2)
        if ranks[i] > ranks[j] and (context is None or context[i] == context[j])
    }


def _arrays(rows: list[tuple[int, str]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([rank for rank, _ in rows], dtype=np.int8), np.array([name for _, name in rows], dtype=object)


@given(_ROWS, st.booleans(), st.integers(0, 1000))
def test_all_pairs_once_with_the_right_label(rows: list[tuple[int, str]], same: bool, seed: int) -> None:
    ranks, context = _arrays(rows)
    dataset = PairwiseDataset(ranks, context=context, same_context=same, seed=seed)
    pairs = list(dataset)
    expected = _brute_force(ranks, context if same else None)
    assert len(dataset) == len(pairs) == len(expected) == count_cross_tier_pairs(ranks, context if same else None)
    assert {(i, j) if label > 0 else (j, i) for i, j, label in pairs} == expected
    assert {label for *_, label in pairs} <= {-1, 1}


@given(_ROWS, st.integers(0, 40), st.integers(0, 1000))
def test_a_draw_holds_different_pairs(rows: list[tuple[int, str]], n_pairs: int, seed: int) -> None:
    ranks, _ = _arrays(rows)
    expected = _brute_force(ranks, None)
    drawn = [(i, j) if label > 0 else (j, i) for i, j, label in PairwiseDataset(ranks, n_pairs=n_pairs, seed=seed)]
    assert len(drawn) == len(set(drawn)) == min(n_pairs, len(expected))
    assert set(drawn) <= expected


@given(_ROWS, st.integers(1, 50))
def test_batches_visit_every_pair_once(rows: list[tuple[int, str]], batch_size: int) -> None:
    ranks, _ = _arrays(rows)
    dataset = PairwiseDataset(ranks)
    batches = list(dataset.batches(batch_size, np.random.default_rng(0)))
    assert all(len(i) == batch_size for i, _, _ in batches[:-1])
    visited = [tuple(pair) for batch in batches for pair in zip(*(part.tolist() for part in batch), strict=True)]
    assert sorted(visited) == sorted(dataset)


@pytest.mark.slow
def test_draws_are_uniform_over_pairs() -> None:
    ranks = np.array([0, 0, 0, 1, 1, 2, 3])
    expected = sorted(_brute_force(ranks, None))
    seen = dict.fromkeys(expected, 0)
    n_draws = 3000
    for seed in range(n_draws):
        for i, j, label in PairwiseDataset(ranks, n_pairs=2, seed=seed):
            seen[(i, j) if label > 0 else (j, i)] += 1
    mean = 2 * n_draws / len(expected)
    chi_square = sum((count - mean) ** 2 / mean for count in seen.values())
    assert chi_square < 45  # 99.95 % of chi-square with 17 degrees of freedom


def test_orientation_is_a_fair_coin_that_does_not_follow_the_order() -> None:
    ranks = np.arange(400)
    _, _, labels = PairwiseDataset(ranks).take(np.arange(400 * 399 // 2))
    assert abs(labels.mean()) < 0.02
    assert abs(np.corrcoef(labels[:-1], labels[1:])[0, 1]) < 0.02


def test_the_seed_decides_the_draw() -> None:
    ranks = np.arange(100) % 4
    first, again, other = (list(PairwiseDataset(ranks, n_pairs=50, seed=seed)) for seed in (1, 1, 2))
    assert first == again != other


def test_batches_come_in_another_order_with_another_generator() -> None:
    dataset = PairwiseDataset(np.arange(100) % 4)
    first = next(dataset.batches(64, np.random.default_rng(1)))
    second = next(dataset.batches(64, np.random.default_rng(2)))
    assert not np.array_equal(first[0], second[0])


def test_items_may_be_features() -> None:
    features = np.arange(6, dtype=np.float32).reshape(3, 2)
    ranks = np.array([0, 2, 2])
    for first, second, label in PairwiseDataset(ranks, features=features):
        better, worse = (first, second) if label > 0 else (second, first)
        assert worse.tolist() == [0, 1]
        assert better.tolist() in ([2, 3], [4, 5])


def test_sixty_billion_pairs_need_no_more_memory_than_the_ranks() -> None:
    ranks = (np.arange(400_000) % 4).astype(np.int8)
    dataset = PairwiseDataset(ranks, n_pairs=1000)
    assert count_cross_tier_pairs(ranks) == 6 * 100_000**2
    i, j, labels = next(dataset.batches(1000, np.random.default_rng(0)))
    assert (np.sign(ranks[i] - ranks[j]) == labels).all()
    assert len(set(zip(i.tolist(), j.tolist(), strict=True))) == 1000


def test_indices_behave_like_those_of_a_sequence() -> None:
    dataset = PairwiseDataset(np.array([0, 1, 2]))
    assert dataset[-1] == dataset[2]
    assert list(dataset[:2]) == [dataset[0], dataset[1]]
    with pytest.raises(IndexError, match="pair 3 of 3"):
        dataset[3]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="same_context needs the context"):
        PairwiseDataset(np.array([0, 1]), same_context=True)
    with pytest.raises(ValueError, match="features has 3 rows, tier_rank 2"):
        PairwiseDataset(np.array([0, 1]), features=np.zeros((3, 1)))
    with pytest.raises(ValueError, match="shape"):
        PairwiseDataset(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="negative"):
        PairwiseDataset(np.array([0, 1]), n_pairs=-1)
