"""How often the model is right, next to simpler ones and by tier, and its scores, as inline SVG."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mirip.report.formatting import percent
from mirip.report.svg import GRID, INK, MODEL, MUTED, OTHER, TARGET, above, drawn, figure_of, percent_axis

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@drawn("baselines", "Pairwise accuracy of each model with its interval")
def baselines_svg(ladder: pd.DataFrame, target: float, *, model: str = "mirip") -> "Figure":
    """Draw the pairwise accuracy of each model on one split, best last row on top, with its interval.

    Args:
        ladder: columns model (str), pairwise_accuracy, ci_low, ci_high (fractions; NaN where unknown).
        target: the required accuracy, a fraction.
        model: the row that is set off from the others.
    """
    rows = ladder.iloc[::-1].reset_index(drop=True)
    figure, axes = figure_of(0.62 + 0.42 * len(rows))
    bounds = rows[["pairwise_accuracy", "ci_low", "ci_high"]].to_numpy(float)
    low, high = _limits(np.append(bounds, (0.5, target)))
    axes.axvline(0.5, color=GRID, linewidth=1.2, zorder=0)
    axes.axvline(target, color=TARGET, linewidth=1.2, linestyle=(0, (4, 3)), zorder=0)
    above(axes, target, f"target {percent(target)}", TARGET, "left" if target > 0.5 else "right")
    above(axes, 0.5, "chance", MUTED, "right" if target > 0.5 else "left")
    for place, (accuracy, ci_low, ci_high) in enumerate(bounds):
        ours = rows["model"][place] == model
        colour = MODEL if ours else OTHER
        if np.isfinite([ci_low, ci_high]).all() and ci_high > ci_low:
            axes.plot([ci_low, ci_high], [place, place], color=colour, linewidth=5 if ours else 3.5, alpha=0.35)
        axes.plot(accuracy, place, "o", color=colour, markersize=9 if ours else 7)
        label = percent(accuracy) if np.isfinite(accuracy) else "not available"
        axes.annotate(
            label,
            (1, place),
            xycoords=("axes fraction", "data"),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            color=INK,
            fontweight="bold" if ours else "normal",
        )
    axes.set_yticks(range(len(rows)), [str(name) for name in rows["model"]])
    for text, name in zip(axes.get_yticklabels(), rows["model"], strict=True):
        text.set(color=INK, fontweight="bold" if name == model else "normal")
    axes.set(xlim=(low, high), ylim=(len(rows) - 0.5, -0.6))
    percent_axis(axes.xaxis, low, high)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    return figure


@drawn("tier-pairs", "Pairwise accuracy for every pair of tiers")
def tier_pairs_svg(tier_pairs: pd.DataFrame, tiers: Sequence[str]) -> "Figure":
    """Draw how often the better tier's work is ranked higher, for every pair of tiers.

    Args:
        tier_pairs: columns better, worse (str), n_pairs (int), accuracy (fraction; NaN without pairs).
        tiers: names, best first.
    """
    size = len(tiers) - 1
    figure, axes = figure_of(0.55 + 0.62 * size)
    place = {str(tier): index for index, tier in enumerate(tiers)}
    columns = (tier_pairs[name].tolist() for name in ("better", "worse", "n_pairs", "accuracy"))
    for better, worse, n_pairs, accuracy in zip(*columns, strict=True):
        x, y = place[str(worse)] - 1, place[str(better)]
        known = n_pairs > 0 and np.isfinite(accuracy)
        fill, ink = _shade(accuracy) if known else (GRID, MUTED)
        axes.add_patch(_rectangle(x - 0.475, y - 0.46, 0.95, 0.92, fill))
        label = percent(accuracy) if known else "no pairs"
        axes.text(
            x, y - (0.1 if known else 0), label, ha="center", va="center", color=ink, fontweight="bold", fontsize=10.5
        )
        if known:
            axes.text(x, y + 0.24, f"{n_pairs:,} pairs", ha="center", va="center", color=ink, fontsize=8)
    axes.set_xticks(range(size), [str(tier) for tier in tiers[1:]])
    axes.set_yticks(range(size), [str(tier) for tier in tiers[:-1]])
    axes.xaxis.set_ticks_position("top")
    axes.xaxis.set_label_position("top")
    axes.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5), xlabel="lower tier", ylabel="higher tier")
    axes.tick_params(length=0, labelcolor=INK)
    axes.spines[:].set_visible(False)
    return figure


@drawn("scores-by-tier", "Scores of the test works by tier")
def scores_by_tier_svg(tier: ArrayLike, score: ArrayLike, tiers: Sequence[str], *, max_points: int = 150) -> "Figure":
    """Draw the scores of each tier: single works as dots, the middle half as a bar, the median as a line.

    Args:
        tier: (N,) names.
        score: (N,) scores, higher is better.
        tiers: names, best first.
        max_points: a larger tier shows so many of its works, evenly spaced in rank.
    """
    names, values = np.asarray(tier).astype(str), np.asarray(score, float)
    figure, axes = figure_of(0.55 + 0.52 * len(tiers))
    rng = np.random.default_rng(0)
    for place, name in enumerate(tiers):
        own = np.sort(values[(names == str(name)) & np.isfinite(values)])
        if len(own) == 0:
            continue
        shown = own[np.linspace(0, len(own) - 1, min(len(own), max_points)).round().astype(int)]
        axes.plot(
            shown, place + rng.uniform(-0.27, 0.27, len(shown)), "o", color=OTHER, markersize=3.2, alpha=0.55, mew=0
        )
        first, median, third = np.percentile(own, (25, 50, 75))
        axes.plot([first, third], [place, place], color=MODEL, linewidth=9, alpha=0.3, solid_capstyle="butt")
        axes.plot([median, median], [place - 0.27, place + 0.27], color=MODEL, linewidth=2.4)
    counts = [int((names == str(name)).sum()) for name in tiers]
    axes.set_yticks(range(len(tiers)), [f"{name}  (n {count})" for name, count in zip(tiers, counts, strict=True)])
    axes.set(ylim=(len(tiers) - 0.5, -0.5), xlabel="score (higher is better)")
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.spines["left"].set_visible(False)
    return figure


def _rectangle(x: float, y: float, width: float, height: float, fill: str) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((x, y), width, height, facecolor=fill, linewidth=0)


def _limits(values: np.ndarray) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    return max(float(finite.min()) - 0.03, -0.01), min(float(finite.max()) + 0.03, 1.01)


def _shade(accuracy: float) -> tuple[str, str]:
    """Return fill and ink of a cell: blue above chance, orange below, paler the nearer to it."""
    strength = min(abs(accuracy - 0.5) / 0.5, 1)
    full = np.array((8, 69, 148) if accuracy >= 0.5 else (166, 70, 4))
    pale = np.array((228, 238, 248) if accuracy >= 0.5 else (253, 235, 220))
    red, green, blue = (pale + (full - pale) * strength).round().astype(int)
    return f"#{red:02x}{green:02x}{blue:02x}", "#ffffff" if strength > 0.45 else "#10202f"
