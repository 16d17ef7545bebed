"""Turn a picture upright by its EXIF orientation."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

_UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.T,
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].T,
    8: lambda pixels: np.rot90(pixels),
}
ORIENTATIONS = tuple(_UPRIGHT)  # those that are not upright as they are stored
_TILE = 128  # pixels, small enough for both sides of a transposition to stay in the cache


def turn_upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn or mirror a picture.

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
