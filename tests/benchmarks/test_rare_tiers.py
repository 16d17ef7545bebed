import re
from pathlib import Path

import pytest

from benchmarks.rare_tiers import SETTINGS, Setting, signal_of_better, simulated, true_accuracy

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_verdict_is_given_from_eight_groups_on_and_is_rarely_false():
    few, enough = (simulated(Setting((100 - rare, rare)), runs=60, jobs=1) for rare in (4, 8))
    assert few["undecided"] == 1
    assert enough["undecided"] == 0
    assert enough["better"] + enough["worse"] <= 0.1
    assert enough["paired_coverage"] >= 0.88


def test_a_better_model_is_better_by_as_much_as_it_says():
    setting = Setting((20, 20, 20, 20), better_by=0.08)
    gained = true_accuracy(setting.groups, signal_of_better(setting)) - true_accuracy(
        setting.groups, signal_of_better(Setting(setting.groups))
    )
    assert gained == pytest.approx(0.08, abs=1e-3)


def test_every_setting_is_documented_and_keeps_its_word():
    """Where a verdict is given: false at most 7 times in 100, coverage about 95 %, and a better model is seen."""
    rows = re.findall(
        r"^\| ((?:two|four) tiers, .*?) \| (\d+)% \| ([\d.]+)% \| ([\d.]+)% \| ([\d.]+)% \| ([\d.]+)% \| [\d.]+ \|$",
        (ROOT / "docs/benchmarks.md").read_text(),
        re.MULTILINE,
    )
    assert [name for name, *_ in rows] == [str(setting) for setting in SETTINGS]
    for name, *values in rows:
        undecided, better, worse, coverage, paired = map(float, values)
        if undecided:
            assert undecided == 100, name
            continue
        assert 93 <= coverage <= 98, name
        assert 93 <= paired <= 98, name
        if "A better" not in name:
            assert better + worse <= 7, name
    (even,) = (float(better) for name, _, better, *_ in rows if "20 of 80" in name)
    assert even >= 85
