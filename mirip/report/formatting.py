"""Values in words. A value that is not known reads "not available", never a number."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mirip.metrics.comparison import BETTER, UNDECIDED, WITHIN_NOISE, WORSE, comparison, comparison_text
from mirip.metrics.intervals import Interval

NOT_AVAILABLE = "not available"

# How a label is coloured: green, amber, red.
Tone = Literal["good", "open", "bad"]


# A verdict on a comparison as a label says it, and the label's tone; `comparison_text` says it as a sentence.
COMPARISONS: dict[str, tuple[str, Tone]] = {
    BETTER: ("better, beyond noise", "good"),
    WORSE: ("worse, beyond noise", "bad"),
    WITHIN_NOISE: ("within noise: no difference is shown", "open"),
    UNDECIDED: ("undecided: too few groups", "open"),
}
_TARGETS: dict[str, tuple[str, Tone]] = {
    "met": ("Target met", "good"),
    "undecided": ("Undecided", "open"),
    "missed": ("Target missed", "bad"),
}


@dataclass(frozen=True)
class TargetVerdict:
    """Whether the target is met: a label, its tone, and one sentence."""

    label: str
    tone: Tone
    sentence: str


def known(value: Any) -> bool:
    """Tell whether there is a value: not None, NaN or infinite."""
    return value is not None and not (isinstance(value, float) and not math.isfinite(value))


def interval_of(values: Mapping[Any, Any], name: str = "", *, small_sample: bool | None = None) -> Interval | None:
    """Return the interval of a metric from flat values or a table's row; None where a bound is not known.

    Args:
        values: with `<name>_ci_low` and `<name>_ci_high`, or `ci_low` and `ci_high` for no name.
        name: of the metric.
        small_sample: whether too few groups are behind it; None: what the values say.
    """
    prefix = f"{name}_" if name else ""
    low, high = values.get(f"{prefix}ci_low"), values.get(f"{prefix}ci_high")
    if low is None or high is None or not (known(low) and known(high)):
        return None
    small = bool(values.get("small_sample")) if small_sample is None else small_sample
    return Interval(float(low), float(high), small)


def percent(value: Any, digits: int = 1) -> str:
    """Return a fraction as a percentage."""
    return f"{value * 100:.{digits}f} %" if known(value) else NOT_AVAILABLE


def points(value: Any) -> str:
    """Return a difference of two fractions in percentage points, with its sign."""
    return f"{value * 100:+.1f}".replace("-", "−") if known(value) else NOT_AVAILABLE


def share_points(value: Any) -> str:
    """Return a spread of fractions in percentage points, which has no sign."""
    return f"{value * 100:.1f} points" if known(value) else NOT_AVAILABLE


def span(interval: Interval | None) -> str:
    """Return the bounds of an interval of fractions."""
    return f"interval {NOT_AVAILABLE}" if interval is None else f"{percent(interval.low)} to {percent(interval.high)}"


def margin(value: Any, interval: Interval | None) -> str:
    """Return a difference of accuracies in percentage points with its interval."""
    if interval is None or not known(value):
        return points(value)
    return f"{points(value)} ({points(interval.low)} to {points(interval.high)})"


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


def sentence(text: str) -> str:
    """Return a text, such as the problem of an error, as a sentence."""
    return f"{text[:1].upper()}{text[1:]}."


def target_verdict(evaluate: Mapping[str, Any]) -> TargetVerdict:
    """Say whether the target is met, from the scalars of metrics/evaluate.json."""
    label, tone = _TARGETS.get(evaluate.get("verdict", ""), ("No verdict", "open"))
    fair = evaluate.get("verdict_on") == "within_context"
    name = "pairwise_accuracy_within_context" if fair else "pairwise_accuracy"
    interval, target = interval_of(evaluate, name), evaluate.get("target_accuracy")
    if interval is None or target is None or not known(target):
        return TargetVerdict(label, tone, f"The interval is {NOT_AVAILABLE}, so there is no verdict on the target.")
    which = " of the accuracy within one context" if fair else ""
    said = f"The {percent(evaluate.get('confidence', 0.95), 0)} interval{which}, {span(interval)},"
    aim = f"the target of {percent(target, 0)}"
    if interval.low >= target or interval.high < target:
        said += f" lies wholly {'at or above' if interval.low >= target else 'below'} {aim}"
        # Such an interval decides, unless so few groups are behind it that its bounds are rough.
        said += ", but the sample is too small to rely on it." if tone == "open" else "."
    else:
        said += f" holds {aim}: this test split cannot tell whether it is reached."
    return TargetVerdict(label, tone, said)


def small_sample_warning(evaluate: Mapping[str, Any], audit: Mapping[str, Any]) -> str | None:
    """Say how small the test split is, where it is too small for a verdict, and what is known out of fold."""
    if not evaluate.get("small_sample"):
        return None
    return (
        f"Small sample: {plural(evaluate.get('n_images'), 'image')} in {plural(evaluate.get('n_groups'), 'group')}, "
        f"{number(evaluate.get('min_groups_in_tier'), 0)} in the tier that has fewest. "
        f"The interval is a rough one, and no verdict is given on it. {out_of_fold(audit)}"
    ).rstrip()


def decisive_out_of_fold(audit: Mapping[str, Any]) -> str:
    """Name the accuracy that the verdict out of fold is on: within one context, where there are several."""
    within = "out_of_fold_accuracy_within_context"
    return within if within in audit else "out_of_fold_accuracy"


def out_of_fold(audit: Mapping[str, Any]) -> str:
    """Say the accuracy out of fold, its interval and its verdict, from metrics/audit.json; nothing without them."""
    name = decisive_out_of_fold(audit)
    accuracy, interval = audit.get(name), interval_of(audit, name)
    if interval is None or not known(accuracy):
        return ""
    images, groups = (plural(audit.get(f"n_{what}s"), what) for what in ("image", "group"))
    within = "" if name == "out_of_fold_accuracy" else "within one context "
    verdict = f": target {audit['out_of_fold_verdict']}" if audit.get("out_of_fold_verdict") else ""
    return (
        f"Over all {images} in {groups}, each scored by a model that saw none of its group, the accuracy {within}is "
        f"{percent(accuracy)} ({span(interval)}){verdict}."
    )


def against(name: str, margin: Any, interval: Interval | None) -> str:
    """Compare the model with `name`, given its margin (a difference of accuracies) and the interval of that."""
    if interval is None or not known(margin):
        return f"How far the model is above {name} is {NOT_AVAILABLE}."
    said = comparison_text(comparison(interval), "the model", name)
    bounds = f"{points(interval.low)} to {points(interval.high)}"
    return sentence(f"{said} (difference {points(margin)} points, interval {bounds})")
