import io
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mirip.data.decoding import decode_image
from mirip.data.jpeg import decode_jpeg, jpeg_quality
from mirip.errors import ImageError


def _image(height: int, width: int) -> np.ndarray:
    """Soft shapes with grain: every coefficient of the transform has something to do."""
    rng = np.random.default_rng(0)
    soft = Image.fromarray(rng.integers(256, size=(5, 5, 3), dtype=np.uint8)).resize((width, height))
    return np.clip(np.asarray(soft) + rng.normal(0, 12, (height, width, 3)), 0, 255).astype(np.uint8)


def _jpeg(pixels: np.ndarray, mode: str = "RGB", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def _fast(data: bytes) -> np.ndarray | None:
    return decode_jpeg(Image.open(io.BytesIO(data)), data)


def _by_pillow(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


@pytest.mark.parametrize("size", [(1, 1), (3, 17), (64, 48), (131, 89)])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("quality", [40, 90, 100])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0", "4:1:1", "rgb"])
def test_values_are_those_of_pillow(size: tuple[int, int], progressive: bool, quality: int, subsampling: str) -> None:
    colours = {"keep_rgb": True, "subsampling": 0} if subsampling == "rgb" else {"subsampling": subsampling}
    data = _jpeg(_image(*size), progressive=progressive, quality=quality, **colours)
    pixels = _fast(data)
    assert pixels is not None
    np.testing.assert_array_equal(pixels, _by_pillow(data))
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable


def test_colours_stored_as_rgb_are_taken_for_what_they_are() -> None:
    pixels = np.full((16, 16, 3), (200, 40, 90), np.uint8)
    data = _jpeg(pixels, keep_rgb=True, subsampling=0, quality=95)  # an Adobe marker with transform 0
    np.testing.assert_allclose(decode_image(data).pixels, pixels, atol=2)


@pytest.mark.slow
def test_real_paintings_come_out_as_by_pillow(savoias: Path) -> None:
    paths = sorted((savoias / "images").rglob("*.jpg"))
    assert len(paths) > 100
    for path in paths:
        data = path.read_bytes()
        np.testing.assert_array_equal(_fast(data), _by_pillow(data), err_msg=path.name)


def test_the_second_image_of_a_file_is_not_looked_at() -> None:
    frames = [Image.fromarray(_image(32, 48)[::step]) for step in (1, -1)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "MPO", save_all=True, append_images=frames[1:])
    data = buffer.getvalue()
    assert Image.open(io.BytesIO(data)).format == "MPO"
    np.testing.assert_array_equal(_fast(data), _by_pillow(data))
    assert decode_image(data).format == "JPEG"


def test_grey_is_decoded_to_three_equal_channels() -> None:
    data = _jpeg(_image(33, 17), "L")
    pixels = _fast(data)
    assert pixels is not None
    np.testing.assert_array_equal(pixels, np.stack([_by_pillow(data)] * 3, axis=2))
    assert decode_image(data).conversions == ("grey",)


def test_other_colours_are_left_to_pillow() -> None:
    assert _fast(_jpeg(_image(16, 16), "CMYK")) is None


def test_a_header_that_tells_two_sizes_is_left_to_pillow() -> None:
    opened = Image.open(io.BytesIO(_jpeg(_image(16, 16))))
    assert decode_jpeg(opened, _jpeg(_image(16, 24))) is None


def _whole_or_refused(data: bytes, whole: np.ndarray) -> str:
    """Decode a damaged file: it is refused, or it has its rows; return what is said of it."""
    try:
        decoded = decode_image(data)
    except ImageError as error:
        return error.kind
    assert (decoded.pixels != whole).any(axis=(1, 2)).mean() <= 0.1  # of an MCU, which is 16 rows high
    return decoded.repaired


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
def test_a_file_that_lacks_only_its_end_mark_is_whole_and_marked(options: dict[str, Any], mode: str) -> None:
    data = _jpeg(_image(160, 120), mode, **options)
    whole = decode_image(data)
    assert whole.repaired == ""
    for length in (len(data) - 1, len(data) - 2):
        decoded = decode_image(data[:length])
        assert decoded.repaired == "the mark of its end is missing"
        np.testing.assert_array_equal(decoded.pixels, whole.pixels)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
@pytest.mark.parametrize("end", [b"", b"\xff\xd9"])
def test_a_file_that_ends_before_its_rows_is_refused(options: dict[str, Any], end: bytes) -> None:
    data = _jpeg(_image(320, 120), **options)
    whole = decode_image(data).pixels
    first_scan = data.index(b"\xff\xda") + 20
    said = [_whole_or_refused(data[:length], whole) for length in range(first_scan, len(data) - 2, 401)]
    assert said.count("truncated") > 0.9 * len(said)
    for share in (0.3, 0.6, 0.9):
        with pytest.raises(ImageError, match="is cut off: the last"):
            decode_image(data[: int(share * len(data))] + (b"" if "progressive" in options else end))


def test_what_is_damaged_in_the_middle_is_marked_and_looks_as_by_pillow() -> None:
    rng = np.random.default_rng(0)
    whole = _jpeg(_image(64, 64), quality=90)
    start, n_marked = whole.index(b"\xff\xda") + 20, 0
    for _ in range(100):
        data = bytearray(whole)
        data[rng.integers(start, len(data) - 2)] ^= 1 << rng.integers(8)
        try:
            decoded = decode_image(bytes(data))
        except ImageError:
            continue
        assert (_fast(bytes(data)) is None) == bool(decoded.repaired)
        n_marked += bool(decoded.repaired)
        np.testing.assert_array_equal(decoded.pixels, _by_pillow(bytes(data)))
    assert n_marked > 10


def test_twelve_bits_and_jpeg_ls_are_refused_by_their_names() -> None:
    data = _jpeg(_image(16, 16))
    frame = data.index(b"\xff\xc0")
    for changed, what in ((b"\xff\xc1\0\x11\x0c", "12 bits a sample"), (b"\xff\xf7\0\x11\x08", "JPEG-LS")):
        with pytest.raises(ImageError, match=f"{what}.*which is not read: export it as") as caught:
            decode_image(data[:frame] + changed + data[frame + 5 :])
        assert caught.value.kind == "unsupported"


def test_threads_decode_to_the_same_values() -> None:
    files = [_jpeg(_image(200, 100 + index), progressive=bool(index % 2)) for index in range(8)]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(_fast, files * 4))
    for data, pixels in zip(files * 4, results, strict=True):
        np.testing.assert_array_equal(pixels, _by_pillow(data))


@pytest.mark.parametrize("quality", [5, 30, 49, 50, 75, 90, 95, 100])
def test_finds_the_quality_that_libjpeg_was_given(quality: int) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as image:
        assert jpeg_quality(image.quantization) == quality


def test_is_unknown_without_tables() -> None:
    assert math.isnan(jpeg_quality({}))
