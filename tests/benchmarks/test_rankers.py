import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks import rankers
from benchmarks.rankers import MADE_SETS, MadeSet, compared, made_data, scored_partition
from mirip.models.baselines import BASELINES

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("made", MADE_SETS[:5], ids=str)
def test_a_made_set_is_as_large_as_it_says_and_has_every_tier(made) -> None:
    data = made_data(made)
    assert len(data) == made.n_images
    shares = np.bincount(data.tier_rank) / made.n_images
    assert shares == pytest.approx([0.49, 0.37, 0.1, 0.04], abs=0.01 + 1 / made.n_images)
    assert len(np.unique(data.group)) <= made.n_groups
    assert np.array_equal(made_data(made).features, data.features)


@pytest.mark.slow
def test_a_set_is_scored_out_of_fold_and_compared_with_its_best_baseline(monkeypatch) -> None:
    options = rankers.default_options().model_copy(update={"max_epochs": 2, "calibration_folds": 2})
    monkeypatch.setattr(rankers, "default_options", lambda: options)
    monkeypatch.setattr(rankers, "N_BOOTSTRAP", 100)
    data = made_data(MadeSet("linear", 120, 60))
    scores, fold = scored_partition(data, 0)
    assert list(scores) == [rankers.DEFAULT, rankers.PLAIN, *BASELINES]
    assert all(np.isfinite(own).all() for own in scores.values())
    row = compared("x", data, [(scores, fold)])
    assert row["best"] in BASELINES
    assert row["low"] <= row["default"] <= row["high"]
    assert row["default"] > row["plain"] - 0.05


def test_every_made_set_is_documented_none_is_below_and_the_mean_is_above() -> None:
    text = (ROOT / "docs/benchmarks.md").read_text()
    rows = re.findall(r"^\| (.+?) \| \w+ [0-9.]+ \| ([+-][0-9.]+) \(.*?\) \| ([a-z ]+) \|", text, re.MULTILINE)
    assert {str(made) for made in MADE_SETS} <= {name for name, _, _ in rows}
    assert len(rows) >= len(MADE_SETS) + 7
    assert not [name for name, _, verdict in rows if verdict == "worse"]
    assert np.mean([float(margin) for _, margin, _ in rows]) > 0
