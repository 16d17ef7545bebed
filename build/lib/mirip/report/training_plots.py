"""The course of a training as inline SVG."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mirip.report.svg import MODEL, MUTED, OTHER, TARGET, above, drawn, figures, percent_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


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
        above(loss, best_epoch, f"kept: epoch {best_epoch}", TARGET, "right" if right else "left")
    low, high = accuracy.get_ylim()
    percent_axis(accuracy.yaxis, low, high)
    accuracy.set_xlabel("epoch")
    accuracy.xaxis.set_major_locator(_locator(6, integer=True))
    return figure


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


def _locator(n_bins: int, *, integer: bool = False) -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(n_bins, integer=integer)
