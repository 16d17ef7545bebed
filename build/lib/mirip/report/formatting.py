"""Figures in words: what is not there reads "not available", never a number."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mirip.metrics.intervals import Interval, comparison

NOT_AVAILABLE = "not available"

Tone = Literal["good", "open", "bad"]
_VERDICTS: dict[str, tuple[str, Tone]] = {
    "met": ("Target met", "good"),
    "undecided": ("Undecided", "open"),
    "missed": ("Target missed", "bad"),
}


@dataclass(frozen=True)
class Verdict:
    """A judgement: its name, the tone it is shown in, and one sentence."""

    label: str
    tone: Tone
    sentence: str


def known(value: Any) -> bool:
    """Tell whether there is a value: not None, NaN or infinite."""
    return value is not None and not (isinstance(value, float) and not math.isfinite(value))


def percent(value: Any, digits: int = 1) -> str:
    """Return a fraction as a percentage."""
    return f"{value * 100:.{digits}f} %" if known(value) else NOT_AVAILABLE


def points(value: Any) -> str:
    """Return a difference of two fractions in percentage points, with its sign."""
    return f"{value * 100:+.1f}".replace("-", "−") if known(value) else NOT_AVAILABLE


def share_points(value: Any) -> str:
    """Return a spread of fractions in percentage points, which has no sign."""
    return f"{value * 100:.1f} points" if known(value) else NOT_AVAILABLE


def span(low: Any, high: Any) -> str:
    """Return the bounds of an interval of fractions."""
    return f"{percent(low)} to {percent(high)}" if known(low) and known(high) else f"interval {NOT_AVAILABLE}"


def margin(value: Any, low: Any, high: Any) -> str:
    """Return a difference of accuracies in percentage points with its interval."""
    if not known(value):
        return NOT_AVAILABLE
    return f"{points(value)} ({points(low)} to {points(high)})" if known(low) and known(high) else points(value)


def number(value: Any, digits: int = 2, unit: str = "") -> str:
    """Return a number with thousands set apart, and its unit."""
    if not known(value):
        return NOT_AVAILABLE
    text = f"{value:,.{digits}f}".replace("-", "−")
    return f"{text} {unit}" if unit else text


def text(value: Any) -> str:
    """Return a text as it is."""
    return str(value) if known(value) and str(value) else NOT_AVAILABLE


def plural(value: Any, noun: str) -> str:
    """Return a count with its noun."""
    return f"{value:,} {noun}{'' if value == 1 else 's'}" if known(value) else f"{noun}s: {NOT_AVAILABLE}"


def target_verdict(evaluate: Mapping[str, Any]) -> Verdict:
    """Say whether the target is met, from the scalars of metrics/evaluate.json."""
    label, tone = _VERDICTS.get(evaluate.get("verdict", ""), ("No verdict", "open"))
    low, high, target = (
        evaluate.get(name) for name in ("pairwise_accuracy_ci_low", "pairwise_accuracy_ci_high", "target_accuracy")
    )
    if not (known(low) and known(high) and known(target)):
        return Verdict(label, tone, f"The interval is {NOT_AVAILABLE}, so the target cannot be judged.")
    assert low is not None
    assert high is not None
    assert target is not None
    span = f"The {percent(evaluate.get('confidence', 0.95), 0)} interval, {percent(low)} to {percent(high)},"
    aim = f"the target of {percent(target, 0)}"
    if low >= target:
        sentence = f"{span} lies wholly at or above {aim}"
        sentence += ", but the sample is too small to rely on it." if tone == "open" else "."
    elif high < target:
        sentence = f"{span} lies wholly below {aim}."
    else:
        sentence = f"{span} holds {aim}: this test split cannot tell whether it is reached."
    return Verdict(label, tone, sentence)


def small_sample_warning(evaluate: Mapping[str, Any]) -> str | None:
    """Say how small the test split is, where it is too small for its interval to be taken at its word."""
    if not evaluate.get("small_sample"):
        return None
    return (
        f"Small sample: {plural(evaluate.get('n_images'), 'image')} in {plural(evaluate.get('n_groups'), 'group')}, "
        f"{number(evaluate.get('min_groups_in_tier'), 0)} in the tier that has fewest. "
        "The interval is a rough one, and the verdict is at best undecided."
    )


def against(name: str, margin: Any, low: Any, high: Any, *, small_sample: bool = False) -> str:
    """Compare the model with `name`, given its margin (a difference of accuracies) and the bounds of that."""
    if not (known(margin) and known(low) and known(high)):
        return f"How far the model is above {name} is {NOT_AVAILABLE}."
    words = {
        "better": f"The model is above {name} beyond noise",
        "worse": f"The model is below {name} beyond noise",
        "within noise": f"The model is within noise of {name}: no gain over it is shown",
    }[comparison(Interval(low, high, small_sample))]
    return f"{words} (difference {points(margin)} points, interval {points(low)} to {points(high)})."


def models_evaluated(count: int) -> str:
    """Say how many models have been judged on this test split, from 0, when the page was made."""
    if count == 0:
        return "How many models have been judged on this test split is not known here: this copy has no record of any."
    if count == 1:
        return "The only model so far that was judged on this test split."
    return (
        f"{count:,} models have been evaluated on this test split so far. The best of many looks better than it is: "
        "choose by validation accuracy."
    )
