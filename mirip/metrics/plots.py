"""Plots as inline SVG: functions of arrays, equal bytes for equal values.

Colours stand in the SVG as CSS variables with a light default (`var(--plot-model, #0b5cad)`), so that one drawing
serves a light and a dark page. The palette keeps its contrast for colour-blind readers, and nothing is said by colour
alone: every figure carries its number.
"""

import io
import re
from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

P = ParamSpec("P")

WIDTH_IN = 4.3

# Each stands for a CSS variable: matplotlib draws with the hexadecimal value, `_svg` puts the variable in its place.
INK, MUTED, GRID, SURFACE = "#1b2530", "#5d6975", "#dde2e7", "#fffffe"
MODEL, OTHER, TARGET = "#0b5cad", "#8593a1", "#b4540a"
_VARIABLES = {
    INK: "--plot-ink",
    MUTED: "--plot-muted",
    GRID: "--plot-grid",
    SURFACE: "--plot-surface",
    MODEL: "--plot-model",
    OTHER: "--plot-other",
    TARGET: "--plot-target",
}

_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",  # real text: small, selectable, read aloud
    "text.parse_math": False,  # a tier may be named "$"
    "font.family": "sans-serif",
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "axes.unicode_minus": True,
}


def _drawn(name: str, title: str) -> "Callable[[Callable[P, Figure]], Callable[P, str]]":
    """Turn a function that draws a figure into one that returns it as an `<svg>` element, named for the page."""

    def decorate(draw: "Callable[P, Figure]") -> Callable[P, str]:
        @wraps(draw)
        def plot(*arguments: P.args, **named: P.kwargs) -> str:
            import matplotlib as mpl

            style: Any = _STYLE | {"svg.hashsalt": name}
            with mpl.rc_context(style):
                return _svg(draw(*arguments, **named), name, title)

        return plot

    return decorate


@_drawn("ladder", "Pairwise accuracy of each model with its interval")
def ladder_svg(ladder: pd.DataFrame, target: float, *, model: str = "mirip") -> "Figure":
    """Draw the pairwise accuracy of each model on one split, best last row on top, with its interval.

    Args:
        ladder: columns model (str), pairwise_accuracy, ci_low, ci_high (fractions; NaN where unknown).
        target: the required accuracy, a fraction.
        model: the row that is set off from the others.
    """
    rows = ladder.iloc[::-1].reset_index(drop=True)
    figure, axes = _figure(0.62 + 0.42 * len(rows))
    bounds = rows[["pairwise_accuracy", "ci_low", "ci_high"]].to_numpy(float)
    low, high = _limits(np.append(bounds, (0.5, target)))
    axes.axvline(0.5, color=GRID, linewidth=1.2, zorder=0)
    axes.axvline(target, color=TARGET, linewidth=1.2, linestyle=(0, (4, 3)), zorder=0)
    _above(axes, target, f"target {_percent(target)}", TARGET, "left" if target > 0.5 else "right")
    _above(axes, 0.5, "chance", MUTED, "right" if target > 0.5 else "left")
    for place, (accuracy, ci_low, ci_high) in enumerate(bounds):
        ours = rows["model"][place] == model
        colour = MODEL if ours else OTHER
        if np.isfinite([ci_low, ci_high]).all() and ci_high > ci_low:
            axes.plot([ci_low, ci_high], [place, place], color=colour, linewidth=5 if ours else 3.5, alpha=0.35)
        axes.plot(accuracy, place, "o", color=colour, markersize=9 if ours else 7)
        label = _percent(accuracy) if np.isfinite(accuracy) else "not available"
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
    _percent_axis(axes.xaxis, low, high)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    return figure


