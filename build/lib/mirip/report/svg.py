"""How a matplotlib figure becomes inline SVG for the page: colours, type, and the marks that several drawings share.

Colours stand in the SVG as CSS variables with a light default (`var(--plot-model, #0b5cad)`), so that one drawing
serves a light and a dark page. The palette keeps its contrast for colour-blind readers, and nothing is said by colour
alone: every figure carries its number.
"""

import io
import re
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

P = ParamSpec("P")

WIDTH_IN = 3.8  # so that its type is readable on a phone, where it is drawn about as wide as that

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


def drawn(name: str, title: str) -> "Callable[[Callable[P, Figure]], Callable[P, str]]":
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


def figure_of(height_in: float) -> "tuple[Figure, Axes]":
    """Return a figure as wide as the page's columns, and its axes."""
    figure, axes = figures(height_in, 1)
    return figure, axes[0]


def figures(height_in: float, n_axes: int) -> "tuple[Figure, list[Axes]]":
    """Return a figure of several axes, one below the other, that share what runs to the right."""
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


def above(axes: "Axes", x: float, text: str, colour: str, align: str) -> None:
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


def percent_axis(axis: Any, low: float, high: float) -> None:
    """Give an axis that runs from low to high (fractions) six ticks at most, in percent."""
    from matplotlib.ticker import FixedLocator, FuncFormatter

    spans = (0.01, 0.02, 0.05, 0.1, 0.2)
    step = next((span for span in spans if (high - low) / span <= 6), 0.2)
    ticks = np.arange(np.ceil(low / step - 1e-9), np.floor(high / step + 1e-9) + 1) * step + 0.0  # never -0 %
    axis.set_major_locator(FixedLocator(ticks.tolist()))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * 100:.0f} %"))
