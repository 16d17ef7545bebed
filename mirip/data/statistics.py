"""Simple statistics of a picture: what a ranker could lean on without seeing any art."""

from dataclasses import dataclass

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
class ImageStatistics:
    """Statistics of one picture, on a copy of at most 512 pixels.

    Attributes:
        brightness: mean luma, 0 to 1.
        contrast: standard deviation of luma, 0 to 0.5.
        colourfulness: Hasler and Suesstrunk (2003), "Measuring colourfulness in natural images": 0 for grey, around
            100 for extremely colourful.
        edge_density: share of pixels with a Sobel magnitude above 0.1 of a full step from black to white.
    """

    brightness: float
    contrast: float
    colourfulness: float
    edge_density: float


def measure(pixels: np.ndarray) -> ImageStatistics:
    """Measure a picture.

    Args:
        pixels: uint8 of shape (H, W, 3).

    Returns:
        Its statistics.
    """
    rgb = shrink(pixels, LONGEST_PX).astype(np.float32)
    luma = rgb @ _LUMA_WEIGHTS / 255
    gradient = np.hypot(sobel(luma, axis=0), sobel(luma, axis=1)) / _SOBEL_FULL_STEP
    return ImageStatistics(
        brightness=float(luma.mean(dtype=np.float64)),
        contrast=float(luma.std(dtype=np.float64)),
        colourfulness=_colourfulness(rgb),
        edge_density=float((gradient > EDGE_THRESHOLD).mean()),
    )


def _colourfulness(rgb: np.ndarray) -> float:
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    # rg = R - G, yb = (R + G) / 2 - B;  sqrt(s_rg^2 + s_yb^2) + 0.3 sqrt(m_rg^2 + m_yb^2)
    rg, yb = red - green, (red + green) / 2 - blue
    spread = np.hypot(rg.std(dtype=np.float64), yb.std(dtype=np.float64))
    return float(spread + 0.3 * np.hypot(rg.mean(dtype=np.float64), yb.mean(dtype=np.float64)))
