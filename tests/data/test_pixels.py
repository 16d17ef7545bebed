import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from mirip.data.decoding import decode_image
from mirip.data.pixels import ORIENTATIONS, encode_jpeg, shrink, turn_upright


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


def test_shrink_keeps_the_aspect_and_never_enlarges() -> None:
    pixels = np.zeros((100, 400, 3), np.uint8)
    assert shrink(pixels, 40).shape == (10, 40, 3)
    assert shrink(np.zeros((1, 400, 3), np.uint8), 40).shape == (1, 40, 3)
    assert shrink(pixels, 400) is pixels


def test_a_thumbnail_is_a_jpeg_of_the_same_size() -> None:
    decoded = decode_image(encode_jpeg(np.zeros((20, 40, 3), np.uint8)))
    assert (decoded.format, decoded.pixels.shape) == ("JPEG", (20, 40, 3))
