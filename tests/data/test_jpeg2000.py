import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from mirip.data.decoding import decode_image
from mirip.errors import ImageError

_PIXELS = np.random.default_rng(0).integers(256, size=(20, 24, 3), dtype=np.uint8)


def _jp2(image: Image.Image | None = None) -> bytes:
    buffer = io.BytesIO()
    (image or Image.fromarray(_PIXELS)).save(buffer, "JPEG2000")
    return buffer.getvalue()


def _with_box(data: bytes, kind: bytes, content: bytes) -> bytes:
    """Put a box at the end of a JP2 file's header, in place of one of that kind."""
    start = data.index(b"jp2h") - 4
    length = struct.unpack_from(">I", data, start)[0]
    header = data[start + 8 : start + length]
    if (old := header.find(kind)) >= 0:
        header = header[: old - 4] + header[old - 4 + struct.unpack_from(">I", header, old - 4)[0] :]
    header += struct.pack(">I4s", len(content) + 8, kind) + content
    return data[:start] + struct.pack(">I4s", len(header) + 8, b"jp2h") + header + data[start + length :]


def _with_components(data: bytes, *components: tuple[int, int, int]) -> bytes:
    at = data.index(b"\xff\x4f\xff\x51") + 42
    return data[:at] + b"".join(map(bytes, components)) + data[at + 3 * len(components) :]


def test_an_embedded_profile_is_applied() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    mine = srgb.replace(b"rXYZ", b"?XYZ", 1).replace(b"gXYZ", b"rXYZ", 1).replace(b"?XYZ", b"gXYZ", 1)
    mine = mine.replace("sRGB".encode("utf-16-be"), "mine".encode("utf-16-be"))
    decoded = decode_image(_with_box(_jp2(), b"colr", b"\2\0\0" + mine))
    assert decoded.conversions == ("icc",)
    red = Image.fromarray(np.full((8, 8, 3), (255, 0, 0), np.uint8))
    exchanged = decode_image(_with_box(_jp2(red), b"colr", b"\2\0\0" + mine)).pixels
    np.testing.assert_allclose(exchanged[0, 0], [0, 255, 0], atol=3)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (_with_components(_jp2(), (15, 1, 1), (15, 1, 1), (15, 1, 1)), "16 bits a sample in colour"),
        (_with_components(_jp2(), (11, 1, 1), (7, 1, 1), (7, 1, 1)), "12 bits a sample in colour"),
        (_with_components(_jp2(), (7, 1, 1), (7, 2, 2), (7, 2, 2)), "subsampled colours"),
        (_with_box(_jp2(), b"cdef", struct.pack(">10H", 3, 0, 0, 3, 1, 0, 2, 2, 0, 1)), "its colours in another order"),
        (_with_box(_jp2(), b"cmap", bytes([0, 0, 1, 2, 0, 0, 1, 1, 0, 0, 1, 0])), "its colours in another order"),
    ],
)
def test_what_would_come_out_wrong_is_refused_by_its_name(data: bytes, what: str) -> None:
    with pytest.raises(ImageError, match=f"a JPEG 2000 image with {what}, which is not read: export it") as caught:
        decode_image(data)
    assert caught.value.kind == "unsupported"


def test_channels_in_their_own_order_change_nothing() -> None:
    data = _with_box(_jp2(), b"cdef", struct.pack(">10H", 3, 0, 0, 1, 1, 0, 2, 2, 0, 3))
    np.testing.assert_array_equal(decode_image(data).pixels, _PIXELS)


def test_deep_grey_is_scaled() -> None:
    values = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    decoded = decode_image(_jp2(Image.fromarray(values)))
    np.testing.assert_array_equal(decoded.pixels[..., 0].ravel(), np.arange(256))
