"""Values in words."""

import pytest

from mirip.metrics.comparison import COMPARISONS
from mirip.metrics.intervals import Interval
from mirip.report import formatting as fmt

EVALUATE = {
    "pairwise_accuracy_ci_low": 0.643,
    "pairwise_accuracy_ci_high": 0.78,
    "target_accuracy": 0.6,
    "confidence": 0.95,
    "verdict": "met",
}


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_an_unknown_value_reads_not_available(value: float | None) -> None:
    shown = (fmt.percent(value), fmt.points(value), fmt.number(value, unit="ms"), fmt.text(value))
    assert set(shown) == {"not available"}


def test_values_read_as_a_person_writes_them() -> None:
    assert fmt.percent(0.7143) == "71.4 %"
    assert fmt.points(-0.021) == "−2.1"
    assert fmt.number(12345.6, 0, "ms") == "12,346 ms"
    assert fmt.plural(1, "image") == "1 image"
    assert fmt.plural(2000, "image") == "2,000 images"


def test_a_target_met_names_interval_and_target() -> None:
    verdict = fmt.target_verdict(EVALUATE)
    assert (verdict.label, verdict.tone) == ("Target met", "good")
    assert verdict.sentence == "The 95 % interval, 64.3 % to 78.0 %, lies wholly at or above the target of 60 %."


def test_an_interval_that_holds_the_target_is_undecided() -> None:
    verdict = fmt.target_verdict(EVALUATE | {"pairwise_accuracy_ci_low": 0.55, "verdict": "undecided"})
    assert verdict.label == "Undecided"
    assert "cannot tell" in verdict.sentence


def test_a_small_sample_above_the_target_says_why_it_is_not_met() -> None:
    verdict = fmt.target_verdict(EVALUATE | {"verdict": "undecided"})
    assert verdict.tone == "open"
    assert "too small" in verdict.sentence


def test_an_interval_below_the_target_is_missed() -> None:
    bounds = {"pairwise_accuracy_ci_low": 0.4, "pairwise_accuracy_ci_high": 0.55, "verdict": "missed"}
    verdict = fmt.target_verdict(EVALUATE | bounds)
    assert verdict.tone == "bad"
    assert "wholly below" in verdict.sentence


def test_without_an_interval_there_is_no_verdict() -> None:
    assert "not available" in fmt.target_verdict({"verdict": "met"}).sentence


def test_only_a_small_sample_is_warned_of() -> None:
    small = {"small_sample": True, "n_images": 40, "n_groups": 12, "min_groups_in_tier": 2}
    warning = fmt.small_sample_warning(small, {})
    assert warning is not None
    assert "40 images in 12 groups, 2 in the tier that has fewest" in warning
    assert fmt.small_sample_warning({"small_sample": False}, {}) is None


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.01, 0.1, "The model is better than ridge (difference +5.5 points"),
        (-0.1, -0.01, "The model is worse than ridge (difference −5.5 points"),
        (-0.05, 0.05, "The model is within noise of ridge: no difference is shown"),
    ],
)
def test_a_difference_is_compared_by_its_interval(low: float, high: float, said: str) -> None:
    assert fmt.against("ridge", (low + high) / 2, Interval(low, high, False)).startswith(said)


def test_of_an_unknown_difference_nothing_is_said() -> None:
    assert "not available" in fmt.against("ridge", 0.1, None)


def test_each_verdict_has_its_words() -> None:
    assert set(fmt.COMPARISONS) == set(COMPARISONS)


def test_an_interval_is_read_whole_or_not_at_all() -> None:
    values = {"margin_ci_low": -0.02, "margin_ci_high": 0.04, "ci_low": 0.1, "ci_high": float("nan")}
    assert fmt.interval_of(values, "margin") == Interval(-0.02, 0.04, False)
    assert fmt.interval_of(values) is None
    assert fmt.interval_of({}, "margin") is None


def test_a_difference_is_shown_with_its_interval() -> None:
    assert fmt.margin(0.01, Interval(-0.02, 0.04, False)) == "+1.0 (−2.0 to +4.0)"
    assert fmt.margin(0.01, None) == "+1.0"
    assert fmt.margin(None, None) == "not available"
    assert fmt.span(None) == "interval not available"
