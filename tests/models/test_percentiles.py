from dataclasses import replace

import numpy as np
import pytest
import torch

from mirip.errors import CheckpointError
from mirip.metrics.calibration import score_percentiles
from mirip.models.checkpoint import Checkpoint
from mirip.models.percentiles import known_contexts, score_summary

TRAINED = Checkpoint(
    model_state_dict={},
    config={},
    best_epoch=1,
    recipe={},
    fingerprint="f" * 64,
    split_digest="d" * 64,
    temperature=1.0,
    seen_images=torch.tensor([]),
    tiers=["S", "A", "B"],
    ordinal_slope=2.0,
    ordinal_thresholds=[-1.0, 1.0],
    score_percentiles=score_percentiles(np.linspace(-1, 1, 201)).tolist(),
    context_percentiles={"oil": score_percentiles(np.linspace(0, 1, 101)).tolist()},
)


def test_a_score_has_its_percentile_of_all_or_of_one_context() -> None:
    assert score_summary(TRAINED, 0.5).percentile == pytest.approx(75)
    assert score_summary(TRAINED, 0.5, "oil").percentile == pytest.approx(50)
    assert score_summary(TRAINED, 0.5, "").percentile == pytest.approx(75)


def test_images_without_a_context_are_no_context() -> None:
    without = replace(TRAINED, context_percentiles={**TRAINED.context_percentiles, "": TRAINED.score_percentiles})
    assert known_contexts(without) == ["oil"]


@pytest.mark.parametrize(("score", "tier"), [(3.0, "S"), (0.0, "A"), (-3.0, "B")])
def test_the_best_tier_belongs_to_high_scores(score: float, tier: str) -> None:
    found = score_summary(TRAINED, score)
    assert found.likeliest_tier == tier
    assert list(found.tiers) == TRAINED.tiers
    assert sum(found.tiers.values()) == pytest.approx(1)


def test_a_context_of_too_few_images_is_refused_with_those_there_are() -> None:
    with pytest.raises(CheckpointError, match=r"too few images of context 'ink'.*enough of: oil"):
        score_summary(TRAINED, 0.5, "ink")
