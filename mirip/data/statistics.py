"""Simple statistics of an image: what a ranker could lean on without seeing any art.

To add one, write a function of `Pixels` and list it in `STATISTICS`. The manifest then has a column of that name, and
the audit a predictor of its own. The value of every image changes nothing else.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.ndimage import sobel

from mirip.data.decoding import shrink

LONGEST_PX = 512
EDGE_THRESHOLD = 0.1
# Rec. 601, as in Pillow's conversion to grey.
_LUMA_WEIGHTS = np.array([0.299, 0.587, 0.114], dtype=np.float32)
# The gradient that scipy's Sobel kernel gives at a step from black to white.
_SOBEL_FULL_STEP = 4.0


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
    gradient = np.hypot(sobel(pixels.luma, axis=0), sobel(pixels.luma, axis=1)) / _SOBEL_FULL_STEP
    return float((gradient > EDGE_THRESHOLD).mean())


# Name of the manifest's column -> what computes it. The order is that of the manifest's columns.
STATISTICS: dict[str, Callable[[Pixels], float]] = {
    "brightness": brightness,
    "contrast": contrast,
    "colourfulness": colourfulness,
    "edge_density": edge_density,
}


def measure(pixels: np.ndarray) -> dict[str, float]:
    """Return every statistic of an image by its name.

    Args:
        pixels: uint8 of shape (H, W, 3).
    """
    measured = Pixels(shrink(pixels, LONGEST_PX).astype(np.float32))
    return {name: compute(measured) for name, compute in STATISTICS.items()}
