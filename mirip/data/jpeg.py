"""What is special about JPEG files: pixels straight from libjpeg-turbo, damage that can be repaired, the saved quality.

Pillow decodes with the same library and then spends as long again on repacking its four bytes a pixel into three: the
values here are the same, in half the time.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from mirip.errors import ImageError

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
_COLOURS = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}  # Pillow's mode -> simplejpeg's colour space
_END = b"\xff\xd9"
_SCAN, _JPEG_LS = 0xDA, 0xF7
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF markers
_PROGRESSIVE, _SCAN_MARK = 0xC2, re.compile(b"\xff\xda")
_RAN_OUT = ("Corrupt JPEG data: premature end", "Corrupt JPEG data: found marker 0xd9")  # libjpeg-turbo's words
_MOST_MISSING = 0.01


def decode_jpeg(image: Image.Image, data: bytes) -> NDArray[np.uint8] | None:
    """Decode an ordinary JPEG file (8 bits, one or three components), or leave it to `repaired_jpeg` and Pillow.

    The decoder is strict, anything that libjpeg-turbo warns of is refused here. Full size, the exact DCT, and the GIL
    released.

    Args:
        image: the file as Pillow opened it, not yet decoded.
        data: its bytes.

    Returns:
        uint8 of shape (H, W, 3), C-contiguous, as stored: neither turned upright nor in sRGB yet. None where the
        file is no such JPEG or there is anything odd about it.
    """
    if image.mode not in ("RGB", "L"):
        return None
    try:
        # Read by two parsers, a damaged header may tell two sizes, and only Pillow's is held against the limit.
        if simplejpeg.decode_jpeg_header(data)[:2] != (image.height, image.width):
            return None
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, _COLOURS[image.mode], strict=True)
    except ValueError:
        return None
    return pixels if image.mode == "RGB" else np.repeat(pixels, 3, axis=2)


def repaired_jpeg(data: bytes, mode: str) -> tuple[bytes, str]:
    """Complete a damaged JPEG file so that Pillow decodes it, if all of the image is there.

    One rule for all damage: a file whose data reaches the last row is used as libjpeg-turbo repairs it, and that is
    told. One whose data ends before is refused: more than a hundredth of its rows are missing, whether it has the mark
    of its end or not, or a progressive file, which has all of its rows from its first scan on, ends within its scans.

    Args:
        data: the file's bytes.
        mode: Pillow's mode of the image.

    Returns:
        The bytes to decode, and what is damaged in words; `data` itself and "" for a sound file.

    Raises:
        ImageError: of kind `truncated`.
    """
    colours = _COLOURS.get(mode, "RGB")
    if not _damage(data, colours):
        return data, ""
    end = _end_of_image(data)
    whole = data[:end] + _END
    damage = _damage(whole, colours)
    is_progressive = any(marker == _PROGRESSIVE for marker, _ in _segments(data))
    if is_progressive and (_lacks_scans(whole) or (damage and end == len(data))):
        raise ImageError("is cut off: the last of its scans are missing", kind="truncated")
    if damage.startswith(_RAN_OUT) and (missing := _share_missing(whole, colours)) > _MOST_MISSING:
        raise ImageError(f"is cut off: the last {missing:.0%} of its rows are missing", kind="truncated")
    return whole, damage or "the mark of its end is missing"


def unsupported(data: bytes) -> str:
    """Say what a JPEG file has that is not read: samples of more than 8 bits, or another way of compression."""
    for marker, start in _segments(data):
        if marker == _JPEG_LS:
            return "is a JPEG-LS file"
        if marker in _FRAMES:
            return f"is a JPEG file with {data[start]} bits a sample" if data[start : start + 1] > b"\x08" else ""
    return ""


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


def _damage(data: bytes, colours: str) -> str:
    """Return what libjpeg-turbo first says of a file, "" where it is sound."""
    try:
        simplejpeg.decode_jpeg(data, colours, strict=True)
    except ValueError as error:
        # Colours sampled in a way that simplejpeg has no name for are no damage; Pillow finds what is missing.
        return "" if "subsampling" in str(error) else " ".join(str(error).split())
    return ""


def _share_missing(data: bytes, colours: str) -> float:
    """Return the share of the rows that libjpeg-turbo invents where the data ran out, 0 to 1: they all look alike."""
    try:
        pixels = simplejpeg.decode_jpeg(data, colours, strict=False)
    except ValueError as error:
        raise ImageError(f"is damaged or cut off: {' '.join(str(error).split())}", kind="truncated") from None
    differs = (pixels != pixels[-1]).any(axis=(1, 2))
    n_alike = int(np.argmax(differs[::-1])) if differs.any() else len(pixels)
    return n_alike / len(pixels)


def _lacks_scans(data: bytes) -> bool:
    """Tell whether a progressive file ends before each coefficient has all of its bits (ITU-T T.81, annex G)."""
    bits_left: dict[int, NDArray[np.int64]] = {}  # component -> of its 64 coefficients, 13 before the first scan
    for found in re.finditer(_SCAN_MARK, data):
        header = data[found.end() + 2 : found.end() + 14]
        n_components = header[0] if header else 0
        if len(header) < 4 + 2 * n_components:
            return True
        first, last, approximation = header[1 + 2 * n_components : 4 + 2 * n_components]
        for component in header[1 : 1 + 2 * n_components : 2]:
            left = bits_left.setdefault(component, np.full(64, 13))
            left[first : last + 1] = approximation & 15
    return not bits_left or any(left.any() for left in bits_left.values())


def _end_of_image(data: bytes) -> int:
    """Return where the end mark of the image is, not that of a thumbnail; the file's end where it has none."""
    start = next((start for marker, start in _segments(data) if marker == _SCAN), len(data))
    end = data.find(_END, start)
    return len(data) if end < 0 else end


def _segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the marker of each segment up to the first scan, and where its content begins."""
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # padding
            position += 1
            continue
        yield marker, position + 4
        if marker == _SCAN:
            return
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
