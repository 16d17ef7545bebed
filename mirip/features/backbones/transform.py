"""From decoded pixels to what the backbone sees: one definition for extraction, serving and the command line."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F  # noqa: N812 - its name everywhere


@dataclass(frozen=True)
class ImageTransform:
    """Fit an image to what the backbone sees and normalise it.

    `pad` keeps the aspect ratio and centres the image; the margins have the mean colour, rounded to 8 bits. After
    normalisation they are zero (within 0.01), what a backbone takes for nothing, whatever the paper's colour; and all
    pixels stay 8-bit until the last step. `squash` resizes both sides. `native` pads nothing: the image gets whole
    patches in its own aspect ratio, within half a patch, and no more pixels than the square has.

    Attributes:
        size_px: S, side of the square; a multiple of the patch.
        fit: pad, squash or native.
        interpolation: bicubic or bilinear, antialiased either way; on photos at most 1 of 255 from Pillow's.
        mean, std: per channel, of pixels scaled to 0..1.
        patch_px: side of the backbone's patch; needed by native.
    """

    size_px: int
    fit: str
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    patch_px: int = 1

    def __call__(self, pixels: NDArray[np.uint8]) -> torch.Tensor:
        """Transform uint8 (H, W, 3) upright sRGB to float32 (3, S, S); native gives (3, h, w)."""
        mean, std = torch.tensor(self.mean), torch.tensor(self.std)
        values = torch.from_numpy(self.fitted(pixels)).permute(2, 0, 1).to(torch.float32)  # (h, w, 3) -> (3, h, w)
        return (values / 255 - mean[:, None, None]) / std[:, None, None]

    def fitted(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Fit uint8 (H, W, 3) into uint8 (S, S, 3), before normalisation; native gives (h, w, 3)."""
        height, width = pixels.shape[:2]
        if self.fit == "squash":
            return self._resized(pixels, self.size_px, self.size_px)
        if self.fit == "native":
            rows, columns = patch_grid(height, width, (self.size_px // self.patch_px) ** 2)
            return self._resized(pixels, rows * self.patch_px, columns * self.patch_px)
        scale = self.size_px / max(height, width)
        inner_height, inner_width = max(1, round(height * scale)), max(1, round(width * scale))
        top, left = (self.size_px - inner_height) // 2, (self.size_px - inner_width) // 2
        canvas = np.empty((self.size_px, self.size_px, 3), dtype=np.uint8)
        canvas[:] = np.rint(255 * np.array(self.mean))
        canvas[top : top + inner_height, left : left + inner_width] = self._resized(pixels, inner_height, inner_width)
        return canvas

    def _resized(self, pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
        if pixels.shape[:2] == (height, width):
            return pixels
        planes = torch.from_numpy(np.require(pixels, requirements=["C", "W"])).permute(2, 0, 1)[None]  # (1, 3, H, W)
        resized = F.interpolate(
            planes, size=(height, width), mode=self.interpolation, antialias=True, align_corners=False
        )
        return resized[0].permute(1, 2, 0).numpy()  # (h, w, 3)


def patch_grid(height: int, width: int, budget: int) -> tuple[int, int]:
    """Return the rows and columns of at most `budget` patches, both at least 1, that suit an image's shape best.

    Of the roundings of the exact answer the one whose aspect ratio is nearest to the image's, then the larger.
    """
    exact = math.sqrt(budget * height / width), math.sqrt(budget * width / height)
    rows, columns = ({max(1, min(budget, math.floor(side))), max(1, min(budget, math.ceil(side)))} for side in exact)
    grids = [(r, c) for r in rows for c in columns if r * c <= budget]
    return min(grids, key=lambda grid: (abs(math.log(grid[0] * width / (grid[1] * height))), -grid[0] * grid[1], grid))
