import io
import math

import numpy as np
import pytest
from PIL import Image

from mirip.data.jpeg_quality import jpeg_quality


@pytest.mark.parametrize("quality", [5, 30, 49, 50, 75, 90, 95, 100])
def test_finds_the_quality_that_libjpeg_was_given(quality: int) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as image:
        assert jpeg_quality(image.quantization) == quality


def test_is_unknown_without_tables() -> None:
    assert math.isnan(jpeg_quality({}))
