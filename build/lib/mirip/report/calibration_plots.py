"""Whether the model knows when it is sure, as inline SVG: reliability, and accuracy against coverage."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mirip.report.formatting import percent
from mirip.report.svg import INK, MODEL, MUTED, TARGET, drawn, figure_of, percent_axis

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@drawn("reliability", "Share of right answers by stated probability")
def reliability_svg(reliability: pd.DataFrame) -> "Figure":
    """Draw how often the model is right against how sure it says it is; the diagonal is perfect calibration.

    Args:
        reliability: columns confidence, accuracy (fractions; NaN in an empty bin), n_pairs, and low, high: where a
            perfectly calibrated model's accuracy lies at this size (NaN where that is not known).
    """
    figure, axes = figure_of(2.9)
    rows = reliability[reliability["n_pairs"] > 0].dropna(subset=["confidence", "accuracy"])
    names = ("confidence", "accuracy", "n_pairs", "low", "high")
    confidence, accuracy, n_pairs, low, high = (rows[name].to_numpy(float) for name in names)
    bottom = min(0.5, float(accuracy.min(initial=0.5)), float(np.nanmin(low, initial=0.5)))
    axes.plot([0.5, 1], [0.5, 1], color=TARGET, linewidth=1.2, linestyle=(0, (4, 3)), zorder=0)
    if (known := np.isfinite(low) & np.isfinite(high)).any():
        axes.fill_between(confidence[known], low[known], high[known], color=TARGET, alpha=0.14, linewidth=0, zorder=0)
    axes.annotate(
        "perfectly\ncalibrated",
        (1, bottom),
        xytext=(0, 4),
        textcoords="offset points",
        ha="right",
        va="bottom",
        color=TARGET,
        fontsize=8.5,
    )
    axes.plot(confidence, accuracy, color=MODEL, linewidth=1.2, alpha=0.6)
    area = 18 + 90 * n_pairs / max(n_pairs.max(initial=1), 1)
    axes.scatter(confidence, accuracy, s=area, color=MODEL, alpha=0.85, linewidths=0)
    axes.set(xlim=(0.49, 1.01), ylim=(bottom - 0.03, 1.03), xlabel="stated probability", ylabel="share that was right")
    percent_axis(axes.xaxis, 0.49, 1.01)
    percent_axis(axes.yaxis, bottom - 0.03, 1.03)
    return figure


@drawn("coverage", "Accuracy by share of pairs that the model calls")
def coverage_svg(coverage: pd.DataFrame, min_confidence: float | None = None) -> "Figure":
    """Draw how accuracy rises when pairs that are too close to call are left open.

    Args:
        coverage: columns min_confidence, coverage, accuracy (fractions), a row for each least confidence.
        min_confidence: the one in force, which is set off from the others.
    """
    figure, axes = figure_of(2.9)
    rows = coverage.sort_values("coverage", ascending=False)
    confidence, called, accuracy = (rows[name].to_numpy(float) for name in ("min_confidence", "coverage", "accuracy"))
    low, high = float(accuracy.min(initial=0.95)), float(accuracy.max(initial=0.5))
    bottom, top = low - 0.03, min(high + 0.04, 1.03)
    axes.plot(called, accuracy, color=MODEL, linewidth=1.8, marker="o", markersize=4)
    ours = np.isclose(confidence, np.nan if min_confidence is None else min_confidence)
    axes.plot(called[ours], accuracy[ours], "o", color=TARGET, markersize=8, zorder=3)
    every = max(1, len(rows) // 4)
    for place in range(len(rows)):
        if ours[place] or (place % every == 0 and not ours[max(place - 1, 0) : place + 2].any()):
            axes.annotate(
                f"≥ {percent(confidence[place], 0)}" if confidence[place] > 0.5 else "all",
                (called[place], accuracy[place]),
                xytext=(5, 3),
                textcoords="offset points",
                color=TARGET if ours[place] else MUTED,
                fontweight="bold" if ours[place] else "normal",
                fontsize=8.5,
            )
    if not len(rows):
        axes.text(0.5, 0.5, "no pairs", ha="center", va="center", transform=axes.transAxes, color=INK)
    axes.set(
        xlim=(-0.03, 1.12), ylim=(bottom, top), xlabel="share of pairs called", ylabel="share of those that is right"
    )
    percent_axis(axes.xaxis, 0, 1)
    percent_axis(axes.yaxis, bottom, top)
    return figure
