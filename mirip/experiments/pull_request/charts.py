"""Charts of both revisions as fenced Mermaid, which GitHub draws: a comment cannot hold images of its own."""

import math
from collections.abc import Sequence

import pandas as pd

from mirip.experiments.pull_request.revision import Revision

# Two colours that colour-blind readers can tell apart, on a light page and on a dark one.
_BEFORE, _AFTER = "#e07b00", "#3b82f6"
_MOST_EPOCHS = 20
_SPANS = (10, 20, 40, 50, 100)  # which Mermaid divides into so many ticks that they do not overlap


def charts(before: Revision, after: Revision) -> list[str]:
    """Return the charts of what changed, each with its heading."""
    curves, pairs = _curves(before, after), _tier_pairs(before, after)
    return [chart for chart in (curves, pairs) if chart]


def _curves(before: Revision, after: Revision) -> str:
    old, new = (_known(revision.curves, "val_pairwise_accuracy") for revision in (before, after))
    if new is None or (old is not None and old.tolist() == new.tolist()):
        return ""
    lines = [values for values in (old, new) if values is not None]
    longest = max(map(len, lines))
    step = math.ceil(longest / _MOST_EPOCHS)
    shown = [_percent(values.iloc[::step]) for values in lines]
    low, high = _axis([value for line in shown for value in line])
    both = old is not None
    return _chart(
        f"**Validation pairwise accuracy by epoch, %**: {'orange before, ' if both else ''}blue after",
        [_BEFORE, _AFTER] if both else [_AFTER],
        [
            f'x-axis "epoch" [{", ".join(str(epoch) for epoch in range(1, longest + 1, step))}]',
            f"y-axis {low} --> {high}",
            *(f"line {_numbers(line)}" for line in shown),
        ],
    )


def _tier_pairs(before: Revision, after: Revision) -> str:
    old, new = (_known(revision.tier_pairs, "accuracy") for revision in (before, after))
    if new is None or (old is not None and old.tolist() == new.tolist()):
        return ""
    assert after.tier_pairs is not None
    names = [str(name) for name in after.tier_pairs["pair"]]
    quoted = ['"{}"'.format(name.replace('"', "'")) for name in names]
    both = before.tier_pairs is not None and old is not None and before.tier_pairs["pair"].tolist() == names
    return _chart(
        f"**Test accuracy by tier pair, %**: {'orange line before, blue bars after' if both else 'blue after'}",
        [_AFTER, _BEFORE],
        [
            f"x-axis [{', '.join(quoted)}]",
            "y-axis 0 --> 100",
            f"bar {_numbers(_percent(new))}",
            *([f"line {_numbers(_percent(old))}"] if both and old is not None else []),
        ],
    )


def _known(table: pd.DataFrame | None, column: str) -> pd.Series | None:
    """Return a column of numbers; None where a number is missing, which Mermaid cannot draw."""
    if table is None or column not in table or table.empty:
        return None
    values = pd.to_numeric(table[column], errors="coerce")
    return None if values.isna().any() else values


def _chart(heading: str, colours: Sequence[str], lines: Sequence[str]) -> str:
    size = '"xyChart": {"width": 700, "height": 300}'
    palette = f'"themeVariables": {{"xyChart": {{"plotColorPalette": "{", ".join(colours)}"}}}}'
    body = "\n".join(f"  {line}" for line in lines)
    return f"{heading}\n\n```mermaid\n%%{{init: {{{size}, {palette}}}}}%%\nxychart-beta\n{body}\n```"


def _axis(values: Sequence[float]) -> tuple[int, int]:
    """Return bounds in percent that hold the values, at round numbers."""
    low, high = 10 * math.floor(min(values) / 10), 10 * math.ceil(max(values) / 10)
    span = next(span for span in _SPANS if span >= high - low)
    low = max(0, min(low, high - span))
    return low, low + (span or 10)


def _percent(values: pd.Series) -> list[float]:
    return [round(100 * float(value), 1) for value in values]


def _numbers(values: Sequence[float]) -> str:
    return f"[{', '.join(f'{value:g}' for value in values)}]"
