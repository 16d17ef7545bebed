"""Steps: every image is visited, and only fair cross-tier pairs are formed."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mirip.models.batches import image_batches, pair_batches
from mirip.models.losses import all_pairs_loss, pair_loss
from mirip.params import TrainParams


@given(st.integers(1, 300), st.integers(2, 64), st.integers(0, 5))
def test_batches_partition_all_images_in_nearly_equal_parts(n_images, images_per_step, seed) -> None:
    batches = list(image_batches(n_images, images_per_step, np.random.default_rng(seed)))
    assert sorted(np.concatenate(batches)) == list(range(n_images))
    sizes = [len(batch) for batch in batches]
    assert max(sizes) <= images_per_step
    assert max(sizes) - min(sizes) <= 1


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=40),
    st.integers(0, 5),
    st.sampled_from(["any", "same"]),
    st.integers(1, 12),
)
def test_every_image_with_a_fair_partner_is_paired_and_the_better_one_comes_first(images, seed, fair, size) -> None:
    tier = np.array([tier for tier, _ in images])
    context = np.array([context for _, context in images])
    config = TrainParams(batch_size=size, pair_context=fair)
    batches = list(pair_batches(tier, context, config, np.random.default_rng(seed)))
    may_meet = (tier[:, None] != tier) & ((context[:, None] == context) | (fair == "any"))
    if not may_meet.any():
        assert batches == []
        return
    better, worse = np.concatenate([pairs for pairs, _ in batches], axis=1)
    assert (tier[better] > tier[worse]).all()
    assert may_meet[better, worse].all()
    assert set(better) | set(worse) == set(np.flatnonzero(may_meet.any(axis=1)))
    assert len(better) == may_meet.any(axis=1).sum()
    sizes = [len(weights) for _, weights in batches]
    assert max(sizes) <= size
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("balance", ["natural", "balanced"])
@pytest.mark.parametrize("fair", ["any", "same"])
def test_batches_of_pairs_estimate_the_loss_over_all_pairs(balance, fair) -> None:
    """Also where a tier is rare: its images are drawn often, and weigh less for it."""
    rng = np.random.default_rng(0)
    tier = np.repeat([0, 1, 2, 3], [20, 15, 4, 2])
    context = rng.integers(0, 2, len(tier))
    scores = torch.from_numpy(rng.normal(size=len(tier)) + 0.8 * tier)
    config = TrainParams(pair_balance=balance, pair_context=fair, batch_size=64)
    expected = all_pairs_loss(scores, torch.from_numpy(tier), torch.from_numpy(context), config)
    estimates = []
    for seed in range(3000):
        for pairs, weights in pair_batches(tier, context, config, np.random.default_rng(seed)):
            losses = pair_loss(scores[pairs[0]] - scores[pairs[1]], torch.tensor(1), config).numpy()
            estimates.append((weights * losses).mean())
    assert expected is not None
    assert np.mean(estimates) == pytest.approx(expected.item(), rel=0.03)


def test_a_balanced_epoch_is_not_a_natural_one() -> None:
    tier, context = np.repeat([0, 1, 2], [20, 10, 2]), np.zeros(32, int)
    natural, balanced = (
        [w for _, w in pair_batches(tier, context, TrainParams(pair_balance=balance), np.random.default_rng(0))]
        for balance in ("natural", "balanced")
    )
    assert not np.allclose(np.concatenate(natural), np.concatenate(balanced))
