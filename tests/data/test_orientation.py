import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from mirip.data.orientation import ORIENTATIONS, turn_upright


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (130, 257), (128, 256)])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_turns_as_pillow_does(size: tuple[int, int], orientation: int) -> None:
    pixels = np.random.default_rng(0).integers(256, size=(*size, 3), dtype=np.uint8)
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(buffer, "PNG", exif=exif)
    turned = turn_upright(pixels, orientation)
    np.testing.assert_array_equal(turned, np.asarray(ImageOps.exif_transpose(Image.open(buffer))))
    assert turned.flags.c_contiguous
    assert turned.flags.writeable
    assert not np.shares_memory(turned, pixels)


def test_all_that_are_not_upright_are_known() -> None:
    assert ORIENTATIONS == (2, 3, 4, 5, 6, 7, 8)
