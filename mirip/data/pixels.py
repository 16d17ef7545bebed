"""What is done with the pixels of an image once it is decoded: turned upright, made smaller, saved as a thumbnail."""

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.T,
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].T,
    8: lambda pixels: np.rot90(pixels),
}
ORIENTATIONS = tuple(_UPRIGHT)  # those of images that are not upright as they are stored
_TILE = 128  # pixels, small enough for both sides of a transposition to stay in the cache


def turn_upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn or mirror an image.

    Args:
        pixels: uint8 of shape (H, W, 3), C-contiguous.
        orientation: one of ORIENTATIONS.

    Returns:
        uint8 of shape (H, W, 3) or (W, H, 3), C-contiguous, a new array.
    """
    view = _UPRIGHT[orientation](pixels.view("V3")[..., 0])  # (H, W, 3) -> (H, W) of three bytes each
    turned = np.empty(view.shape, view.dtype)
    for top in range(0, view.shape[0], _TILE):
        for left in range(0, view.shape[1], _TILE):
            tile = np.s_[top : top + _TILE, left : left + _TILE]
            turned[tile] = view[tile]
    return turned.view(np.uint8).reshape(*turned.shape, 3)


def shrink(pixels: np.ndarray, longest_px: int) -> np.ndarray:
    """Return pixels averaged down so that the longest side is at most `longest_px`; never enlarged.

    Args:
        pixels: uint8 of shape (H, W, 3).
        longest_px: pixels of the longest side.

    Returns:
        uint8 of shape (h, w, 3), `pixels` itself where it is small enough.
    """
    height, width = pixels.shape[:2]
    scale = longest_px / max(height, width)
    if scale >= 1:
        return pixels
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))


def encode_jpeg(pixels: np.ndarray, quality: int = 80) -> bytes:
    """Return uint8 pixels of shape (H, W, 3) as the bytes of a JPEG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
