import re

import numpy as np
import pandas as pd
from result_repository import ResultRepository

from mirip.experiments.pull_request.charts import charts
from mirip.experiments.pull_request.revision import Revision


def revision(epochs: int = 30, *, slope: float = 0.005, accuracy: float = 0.7) -> Revision:
    curves = pd.DataFrame(
        {"epoch": range(1, epochs + 1), "val_pairwise_accuracy": 0.6 + slope * np.arange(epochs).clip(max=25)}
    )
    pairs = pd.DataFrame({"pair": ["S > A", "S > B"], "accuracy": [accuracy, 0.8]})
    return Revision("x", "0" * 40, {}, curves, pairs, None, None)


def test_a_curve_has_at_most_twenty_points_and_as_many_labels() -> None:
    (curves, _) = charts(revision(90), revision(97, slope=0.004, accuracy=0.75))
    (labels,) = re.findall(r'x-axis "epoch" \[(.*)\]', curves)
    lines = re.findall(r"line \[(.*)\]", curves)
    assert len(labels.split(",")) == len(lines[1].split(",")) <= 20
    assert labels.startswith("1, 6, 11")
    assert len(lines) == 2


def test_the_axis_holds_every_value_at_round_numbers() -> None:
    (curves, _) = charts(revision(), revision(slope=0.012, accuracy=0.75))
    (low, high) = map(int, re.findall(r"y-axis (\d+) --> (\d+)", curves)[0])
    assert (low, high) == (50, 90)


def test_both_values_of_a_tier_pair_are_shown() -> None:
    (_, pairs) = charts(revision(), revision(slope=0.004, accuracy=0.75))
    assert 'x-axis ["S > A", "S > B"]' in pairs
    assert "bar [75, 80]" in pairs
    assert "line [70, 80]" in pairs


def test_what_is_the_same_is_not_drawn() -> None:
    assert charts(revision(), revision()) == []


def test_a_base_without_results_leaves_the_branch_alone() -> None:
    none = Revision("x", "0" * 40, {}, None, None, None, None)
    drawn = charts(none, revision())
    assert len(drawn) == 2
    assert not any("before" in chart for chart in drawn)
    assert charts(revision(), none) == []


def test_a_curve_with_a_gap_is_not_drawn() -> None:
    broken = revision(slope=0.004, accuracy=0.75)
    assert broken.curves is not None
    broken.curves.loc[3, "val_pairwise_accuracy"] = np.nan
    assert len(charts(revision(), broken)) == 1


def test_charts_of_a_repository_are_drawn(repository: ResultRepository) -> None:
    from mirip.experiments.pull_request.revision import committed, working_tree

    repository.git("rm", "-rq", "metrics")
    repository.git("commit", "-qm", "nothing")
    before = committed(repository.git("rev-parse", "HEAD"), "main")
    repository.git("checkout", "-q", "main")
    assert len(charts(before, working_tree("x"))) == 2
