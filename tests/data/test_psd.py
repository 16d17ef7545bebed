import struct

import numpy as np
import pytest

from mirip.data.decoding import decode_image
from mirip.errors import ImageError


def _packed(row: np.ndarray) -> bytes:
    """One row by PackBits, as literals of at most 128 bytes."""
    return b"".join(bytes([len(part) - 1]) + part.tobytes() for part in np.split(row, range(128, len(row), 128)))


def _psd(
    planes: np.ndarray, mode: int = 3, *, packed: bool = False, resources: bytes = b"", bits: int = 8, version: int = 1
) -> bytes:
    """A PSD file without layers; `planes` is uint8 of shape (channels, H, W)."""
    channels, height, width = planes.shape
    header = struct.pack(">4sH6xHIIHH", b"8BPS", version, channels, height, width, bits, mode)
    sections = struct.pack(">II", 0, len(resources)) + resources + struct.pack(">I", 0)
    rows = [_packed(row) for plane in planes for row in plane]
    lengths = struct.pack(f">{len(rows)}H", *map(len, rows))
    body = b"\0\1" + lengths + b"".join(rows) if packed else b"\0\0" + planes.tobytes()
    return header + sections + body


def _resource(number: int, data: bytes) -> bytes:
    padded = data + b"\0" * (len(data) % 2)
    return b"8BIM" + struct.pack(">HH", number, 0) + struct.pack(">I", len(data)) + padded


_NOISE = np.random.default_rng(0).integers(256, size=(6, 9, 200), dtype=np.uint8)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("channels", [3, 4, 5])
def test_further_channels_are_no_transparency_and_shift_nothing(channels: int, packed: bool) -> None:
    decoded = decode_image(_psd(_NOISE[:channels], packed=packed))
    np.testing.assert_array_equal(decoded.pixels, _NOISE[:3].transpose(1, 2, 0))
    assert decoded.conversions == ()


@pytest.mark.parametrize("packed", [False, True])
def test_grey_with_further_channels(packed: bool) -> None:
    decoded = decode_image(_psd(_NOISE[:2], 1, packed=packed))
    np.testing.assert_array_equal(decoded.pixels[..., 0], _NOISE[0])


@pytest.mark.parametrize("packed", [False, True])
def test_cmyk_with_further_channels(packed: bool) -> None:
    plain, further = (decode_image(_psd(_NOISE[:channels], 4, packed=packed)).pixels for channels in (4, 6))
    np.testing.assert_array_equal(plain, further)


def test_a_file_without_its_composite_is_refused_and_not_taken_as_blank() -> None:
    thumbnail, there, missing = (
        _resource(1036, b"abc"),
        *(_resource(1057, b"\0\0\0\1" + flag) for flag in (b"\1", b"\0")),
    )
    assert decode_image(_psd(_NOISE[:3], resources=thumbnail + there)).pixels.shape == (9, 200, 3)
    with pytest.raises(ImageError, match=r"without a composite image \(Maximize Compatibility\), which is not read"):
        decode_image(_psd(_NOISE[:3], resources=thumbnail + missing))


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (_psd(_NOISE[:3], bits=16), "16 bits a sample"),
        (_psd(_NOISE[:1], 0, bits=1), "1 bits a sample"),
        (_psd(_NOISE[:3], 7), "the colour mode 7"),
        (_psd(_NOISE[:3], version=2), r"large documents \(PSB\)"),
    ],
)
def test_what_is_not_read_is_refused_by_its_name(data: bytes, what: str) -> None:
    with pytest.raises(ImageError, match=f"{what}.*which is not read: export it") as caught:
        decode_image(data)
    assert caught.value.kind == "unsupported"
