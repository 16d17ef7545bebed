"""What is special about JPEG files: pixels straight from libjpeg-turbo, and the quality that a file was saved with.

Pillow decodes with the same library and then spends as long again on repacking its four bytes a pixel into three: the
values here are the same, in half the time.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

# The luminance table of ITU-T T.81, annex K, table K.1, in natural order.
_STANDARD_LUMINANCE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ],
    dtype=np.int64,
).ravel()


def _luminance_tables() -> np.ndarray:
    """Return libjpeg's luminance tables at the qualities 1 to 100, int64 of shape (100, 64)."""
    quality = np.arange(1, 101)
    scale = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    return np.clip((_STANDARD_LUMINANCE * scale[:, None] + 50) // 100, 1, 255)


_TABLES = _luminance_tables()


def decode_jpeg(image: Image.Image, data: bytes) -> NDArray[np.uint8] | None:
    """Decode an ordinary JPEG file (8 bits, three components), or leave it to Pillow.

    The decoder is strict, anything that libjpeg-turbo warns of is refused here: so Pillow alone decides what
    counts as damaged, and how a damaged file that it accepts looks. Full size, the exact DCT, and the GIL released.

    Args:
        image: the file as Pillow opened it, not yet decoded.
        data: its bytes.

    Returns:
        uint8 of shape (H, W, 3), C-contiguous, as stored: neither turned upright nor in sRGB yet. None where the
        file is no such JPEG or there is anything odd about it.
    """
    if image.format not in ("JPEG", "MPO") or image.mode != "RGB":
        return None
    try:
        # Read by two parsers, a damaged header may tell two sizes, and only Pillow's is held against the limit.
        if simplejpeg.decode_jpeg_header(data)[:2] != (image.height, image.width):
            return None
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, "RGB", strict=True)
    except ValueError:
        return None
    return pixels


def jpeg_quality(quantization: Mapping[int, Sequence[int]]) -> float:
    """Estimate the quality, 1 to 100, that libjpeg would have used for these tables.

    Args:
        quantization: tables by number, 64 values in natural order each, as in Pillow's `image.quantization`.

    Returns:
        The quality whose luminance table (jpeg_quality_scaling and jpeg_add_quant_table in libjpeg's jcparam.c) is
        nearest in absolute difference: exact for files by libjpeg, an equivalent for others. NaN without table 0.
    """
    table = np.asarray(quantization.get(0, ()), dtype=np.int64)
    if table.shape != (64,):
        return float("nan")
    return float(1 + np.abs(_TABLES - table).sum(axis=1).argmin())
