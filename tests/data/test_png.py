import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from mirip.data.decoding import decode_image
from mirip.errors import ImageError

_PIXELS = np.random.default_rng(0).integers(256, size=(64, 96, 3), dtype=np.uint8)


def _png() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(_PIXELS).save(buffer, "PNG")
    return buffer.getvalue()


def _chunk(kind: bytes, content: bytes, *, damaged: bool = False) -> bytes:
    checksum = zlib.crc32(kind + content) ^ damaged
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def test_a_flipped_bit_among_the_pixels_is_never_accepted_as_it_is() -> None:
    """Asked for EXIF data, Pillow loads a PNG: the error of that must not be lost."""
    rng, whole, n_refused = np.random.default_rng(0), _png(), 0
    start = whole.index(b"IDAT")
    for _ in range(100):
        data = bytearray(whole)
        data[rng.integers(start + 4, len(data) - 16)] ^= 1 << rng.integers(8)
        try:
            pixels = decode_image(bytes(data)).pixels
        except ImageError:
            n_refused += 1
        else:
            np.testing.assert_array_equal(pixels, _PIXELS)
    assert n_refused > 90


@pytest.mark.parametrize("n_bytes", [4, 8, 11, 12])
def test_a_file_that_lacks_only_its_end_is_whole_and_marked(n_bytes: int) -> None:
    decoded = decode_image(_png()[:-n_bytes])
    np.testing.assert_array_equal(decoded.pixels, _PIXELS)
    assert decoded.repaired == "the mark of its end is missing"


def test_a_damaged_part_that_is_no_pixels_is_left_out_and_told() -> None:
    header = _png()[: 8 + 25]
    data = header + _chunk(b"iCCP", b"profile\0\0abc", damaged=True) + _chunk(b"tEXt", b"a\0b") + _png()[33:]
    decoded = decode_image(data)
    np.testing.assert_array_equal(decoded.pixels, _PIXELS)
    assert decoded.repaired == "its part iCCP is damaged and left out"
    assert decode_image(header + _chunk(b"tEXt", b"a\0b") + _png()[33:]).repaired == ""


@pytest.mark.parametrize("share", [0.2, 0.5, 0.99])
def test_a_file_that_ends_among_its_pixels_is_refused(share: float) -> None:
    with pytest.raises(ImageError, match="is damaged or cut off") as caught:
        decode_image(_png()[: int(share * len(_png()))])
    assert caught.value.kind == "truncated"


def test_what_is_packed_for_phones_is_refused_by_its_name() -> None:
    with pytest.raises(ImageError, match=r"packed for iPhone apps \(CgBI\), which is not read"):
        decode_image(_png()[:8] + _chunk(b"CgBI", bytes(4)) + _png()[8:])
