import io
import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from mirip.data.decoding import decode_image, read_pixels
from mirip.errors import ImageError


def _encoded(image: Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def _quarters(width: int = 40, height: int = 20) -> np.ndarray:
    """An image whose four quarters are red, green, blue and white."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = (255, 0, 0)
    pixels[: height // 2, width // 2 :] = (0, 255, 0)
    pixels[height // 2 :, : width // 2] = (0, 0, 255)
    pixels[height // 2 :, width // 2 :] = 255
    return pixels


def _png(width: int, height: int, bit_depth: int, colour_type: int, rows: bytes) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, bit_depth, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_an_ordinary_image_comes_out_as_it_is() -> None:
    decoded = decode_image(_encoded(Image.fromarray(_quarters())))
    np.testing.assert_array_equal(decoded.pixels, _quarters())
    assert decoded.pixels.dtype == np.uint8
    assert decoded.pixels.flags.c_contiguous
    assert (decoded.format, decoded.conversions) == ("PNG", ())
    assert math.isnan(decoded.jpeg_quality)


def test_a_jpeg_tells_its_quality() -> None:
    decoded = decode_image(_encoded(Image.fromarray(_quarters()), "JPEG", quality=83))
    assert (decoded.format, decoded.jpeg_quality, decoded.conversions) == ("JPEG", 83.0, ())


# What each EXIF orientation stores, so that the upright image is _quarters().
_STORED = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", list(_STORED))
def test_a_sideways_image_is_upright(orientation: int, file_format: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(_STORED[orientation](_quarters())))
    options = {"lossless": True} if file_format == "WEBP" else {}
    decoded = decode_image(_encoded(stored, file_format, exif=exif, **options))
    np.testing.assert_array_equal(decoded.pixels, _quarters())
    assert decoded.conversions == ("sideways_exif",)


@pytest.mark.parametrize("orientation", [0, 1, *_STORED, 9])
@pytest.mark.parametrize("profile", ["none", "srgb", "other"])
def test_a_jpeg_is_turned_and_its_profile_applied_as_by_pillow(orientation: int, profile: str) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    icc = {"none": None, "srgb": srgb, "other": _profile_with_red_and_green_exchanged()}[profile]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = _encoded(Image.fromarray(_quarters()), "JPEG", exif=exif, icc_profile=icc)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    if profile == "other":
        source = ImageCms.ImageCmsProfile(io.BytesIO(_profile_with_red_and_green_exchanged()))
        expected = ImageCms.profileToProfile(expected, source, ImageCms.createProfile("sRGB"))
    decoded = decode_image(data)
    np.testing.assert_array_equal(decoded.pixels, np.asarray(expected))
    assert decoded.pixels.flags.c_contiguous
    assert decoded.pixels.flags.writeable
    sideways = ("sideways_exif",) if orientation in _STORED else ()
    assert decoded.conversions == sideways + (("icc",) if profile == "other" else ())


# Pillow warns as it opens the file; outside of tests that warning is dropped.
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")
def test_damaged_exif_data_is_ignored() -> None:
    data = _encoded(Image.fromarray(_quarters()), "JPEG", exif=b"Exif\0\0MM\0*\0\0\xff\xff\xff\xff")
    assert decode_image(data).pixels.shape == (20, 40, 3)


def test_alpha_is_laid_over_white() -> None:
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[0, 0] = (255, 0, 0, 255)
    pixels[0, 1] = (255, 0, 0, 0)
    pixels[1, 0] = (0, 0, 0, 128)
    decoded = decode_image(_encoded(Image.fromarray(pixels)))
    assert decoded.pixels[0].tolist() == [[255, 0, 0], [255, 255, 255]]
    assert decoded.pixels[1, 0].tolist() == pytest.approx([127, 127, 127], abs=1)
    assert decoded.conversions == ("alpha",)


def test_grey_with_alpha_is_laid_over_white() -> None:
    pixels = np.array([[[40, 255], [40, 0]]], np.uint8)
    decoded = decode_image(_encoded(Image.fromarray(pixels)))
    assert decoded.pixels.tolist() == [[[40] * 3, [255] * 3]]
    assert decoded.conversions == ("alpha", "grey")


@pytest.mark.parametrize("file_format", ["JPEG", "TIFF"])
def test_cmyk_comes_out_in_its_colours(file_format: str) -> None:
    image = Image.fromarray(_quarters(64, 32)).convert("CMYK")
    decoded = decode_image(_encoded(image, file_format))
    np.testing.assert_allclose(decoded.pixels[4:12, 4:28].mean(axis=(0, 1)), [255, 0, 0], atol=6)
    np.testing.assert_allclose(decoded.pixels[20:28, 36:60].mean(axis=(0, 1)), [255, 255, 255], atol=6)
    assert decoded.conversions == ("cmyk",)


def test_a_palette_image_with_transparency() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1])
    opaque = decode_image(_encoded(image))
    assert opaque.pixels.tolist() == [[[10, 20, 30], [200, 100, 50]]]
    assert opaque.conversions == ("palette",)
    holed = decode_image(_encoded(image, transparency=bytes([255, 0])))
    assert holed.pixels.tolist() == [[[10, 20, 30], [255, 255, 255]]]
    assert holed.conversions == ("alpha", "palette")


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_and_not_clipped(file_format: str) -> None:
    values = np.array([[0, 257, 32768, 65535]], np.uint16)
    decoded = decode_image(_encoded(Image.fromarray(values), file_format))
    assert decoded.pixels[0, :, 0].tolist() == [0, 1, 128, 255]
    assert (decoded.pixels == decoded.pixels[..., :1]).all()
    assert decoded.conversions == ("sixteen_bit", "grey")


def test_the_clear_value_of_sixteen_bit_grey_is_laid_over_white() -> None:
    values = np.array([[0, 257, 32768, 257]], np.uint16)
    decoded = decode_image(_encoded(Image.fromarray(values), transparency=257))
    assert decoded.pixels[0, :, 0].tolist() == [0, 255, 128, 255]
    assert decoded.conversions == ("alpha", "sixteen_bit", "grey")


def test_sixteen_bit_colour_is_scaled() -> None:
    decoded = decode_image(_png(2, 1, 16, 2, b"\0" + struct.pack(">6H", 65535, 32896, 0, 257, 65535, 65535)))
    assert decoded.pixels.tolist() == [[[255, 128, 0], [1, 255, 255]]]
    assert decoded.conversions == ("sixteen_bit",)


@pytest.mark.parametrize("mode", ["L", "1"])
def test_grey_and_one_bit_become_three_equal_channels(mode: str) -> None:
    image = Image.fromarray(np.array([[0, 255]], np.uint8)).convert(mode)
    decoded = decode_image(_encoded(image))
    assert decoded.pixels.tolist() == [[[0] * 3, [255] * 3]]
    assert decoded.conversions == ("grey",)


def _profile_with_red_and_green_exchanged() -> bytes:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    head, tags, rest = srgb[:128], srgb[128:400], srgb[400:]
    tags = tags.replace(b"rXYZ", b"?XYZ").replace(b"gXYZ", b"rXYZ").replace(b"?XYZ", b"gXYZ")
    return (head + tags + rest).replace("sRGB".encode("utf-16-be"), "mine".encode("utf-16-be"))


@pytest.mark.parametrize("transparent", [False, True])
def test_a_colour_profile_is_applied(transparent: bool) -> None:
    pixels = np.full((4, 4, 3 + transparent), 255, np.uint8)
    pixels[..., :3] = (255, 0, 0)
    decoded = decode_image(_encoded(Image.fromarray(pixels), icc_profile=_profile_with_red_and_green_exchanged()))
    np.testing.assert_allclose(decoded.pixels[0, 0], [0, 255, 0], atol=3)
    assert decoded.conversions == (("alpha", "icc") if transparent else ("icc",))


def test_a_profile_of_another_colour_space_is_ignored() -> None:
    grey = Image.fromarray(np.array([[10, 200]], np.uint8))
    decoded = decode_image(_encoded(grey, icc_profile=_profile_with_red_and_green_exchanged()))
    assert decoded.pixels[0, :, 0].tolist() == [10, 200]
    assert decoded.conversions == ("grey",)


def test_lab_comes_out_in_its_colours() -> None:
    plain = Image.fromarray(np.full((4, 4, 3), (200, 100, 50), np.uint8))
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    decoded = decode_image(_encoded(ImageCms.profileToProfile(plain, srgb, lab, outputMode="LAB"), "TIFF"))
    np.testing.assert_allclose(decoded.pixels[0, 0], [200, 100, 50], atol=4)


def test_an_srgb_profile_changes_nothing_and_a_broken_one_is_ignored() -> None:
    plain = Image.fromarray(_quarters())
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (srgb, b"not a profile", srgb[:200]):
        decoded = decode_image(_encoded(plain, icc_profile=profile))
        np.testing.assert_array_equal(decoded.pixels, _quarters())
        assert decoded.conversions == ()


def test_an_animation_shows_its_first_frame() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    decoded = decode_image(_encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    np.testing.assert_allclose(decoded.pixels[0, 0], [255, 0, 0], atol=1)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9])
def test_a_cut_off_file_is_an_error(file_format: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(256, size=(64, 64, 3), dtype=np.uint8)
    data = _encoded(Image.fromarray(noise), file_format)
    with pytest.raises(ImageError) as caught:
        decode_image(data[: int(len(data) * share)])
    assert caught.value.kind == "truncated" or (file_format == "BMP" and share == 0.01)
    assert "\n" not in str(caught.value)


def test_a_decompression_bomb_is_refused_by_its_header() -> None:
    with pytest.raises(ImageError, match=r"too large: 30000 x 30000 px.*raise prepare\.max_image_pixels") as caught:
        decode_image(_png(30000, 30000, 8, 2, b""))
    assert caught.value.kind == "too_large"


def test_the_pixel_limit_is_inclusive() -> None:
    data = _encoded(Image.fromarray(_quarters()))
    assert decode_image(data, max_pixels=800).pixels.shape == (20, 40, 3)
    with pytest.raises(ImageError, match="the limit of 799 pixels"):
        decode_image(data, max_pixels=799)


def test_pixels_of_a_file_anywhere_or_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(_quarters()).save(path)
    np.testing.assert_array_equal(read_pixels(path), _quarters())
    with pytest.raises(ImageError, match=r"b\.png cannot be read: No such file") as missing:
        read_pixels(tmp_path / "b.png")
    assert missing.value.kind == "missing"
    path.write_bytes(b"text")
    with pytest.raises(ImageError, match=r"a\.png is not an image"):
        read_pixels(str(path))
