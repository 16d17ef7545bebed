import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks.interval_coverage import Setting, coverage_of, simulated_split, two_tiers
from mirip.metrics.pairwise import pairwise_accuracy

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("one_tier", [False, True])
def test_the_truth_is_that_of_a_huge_population(one_tier):
    setting = Setting(40_000, one_tier)
    scores, rank, _ = simulated_split(setting, np.random.default_rng(0))
    assert pairwise_accuracy(scores, rank) == pytest.approx(setting.true_accuracy, abs=0.01)


def test_a_group_of_one_tier_has_one_tier_and_every_tier_is_there():
    _, rank, group = simulated_split(Setting(15, True), np.random.default_rng(1))
    assert all(len(np.unique(rank[group == g])) == 1 for g in range(15))
    assert len(np.unique(rank)) == 4


def test_ours_covers_far_more_often_than_the_binomial_formula():
    table = coverage_of(Setting(40, False), runs=60, jobs=1).set_index("interval")
    assert table.loc["ours", "coverage"] > 0.85
    assert table.loc["binomial, all pairs", "coverage"] < 0.5
    assert table.loc["ours", "mean_width"] > 3 * table.loc["binomial, all pairs", "mean_width"]


def test_near_the_end_percentiles_collapse_and_ours_holds():
    table = coverage_of(two_tiers(40, 0.98), runs=100, jobs=1).set_index("interval")
    assert table.loc["percentile", "coverage"] < 0.9
    assert table.loc["ours", "coverage"] > 0.95


def test_the_documented_coverage_keeps_the_promise():
    """What the table in the docs says lies where it has to, and is what the interval's docstring claims."""
    found = re.findall(
        r"^\| (\d+) groups, (.*?), true ([0-9.]+) \| ([0-9.]+)% ±",
        (ROOT / "docs/benchmarks.md").read_text(),
        re.MULTILINE,
    )
    of_92 = [float(coverage) for n_groups, _, _, coverage in found if n_groups == "92"]
    assert len(of_92) == 6
    assert all(93 <= coverage <= 97 for coverage in of_92)
    said = (ROOT / "mirip/metrics/intervals.py").read_text()
    assert all(f"{coverage} %" in said for n, _, truth, coverage in found if n == "92" and truth == "0.720")
