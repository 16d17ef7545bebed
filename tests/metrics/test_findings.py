import numpy as np
import pandas as pd
import pytest

from mirip.metrics.findings import Finding, as_table, at_least, duplicate_findings
from mirip.metrics.image_issues import NearDuplicates

FINDINGS = as_table(
    [
        Finding("hint", "info", 0.6, 0.01, "look"),
        Finding("leak", "critical", 0.9, 0.001, "stop"),
        Finding("copies", "warning", 3, float("nan"), "look"),
        Finding("shortcut", "critical", 0.8, 0.0005, "stop"),
    ]
)


def test_the_gravest_come_first_then_the_surest():
    assert FINDINGS["name"].tolist() == ["shortcut", "leak", "copies", "hint"]


@pytest.mark.parametrize(
    ("severity", "names"),
    [
        ("critical", ["shortcut", "leak"]),
        ("warning", ["shortcut", "leak", "copies"]),
        ("info", FINDINGS["name"].tolist()),
    ],
)
def test_findings_of_a_severity_and_above_are_named(severity, names):
    assert at_least(FINDINGS, severity) == names


def test_no_finding_is_a_table_of_the_same_columns():
    assert list(as_table([])) == list(FINDINGS)
    assert at_least(as_table([]), "info") == []


def near(count, searched, candidates):
    return NearDuplicates(pd.DataFrame({"row": np.arange(count)}), searched, candidates, 1.0, 0.5)


def test_near_duplicates_are_counted_named_and_no_test():
    (finding,) = duplicate_findings(near(4, 1000, 1000), ["ab and cd", "ef and 01"])
    assert finding.value == 4
    assert np.isnan(finding.p_value)
    assert "4 of 1000 images searched have a near-duplicate" in finding.advice
    assert "(ab and cd; ef and 01, ...)" in finding.advice
    assert finding.severity == "warning"


def test_many_near_duplicates_are_critical_and_a_draw_is_told():
    (finding,) = duplicate_findings(near(300, 5000, 80_000), [])
    assert finding.severity == "critical"
    assert "300 of 5000 images searched (drawn from 80000)" in finding.advice


def test_no_near_duplicate_is_no_finding():
    assert duplicate_findings(near(0, 10, 10), []) == []