@_drawn("tier-pairs", "Pairwise accuracy for every pair of tiers")
def tier_pairs_svg(tier_pairs: pd.DataFrame, tiers: Sequence[str]) -> "Figure":
    """Draw how often the better tier's work is ranked higher, for every pair of tiers.

    Args:
        tier_pairs: columns better, worse (str), n_pairs (int), accuracy (fraction; NaN without pairs).
        tiers: names, best first.
    """
    size = len(tiers) - 1
    figure, axes = _figure(0.55 + 0.62 * size)
    place = {str(tier): index for index, tier in enumerate(tiers)}
    columns = (tier_pairs[name].tolist() for name in ("better", "worse", "n_pairs", "accuracy"))
    for better, worse, n_pairs, accuracy in zip(*columns, strict=True):
        x, y = place[str(worse)] - 1, place[str(better)]
        known = n_pairs > 0 and np.isfinite(accuracy)
        fill, ink = _shade(accuracy) if known else (GRID, MUTED)
        axes.add_patch(_rectangle(x - 0.475, y - 0.46, 0.95, 0.92, fill))
        label = _percent(accuracy) if known else "no pairs"
        axes.text(
            x, y - (0.1 if known else 0), label, ha="center", va="center", color=ink, fontweight="bold", fontsize=10.5
        )
        if known:
            axes.text(x, y + 0.24, f"{n_pairs:,} pairs", ha="center", va="center", color=ink, fontsize=7.5)
    axes.set_xticks(range(size), [str(tier) for tier in tiers[1:]])
    axes.set_yticks(range(size), [str(tier) for tier in tiers[:-1]])
    axes.xaxis.set_ticks_position("top")
    axes.xaxis.set_label_position("top")
    axes.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5), xlabel="lower tier", ylabel="higher tier")
    axes.tick_params(length=0, labelcolor=INK)
    axes.spines[:].set_visible(False)
    return figure


@_drawn("scores-by-tier", "Scores of the test works by tier")
def scores_by_tier_svg(tier: ArrayLike, score: ArrayLike, tiers: Sequence[str], *, max_points: int = 150) -> "Figure":
    """Draw the scores of each tier: single works as dots, the middle half as a bar, the median as a line.

    Args:
        tier: (N,) names.
        score: (N,) scores, higher is better.
        tiers: names, best first.
        max_points: a larger tier shows so many of its works, evenly spaced in rank.
    """
    names, values = np.asarray(tier).astype(str), np.asarray(score, float)
    figure, axes = _figure(0.55 + 0.52 * len(tiers))
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


@_drawn("curves", "Loss and pairwise accuracy by epoch")
def curves_svg(curves: pd.DataFrame, best_epoch: int | None) -> "Figure":
    """Draw loss and pairwise accuracy by epoch, of the training and the validation side.

    Args:
        curves: columns epoch, train_loss, val_loss, train_pairwise_accuracy, val_pairwise_accuracy.
        best_epoch: the epoch whose weights were kept.
    """
    figure, (loss, accuracy) = _figures(3.5, 2)
    epoch = curves["epoch"].to_numpy(float)
    for axes, column, title in ((loss, "loss", "loss"), (accuracy, "pairwise_accuracy", "pairwise accuracy")):
        ends = {}
        for side, colour in (("train", OTHER), ("val", MODEL)):
            values = curves[f"{side}_{column}"].to_numpy(float)
            axes.plot(epoch, values, color=colour, marker="o" if len(epoch) == 1 else None, markersize=4)
            ends[side] = values[np.isfinite(values)][-1] if np.isfinite(values).any() else np.nan
        _label_ends(axes, epoch[-1], ends)
        if best_epoch is not None:
            axes.axvline(best_epoch, color=TARGET, linewidth=1.1, linestyle=(0, (4, 3)), zorder=0)
        axes.set_title(title, loc="left", fontsize=9, color=MUTED)
        axes.margins(x=0.02, y=0.12)
        axes.yaxis.set_major_locator(_locator(4))
    if best_epoch is not None:
        right = best_epoch > epoch.mean()
        _above(loss, best_epoch, f"kept: epoch {best_epoch}", TARGET, "right" if right else "left")
    low, high = accuracy.get_ylim()
    _percent_axis(accuracy.yaxis, low, high)
    accuracy.set_xlabel("epoch")
    accuracy.xaxis.set_major_locator(_locator(6, integer=True))
    return figure


