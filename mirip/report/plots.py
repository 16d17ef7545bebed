"""The drawings of the page as inline SVG: accuracy, scores, calibration and the course of the training."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mirip.report.formatting import percent
from mirip.report.svg import (
    GRID,
    INK,
    MODEL,
    MUTED,
    OTHER,
    TARGET,
    above,
    drawn,
    figure_of,
    figures,
    percent_axis,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@drawn("baselines", "Pairwise accuracy of each model with its interval")
def baselines_svg(baselines: pd.DataFrame, target: float, *, model: str = "mirip") -> "Figure":
    """Draw the pairwise accuracy of each model on one split, the last row on top, with its interval.

    Args:
        baselines: columns model (str), pairwise_accuracy, ci_low, ci_high (fractions; NaN where unknown).
        target: the required accuracy, a fraction.
        model: the row that is set off from the others.
    """
    rows = baselines.iloc[::-1].reset_index(drop=True)
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
    """Draw how often the better tier's artwork is ranked higher, for every pair of tiers.

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


@drawn("scores-by-tier", "Scores of the test artworks by tier")
def scores_by_tier_svg(tier: ArrayLike, score: ArrayLike, tiers: Sequence[str], *, max_points: int = 150) -> "Figure":
    """Draw the scores of each tier: single artworks as dots, the middle half as a bar, the median as a line.

    Args:
        tier: (N,) names.
        score: (N,) scores, higher is better.
        tiers: names, best first.
        max_points: a larger tier shows so many of its artworks, evenly spaced in rank.
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
        min_confidence: the one that the result uses, which is set off from the others.
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
        xlim=(-0.03, 1.12), ylim=(bottom, top), xlabel="share of pairs called", ylabel="share of those that are right"
    )
    percent_axis(axes.xaxis, 0, 1)
    percent_axis(axes.yaxis, bottom, top)
    return figure


@drawn("curves", "Loss and pairwise accuracy by epoch")
def curves_svg(curves: pd.DataFrame, best_epoch: int | None) -> "Figure":
    """Draw loss and pairwise accuracy by epoch, of the training and the validation split.

    Args:
        curves: columns epoch, train_loss, val_loss, train_pairwise_accuracy, val_pairwise_accuracy.
        best_epoch: the epoch whose weights were kept.
    """
    figure, (loss, accuracy) = figures(3.5, 2)
    epoch = curves["epoch"].to_numpy(float)
    for axes, column, title in ((loss, "loss", "loss"), (accuracy, "pairwise_accuracy", "pairwise accuracy")):
        ends = {}
        for split, colour in (("train", OTHER), ("val", MODEL)):
            values = curves[f"{split}_{column}"].to_numpy(float)
            axes.plot(epoch, values, color=colour, marker="o" if len(epoch) == 1 else None, markersize=4)
            ends[split] = values[np.isfinite(values)][-1] if np.isfinite(values).any() else np.nan
        _label_ends(axes, epoch[-1], ends)
        if best_epoch is not None:
            axes.axvline(best_epoch, color=TARGET, linewidth=1.1, linestyle=(0, (4, 3)), zorder=0)
        axes.set_title(title, loc="left", fontsize=9, color=MUTED)
        axes.margins(x=0.02, y=0.12)
        axes.yaxis.set_major_locator(_locator(4))
    if best_epoch is not None:
        right = best_epoch > epoch.mean()
        above(loss, best_epoch, f"kept: epoch {best_epoch}", TARGET, "right" if right else "left")
    low, high = accuracy.get_ylim()
    percent_axis(accuracy.yaxis, low, high)
    accuracy.set_xlabel("epoch")
    accuracy.xaxis.set_major_locator(_locator(6, integer=True))
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


def _label_ends(axes: "Axes", x: float, ends: dict[str, float]) -> None:
    """Name two curves at their right end, the higher one above."""
    colours = {"train": MUTED, "val": MODEL}
    words = {"train": "train", "val": "validation"}
    train_above = ends["train"] >= ends["val"]
    for split, value in ends.items():
        if np.isfinite(value):
            up = (split == "train") == train_above
            axes.annotate(
                words[split],
                (x, value),
                xytext=(5, 2 if up else -2),
                textcoords="offset points",
                va="bottom" if up else "top",
                color=colours[split],
                fontsize=8.5,
                annotation_clip=False,
            )


def _locator(n_bins: int, *, integer: bool = False) -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(n_bins, integer=integer)
