import numpy as np
import pytest

from benchmarks.experiment import DIM, SHARES, STAGES, made_features, table


def test_made_features_have_the_shares_of_the_tiers() -> None:
    features, tiers = made_features(2000)
    assert features.shape == (2000, DIM)
    assert np.isfinite(features).all()
    for tier, share in SHARES.items():
        assert tiers.count(tier) / 2000 == pytest.approx(share, abs=0.002)


def test_the_table_says_what_is_dvcs_own_time() -> None:
    lines = table(
        {
            "hardware": "a processor, 2 threads",
            "cores": 2,
            "load_average": 0.1,
            "torch": "2",
            "images": 10_000,
            "dim": DIM,
            "runs": 3,
            "experiment_seconds": [60.0, 12.0, 13.0],
            "stage_seconds_in_the_experiment": {stage: [9.0, 2.0, 2.0] for stage in STAGES},
            "stage_seconds_alone": {stage: [1.0, 1.5, 9.0] for stage in STAGES},
            "seconds_where_nothing_runs": 0.8,
        }
    ).splitlines()
    assert lines[2] == "| train | 2.0 | 1.5 |"
    assert "| DVC, before the first stage | 3.0 | |" in lines
    assert "| `dvc exp run` | 13.0 | 7.5 |" in lines
    assert "10,000 images" in lines[-1]
