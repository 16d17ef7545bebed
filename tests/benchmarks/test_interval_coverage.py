import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks.interval_coverage import Setting, coverage_of, simulated_side, true_accuracy
from mirip.metrics.pairwise import pairwise_accuracy

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("one_tier", [False, True])
def test_the_truth_is_that_of_a_huge_population(one_tier):
    scores, rank, _ = simulated_side(Setting(40_000, one_tier), np.random.default_rng(0))
    assert pairwise_accuracy(scores, rank) == pytest.approx(true_accuracy(), abs=0.01)


def test_a_group_of_one_tier_has_one_tier_and_every_tier_is_there():
    _, rank, group = simulated_side(Setting(15, True), np.random.default_rng(1))
    assert all(len(np.unique(rank[group == g])) == 1 for g in range(15))
    assert len(np.unique(rank)) == 4


def test_ours_covers_far_more_often_than_the_binomial_formula():
    table = coverage_of(Setting(40, False), runs=60, jobs=1).set_index("interval")
    assert table.loc["ours", "coverage"] > 0.85
    assert table.loc["binomial, all pairs", "coverage"] < 0.5
    assert table.loc["ours", "mean_width"] > 3 * table.loc["binomial, all pairs", "mean_width"]


def test_the_documented_coverage_keeps_the_promise():
    """What the table in the docs says is what the interval's docstring claims, and lies where it has to."""
    lines = re.findall(r"^\| 92 groups, .*?\| ([0-9.]+)% ±", (ROOT / "docs/benchmarks.md").read_text(), re.MULTILINE)
    assert len(lines) == 2
    assert all(93 <= float(coverage) <= 97 for coverage in lines)
    assert all(f"{coverage} %" in (ROOT / "mirip/metrics/intervals.py").read_text() for coverage in lines)
