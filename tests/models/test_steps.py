"""Steps: every image is visited, and only fair cross-tier pairs are formed."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mirip.models.steps import anchored_pairs, image_batches


@given(st.integers(1, 300), st.integers(2, 64), st.integers(0, 5))
def test_batches_partition_all_images_in_nearly_equal_parts(n_images, images_per_step, seed) -> None:
    batches = list(image_batches(n_images, images_per_step, np.random.default_rng(seed)))
    assert sorted(np.concatenate(batches)) == list(range(n_images))
    sizes = [len(batch) for batch in batches]
    assert max(sizes) <= images_per_step
    assert max(sizes) - min(sizes) <= 1


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=40), st.integers(0, 5))
def test_every_image_with_a_fair_partner_is_paired_and_the_better_one_is_named_first(images, seed) -> None:
    tier = np.array([tier for tier, _ in images])
    context = np.array([context for _, context in images])
    better, worse = anchored_pairs(tier, context, np.random.default_rng(seed))
    assert (tier[better] > tier[worse]).all()
    assert (context[better] == context[worse]).all()
    has_partner = {i for i in range(len(tier)) if ((context == context[i]) & (tier != tier[i])).any()}
    assert len(better) == len(has_partner)
    assert set(better) | set(worse) == has_partner


def test_partners_are_drawn_evenly_from_all_other_tiers() -> None:
    tier, context = np.array([0, 1, 1, 2, 2, 2]), np.zeros(6, int)
    rng = np.random.default_rng(0)
    counts = np.zeros(6)
    for _ in range(4000):
        better, worse = anchored_pairs(tier, context, rng)
        for a, b in zip(better, worse, strict=True):
            if 0 in (a, b):
                counts[a + b] += 1  # the partner of image 0, as an anchor (1 in 5) or as a drawn partner
    # image 0 as an anchor: 1/5 for each; drawn by an anchor of tier 1: 1/4, of tier 2: 1/3
    expected = np.array([0, 1 / 5 + 1 / 4, 1 / 5 + 1 / 4, 1 / 5 + 1 / 3, 1 / 5 + 1 / 3, 1 / 5 + 1 / 3])
    np.testing.assert_allclose(counts / 4000, expected, atol=0.04)
