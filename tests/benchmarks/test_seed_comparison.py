import re
from pathlib import Path

import pytest

from benchmarks.seed_comparison import SETTINGS, Setting, compared

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_heads_make_a_false_verdict_rare_where_seeds_do_much():
    one, three = (compared(Setting(n_members, 0.3, 0.1), runs=40, jobs=1) for n_members in (1, 3))
    assert one["false_verdicts"] > 0.2 > three["false_verdicts"]
    assert one["relative_width"] < three["relative_width"]


def test_every_setting_is_documented_and_what_is_known_of_seeds_keeps_verdicts_true():
    rows = re.findall(
        r"^\| (.* seeds move .*?) \| ([0-9.]+)% ± [0-9.]+% \| [0-9.]+ \| ([0-9.]+) \|$",
        (ROOT / "docs/benchmarks.md").read_text(),
        re.MULTILINE,
    )
    assert [name for name, _, _ in rows] == [str(setting) for setting in SETTINGS]
    for name, false, width in rows:
        if "one member each" not in name:
            assert float(false) < 8, name
            assert 1 <= float(width) < 1.4, name
