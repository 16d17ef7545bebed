"""Simple statistics of an image: what a ranker could lean on without seeing any art.

To add one, write a function of `Pixels` and list it in `STATISTICS`. The manifest then has a column of that name, and
the audit a predictor of its own. The value of every image changes nothing else.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mirip.data.pixels import shrink

LONGEST_PX = 512
EDGE_THRESHOLD = 0.1
# Rec. 601, as in Pillow's conversion to grey.
_LUMA_WEIGHTS = np.array([0.299, 0.587, 0.114], dtype=np.float32)
# The gradient that scipy's Sobel kernel gives at a step from black to white.
_SOBEL_FULL_STEP = 4.0
_FRAME = 0.05  # of the shorter side
_CORNER = 0.15  # of each side


@dataclass(frozen=True)
class Pixels:
    """What the statistics of one image are computed from, each array once.

    Attributes:
        rgb: float32 of shape (h, w, 3), 0 to 255, a copy of at most 512 pixels.
    """

    rgb: np.ndarray

    @cached_property
    def luma(self) -> np.ndarray:
        """Brightness of each pixel as the eye weighs the colours, float32 of shape (h, w), 0 to 1."""
        luma: np.ndarray = self.rgb @ _LUMA_WEIGHTS / 255
        return luma

    @cached_property
    def frame(self) -> np.ndarray:
        """Whether a pixel is in the outer frame, bool of shape (h, w); of a tiny image all are."""
        height, width = self.luma.shape
        band = max(1, round(_FRAME * min(height, width)))
        frame = np.ones((height, width), dtype=bool)
        frame[band : height - band, band : width - band] = False
        return frame


def brightness(pixels: Pixels) -> float:
    """Return the mean luma, 0 to 1."""
    return float(pixels.luma.mean(dtype=np.float64))


def contrast(pixels: Pixels) -> float:
    """Return the standard deviation of luma, 0 to 0.5."""
    return float(pixels.luma.std(dtype=np.float64))


def colourfulness(pixels: Pixels) -> float:
    """Return the colourfulness of Hasler and Suesstrunk (2003), "Measuring colourfulness in natural images".

    It is 0 for grey and around 100 for extremely colourful:
    rg = R - G, yb = (R + G) / 2 - B; sqrt(s_rg^2 + s_yb^2) + 0.3 sqrt(m_rg^2 + m_yb^2).
    """
    red, green, blue = pixels.rgb[..., 0], pixels.rgb[..., 1], pixels.rgb[..., 2]
    rg, yb = red - green, (red + green) / 2 - blue
    spread = np.hypot(rg.std(dtype=np.float64), yb.std(dtype=np.float64))
    return float(spread + 0.3 * np.hypot(rg.mean(dtype=np.float64), yb.mean(dtype=np.float64)))


def edge_density(pixels: Pixels) -> float:
    """Return the share of pixels with a Sobel magnitude above 0.1 of a full step from black to white."""
    from scipy.ndimage import sobel  # most stages read a manifest and measure nothing

    gradient = np.hypot(sobel(pixels.luma, axis=0), sobel(pixels.luma, axis=1)) / _SOBEL_FULL_STEP
    return float((gradient > EDGE_THRESHOLD).mean())


def cast_warm(pixels: Pixels) -> float:
    """Return the mean of red minus blue, -1 to 1: positive for a warm light or yellowed paper."""
    return _warm(pixels.rgb.reshape(-1, 3))


def cast_green(pixels: Pixels) -> float:
    """Return the mean of green minus the mean of red and blue, -1 to 1: negative for a purple cast."""
    return _green(pixels.rgb.reshape(-1, 3))


def frame_brightness(pixels: Pixels) -> float:
    """Return the mean luma of the outer frame, 0 to 1: the paper's edge, a mat, a scanner's lid."""
    return float(pixels.luma[pixels.frame].mean(dtype=np.float64))


def frame_contrast(pixels: Pixels) -> float:
    """Return the standard deviation of luma in the outer frame, 0 to 0.5: 0 for one flat colour."""
    return float(pixels.luma[pixels.frame].std(dtype=np.float64))


def frame_warm(pixels: Pixels) -> float:
    """Return the mean of red minus blue in the outer frame, -1 to 1."""
    return _warm(pixels.rgb[pixels.frame])


def frame_green(pixels: Pixels) -> float:
    """Return the mean of green minus the mean of red and blue in the outer frame, -1 to 1."""
    return _green(pixels.rgb[pixels.frame])


def frame_step(pixels: Pixels) -> float:
    """Return the mean luma of the outer frame minus that of the rest, -1 to 1; 0 where there is no rest."""
    inside = pixels.luma[~pixels.frame]
    return frame_brightness(pixels) - float(inside.mean(dtype=np.float64)) if inside.size else 0.0


def corner_top_left(pixels: Pixels) -> float:
    """Return the standard deviation of luma in the corner, 0 to 0.5: a logo, a number or a signature raises it."""
    return _corner(pixels, top=True, left=True)


def corner_top_right(pixels: Pixels) -> float:
    """Return the same of the corner at the top right."""
    return _corner(pixels, top=True, left=False)


def corner_bottom_left(pixels: Pixels) -> float:
    """Return the same of the corner at the bottom left."""
    return _corner(pixels, top=False, left=True)


def corner_bottom_right(pixels: Pixels) -> float:
    """Return the same of the corner at the bottom right."""
    return _corner(pixels, top=False, left=False)


# Name of the manifest's column -> what computes it. The order is that of the manifest's columns.
STATISTICS: dict[str, Callable[[Pixels], float]] = {
    "brightness": brightness,
    "contrast": contrast,
    "colourfulness": colourfulness,
    "edge_density": edge_density,
    "cast_warm": cast_warm,
    "cast_green": cast_green,
    "frame_brightness": frame_brightness,
    "frame_contrast": frame_contrast,
    "frame_warm": frame_warm,
    "frame_green": frame_green,
    "frame_step": frame_step,
    "corner_top_left": corner_top_left,
    "corner_top_right": corner_top_right,
    "corner_bottom_left": corner_bottom_left,
    "corner_bottom_right": corner_bottom_right,
}
# First word of statistics that one predictor of the audit looks at together -> what that predictor is called.
FAMILIES = {"cast": "colour cast", "frame": "frame", "corner": "corners"}


def measure(pixels: np.ndarray) -> dict[str, float]:
    """Return every statistic of an image by its name.

    Args:
        pixels: uint8 of shape (H, W, 3).
    """
    measured = Pixels(shrink(pixels, LONGEST_PX).astype(np.float32))
    return {name: compute(measured) for name, compute in STATISTICS.items()}


def _warm(rgb: np.ndarray) -> float:
    return float((rgb[:, 0] - rgb[:, 2]).mean(dtype=np.float64)) / 255


def _green(rgb: np.ndarray) -> float:
    return float((rgb[:, 1] - (rgb[:, 0] + rgb[:, 2]) / 2).mean(dtype=np.float64)) / 255


def _corner(pixels: Pixels, *, top: bool, left: bool) -> float:
    height, width = (max(1, round(_CORNER * side)) for side in pixels.luma.shape)
    rows = pixels.luma[:height] if top else pixels.luma[-height:]
    patch = rows[:, :width] if left else rows[:, -width:]
    return float(patch.std(dtype=np.float64))