@_drawn("reliability", "Share of right answers by stated probability")
def reliability_svg(reliability: pd.DataFrame) -> "Figure":
    """Draw how often the model is right against how sure it says it is; the diagonal is perfect calibration.

    Args:
        reliability: columns confidence, accuracy (fractions; NaN in an empty bin), n_pairs.
    """
    figure, axes = _figure(3.0)
    rows = reliability[reliability["n_pairs"] > 0].dropna(subset=["confidence", "accuracy"])
    confidence, accuracy, n_pairs = (rows[name].to_numpy(float) for name in ("confidence", "accuracy", "n_pairs"))
    low = min(0.5, float(accuracy.min(initial=0.5)))
    axes.plot([0.5, 1], [0.5, 1], color=TARGET, linewidth=1.2, linestyle=(0, (4, 3)), zorder=0)
    axes.annotate(
        "perfectly\ncalibrated", (0.84, 0.84), xytext=(16, -18), textcoords="offset points", color=TARGET, fontsize=8.5
    )
    axes.plot(confidence, accuracy, color=MODEL, linewidth=1.2, alpha=0.6)
    area = 18 + 120 * n_pairs / max(n_pairs.max(initial=1), 1)
    axes.scatter(confidence, accuracy, s=area, color=MODEL, alpha=0.85, linewidths=0)
    axes.set(xlim=(0.49, 1.01), ylim=(low - 0.03, 1.03), xlabel="stated probability", ylabel="share that was right")
    _percent_axis(axes.xaxis, 0.49, 1.01)
    _percent_axis(axes.yaxis, low - 0.03, 1.03)
    return figure


def _figure(height_in: float) -> "tuple[Figure, Axes]":
    figure, axes = _figures(height_in, 1)
    return figure, axes[0]


def _figures(height_in: float, n_axes: int) -> "tuple[Figure, list[Axes]]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
    axes = figure.subplots(n_axes, 1, sharex=n_axes > 1, squeeze=False)[:, 0]
    return figure, list(axes)


def _svg(figure: "Figure", name: str, title: str) -> str:
    """Return the figure as an `<svg>` element that may stand beside others in one page."""
    stream = io.StringIO()
    metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(stream, format="svg", metadata=metadata, transparent=True)
    text = stream.getvalue()
    text = text[text.index("<svg") :].rstrip()
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r'<svg [^>]*viewBox="([^"]*)"[^>]*>', _opening(title), text, count=1)
    text = re.sub(
        r"<defs>\s*<style.*?</style>\s*</defs>\s*", "", text, count=1, flags=re.DOTALL
    )  # it would style the page
    text = re.sub(r"font-family: [^;\"]*(; ?)?", "", text)  # the page's own
    text = re.sub(r'(\bid="|url\(#|xlink:href="#)', rf"\g<1>{name}-", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var({variable}, {colour})")
    return text + "\n"


def _opening(title: str) -> str:
    return (
        '<svg class="plot" xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        rf'viewBox="\1" role="img" aria-label="{title}" stroke-linejoin="round">'
    )


def _above(axes: "Axes", x: float, text: str, colour: str, align: str) -> None:
    """Write beside a vertical line, above the drawing."""
    offset = {"left": 3, "right": -3}[align]
    axes.annotate(
        text,
        (x, 1),
        xycoords=("data", "axes fraction"),
        xytext=(offset, 1),
        textcoords="offset points",
        ha=align,
        va="bottom",
        color=colour,
        fontsize=8.5,
    )


def _label_ends(axes: "Axes", x: float, ends: dict[str, float]) -> None:
    """Name two curves at their right end, the higher one above."""
    colours = {"train": MUTED, "val": MODEL}
    words = {"train": "train", "val": "validation"}
    train_above = ends["train"] >= ends["val"]
    for side, value in ends.items():
        if np.isfinite(value):
            up = (side == "train") == train_above
            axes.annotate(
                words[side],
                (x, value),
                xytext=(5, 2 if up else -2),
                textcoords="offset points",
                va="bottom" if up else "top",
                color=colours[side],
                fontsize=8.5,
                annotation_clip=False,
            )


def _percent_axis(axis: Any, low: float, high: float) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter

    spans = (0.01, 0.02, 0.05, 0.1, 0.2)
    step = next((span for span in spans if (high - low) / span <= 6), 0.2)
    ticks = np.arange(np.ceil(low / step - 1e-9), np.floor(high / step + 1e-9) + 1) * step
    axis.set_major_locator(FixedLocator(ticks.tolist()))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * 100:.0f} %"))


def _locator(n_bins: int, *, integer: bool = False) -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(n_bins, integer=integer)


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


def _percent(fraction: float) -> str:
    return f"{fraction * 100:.1f} %"
