"""Tables of what changed: params, figures with their intervals, speed."""

from collections.abc import Mapping
from typing import Any

from mirip.experiments.pull_request.markdown import code, table
from mirip.experiments.pull_request.revision import Side
from mirip.report import formatting as fmt

_SAME = "same"
_HEAD = ("before", "after", "change")
# What a reviewer looks at first: stage, name, label, and how it is written.
_HEADLINES = (
    ("train", "val_pairwise_accuracy", "Validation pairwise accuracy", "share"),
    ("evaluate", "pairwise_accuracy", "Test pairwise accuracy", "share"),
    ("evaluate", "pairwise_accuracy_macro", "… every tier pair alike", "share"),
    ("evaluate", "pairwise_accuracy_within_context", "… within one context", "share"),
    ("evaluate", "verdict", "Target", "text"),
    ("evaluate", "margin_over_ridge", "Margin over ridge regression", "points"),
    ("audit", "margin_over_shortcut", "Margin over the best shortcut", "points"),
    ("audit", "best_shortcut", "Best shortcut", "text"),
    ("audit", "n_findings", "Findings of the audit", "number"),
    ("evaluate", "kendall_tau_b", "Kendall τ-b", "number"),
    ("evaluate", "ece", "Calibration error (ECE)", "number"),
    ("evaluate", "brier", "Brier score", "number"),
)
_SPEED = (
    ("pair_latency_ms_p50", "One pair, from decoded pixels, p50, ms"),
    ("pair_latency_ms_p95", "… p95, ms"),
    ("pair_latency_ms_p99", "… p99, ms"),
    ("pair_latency_from_file_ms_p50", "One pair, from file bytes, p50, ms"),
    ("pair_latency_cached_ms_p50", "One pair, from cached features, p50, ms"),
    ("images_per_second", "Images per second"),
    ("peak_memory_gib_batch_32", "GPU memory at batch 32, GiB"),
    ("train_seconds_10k", "Training on 10,000 images, s"),
)


def params_table(changed: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Return the params that changed, from what `dvc params diff --json` says by file; empty where none did."""
    rows = [
        (code(name), *(code(values[side]) if side in values else "" for side in ("old", "new")))
        for _, params in sorted(changed.items())
        for name, values in sorted(params.items())
    ]
    return table(("param", *_HEAD[:2]), rows) if rows else ""


def headline_table(before: Side, after: Side, *, same_test_split: bool) -> str:
    """Return the figures that a reviewer looks at first, intervals beside them; empty where none has changed.

    A figure of the test split is subtracted only where both sides were judged on the same works, and one of the
    validation split only where the split is the same.
    """
    comparable = {"train": _same_split(before, after), "evaluate": same_test_split, "audit": True}
    rows = []
    for stage, name, label, style in _HEADLINES:
        old, new = (side.metrics[stage] for side in (before, after))
        if not (fmt.known(old.get(name)) or fmt.known(new.get(name))):
            continue
        change = _change(old.get(name), new.get(name), style, comparable=comparable[stage])
        rows.append((label, _cell(old, name, style), _cell(new, name, style), change))
    return table(("figure", *_HEAD), rows) if any(row[3] != _SAME for row in rows) else ""


def other_figures(before: Side, after: Side) -> str:
    """Return every other figure that changed, by its name in metrics/; empty where none did."""
    shown = {(stage, name) for stage, name, _, _ in _HEADLINES}
    rows = []
    for stage, new in after.metrics.items():
        old = before.metrics[stage]
        for name in () if stage == "benchmark" else {**old, **new}:
            if (stage, name.removesuffix("_ci_low").removesuffix("_ci_high")) in shown:
                continue
            if name.endswith(("_ci_low", "_ci_high")) or old.get(name) == new.get(name):
                continue
            cells = [_plain_cell(side, name) for side in (old, new)]
            rows.append((code(f"{stage}.{name}"), *cells, _plain_change(old.get(name), new.get(name))))
    return table(("figure", *_HEAD), rows) if rows else ""


def speed(before: Side, after: Side) -> str:
    """Return latency and memory where both were measured on the same hardware, else one line that says why not."""
    old, new = (side.metrics["benchmark"] for side in (before, after))
    if not old or not new:
        missing = " and ".join(side.name for side in (before, after) if not side.metrics["benchmark"])
        return f"Latency and memory are not compared: no measurement on the side of {code(missing)}."
    if old == new:
        return "Latency and memory were not measured again."
    hardware = [f"{side.get('hardware') or 'unknown hardware'} ({side.get('device')})" for side in (old, new)]
    if hardware[0] != hardware[1] or not old.get("hardware"):
        return (
            "Latency and memory are not compared, since the hardware differs: "
            f"before {code(hardware[0])}, after {code(hardware[1])}."
        )
    rows = [
        (label, _speed(old.get(name)), _speed(new.get(name)), _ratio(old.get(name), new.get(name)))
        for name, label in _SPEED
        if fmt.known(old.get(name)) or fmt.known(new.get(name))
    ]
    return f"{table(('speed', *_HEAD), rows)}\n\nOne measurement each, on {code(hardware[0])}."


def _same_split(before: Side, after: Side) -> bool:
    old, new = (side.metrics["split"].get("digest") for side in (before, after))
    return old is not None and old == new


def _cell(values: Mapping[str, Any], name: str, style: str) -> str:
    value, low, high = (values.get(f"{name}{end}") for end in ("", "_ci_low", "_ci_high"))
    if not fmt.known(value):
        return "–"
    if style == "text":
        return code(value)
    if style == "points":
        return f"{fmt.margin(value, low, high)} points"
    if style == "share":
        interval = f" ({fmt.span(low, high)})".replace(" %", "") if fmt.known(low) and fmt.known(high) else ""
        return f"{fmt.percent(value)}{interval}"
    return str(value) if isinstance(value, int) else fmt.number(value, 3)


def _change(before: Any, after: Any, style: str, *, comparable: bool) -> str:
    if not (fmt.known(before) and fmt.known(after)):
        return ""
    if style == "text":
        return _SAME if before == after else ""
    if not comparable:
        return "not comparable"
    if before == after:
        return _SAME
    return f"{fmt.points(after - before)} points" if style in ("share", "points") else _signed(after - before)


def _signed(value: float) -> str:
    return (f"{value:+d}" if isinstance(value, int) else f"{value:+.2g}").replace("-", "−")


def _plain_cell(values: Mapping[str, Any], name: str) -> str:
    if name not in values:
        return ""
    value, low, high = (values.get(f"{name}{end}") for end in ("", "_ci_low", "_ci_high"))
    interval = f" ({_plain(low)} to {_plain(high)})" if fmt.known(low) and fmt.known(high) else ""
    return f"{_plain(value)}{interval}"


def _plain(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return code(value, longest=24)
    written = f"{value:,}" if isinstance(value, int) else f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"
    return written.replace("-", "−")


def _plain_change(old: Any, new: Any) -> str:
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (old, new))
    return _signed(new - old) if numbers else ""


def _speed(value: Any) -> str:
    return f"{value:,.3g}" if fmt.known(value) else "–"


def _ratio(old: Any, new: Any) -> str:
    return f"× {new / old:.2f}" if fmt.known(old) and fmt.known(new) and old else ""
