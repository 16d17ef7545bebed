import io
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mirip.data.decoding import decode_image
from mirip.data.formats import FORMATS, recognise
from mirip.errors import ImageError


def _painting(height: int = 64, width: int = 96) -> np.ndarray:
    """Soft colours, which every lossy format keeps."""
    coarse = np.random.default_rng(1).integers(40, 216, size=(4, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def _saved(pixels: np.ndarray, file_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, file_format, **options)
    return buffer.getvalue()


def _psd(pixels: np.ndarray, bits: int = 8) -> bytes:
    height, width, _ = pixels.shape
    header = struct.pack(">4sH6xHIIHH", b"8BPS", 1, 3, height, width, bits, 3)
    return header + bytes(12) + b"\0\0" + np.ascontiguousarray(pixels.transpose(2, 0, 1)).tobytes()


def _heif(pixels: np.ndarray, **options: Any) -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif", reason="it encodes what these tests decode")
    buffer = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(pixels)).save(buffer, quality=95, **options)
    data: bytes = buffer.getvalue()
    return data


# Name in FORMATS -> how a file of it is made, and the most that a value may change.
_MADE: dict[str, tuple[Callable[[np.ndarray], bytes], int]] = {
    "JPEG": (lambda pixels: _saved(pixels, "JPEG", quality=95), 8),
    "PNG": (lambda pixels: _saved(pixels, "PNG"), 0),
    "WEBP": (lambda pixels: _saved(pixels, "WEBP", lossless=True), 0),
    "TIFF": (lambda pixels: _saved(pixels, "TIFF", compression="tiff_lzw"), 0),
    "AVIF": (lambda pixels: _saved(pixels, "AVIF", quality=95), 12),
    "HEIF": (_heif, 12),
    "BMP": (lambda pixels: _saved(pixels, "BMP"), 0),
    "GIF": (lambda pixels: _saved(pixels, "GIF"), 40),
    "JPEG2000": (lambda pixels: _saved(pixels, "JPEG2000"), 0),
    "PSD": (_psd, 0),
    "ICO": (lambda pixels: _saved(pixels[:24, :24], "ICO", sizes=[(24, 24)]), 0),
    "PPM": (lambda pixels: _saved(pixels, "PPM"), 0),
    "TGA": (lambda pixels: _saved(pixels, "TGA"), 0),
}


def test_a_file_of_every_format_is_made_here() -> None:
    assert set(_MADE) == set(FORMATS)


@pytest.mark.parametrize("name", list(_MADE))
def test_a_file_of_every_format_comes_out_in_its_colours(name: str) -> None:
    make, most = _MADE[name]
    painting = _painting()
    data = make(painting)
    assert recognise(data) == name
    decoded = decode_image(data)
    assert (decoded.format, decoded.repaired) == (name, "")
    height, width, _ = decoded.pixels.shape
    difference = np.abs(decoded.pixels.astype(int) - painting[:height, :width])
    assert difference.max() <= most


@pytest.mark.parametrize("name", list(_MADE))
@pytest.mark.parametrize("share", [0.02, 0.5, 0.8])
def test_a_cut_off_file_of_every_format_is_refused(name: str, share: float) -> None:
    data = _MADE[name][0](np.random.default_rng(0).integers(256, size=(64, 96, 3), dtype=np.uint8))
    with pytest.raises(ImageError) as caught:
        decode_image(data[: int(len(data) * share)])
    assert caught.value.kind == "truncated" or share == 0.02
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # outside of tests they are dropped
@pytest.mark.parametrize("name", list(_MADE))
def test_a_damaged_file_of_every_format_is_decoded_or_refused_in_one_line(name: str) -> None:
    rng, said = np.random.default_rng(0), []
    whole = _MADE[name][0](_painting(24, 24))
    for _ in range(300):
        data = bytearray(whole)
        for position in rng.integers(0, min(len(data), rng.choice([64, 512, len(data)])), size=rng.integers(1, 9)):
            data[position] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.integers(256)])
        try:
            decode_image(bytes(data), max_pixels=4_000_000)
        except ImageError as error:
            said.append(str(error))
    assert said
    assert not any("\n" in text for text in said)


def test_colours_of_many_bits_are_those_of_eight() -> None:
    """Photos of iPhones have ten bits a sample where they are meant for bright screens."""
    pillow_heif = pytest.importorskip("pillow_heif", reason="it encodes what is decoded here")
    painting = _painting()
    deep = pillow_heif.from_bytes("RGB;16", (96, 64), (painting.astype(np.uint16) * 257).tobytes())
    buffer = io.BytesIO()
    deep.save(buffer, quality=95)
    decoded = decode_image(buffer.getvalue())
    assert np.abs(decoded.pixels.astype(int) - painting).max() <= 12


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_turned_heif_photo_is_upright_and_turned_once(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    painting = _painting()
    stored = np.rot90(painting, {1: 0, 3: 2, 6: 1, 8: -1}[orientation])
    decoded = decode_image(_heif(np.ascontiguousarray(stored), exif=exif.tobytes()))
    assert decoded.pixels.shape == painting.shape
    assert np.abs(decoded.pixels.astype(int) - painting).max() <= 16


def test_the_primary_image_of_a_heif_file_is_taken() -> None:
    pillow_heif = pytest.importorskip("pillow_heif", reason="it encodes what is decoded here")
    burst = pillow_heif.HeifFile()
    for shade in (40, 120, 200):
        burst.add_from_pillow(Image.new("RGB", (64 + shade, 64), (shade,) * 3))
    buffer = io.BytesIO()
    burst.save(buffer, primary_index=1)
    decoded = decode_image(buffer.getvalue())
    assert decoded.pixels.shape[1] == 64 + 120
    assert np.abs(decoded.pixels.astype(int) - 120).max() <= 4


def _cropped_avif(width: tuple[int, int], height: tuple[int, int]) -> bytes:
    """The head of an AVIF file of 40 x 20 pixels, with a clean aperture of a size."""
    size = b"ispe" + struct.pack(">III", 0, 40, 20)
    return b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + size + b"clap" + struct.pack(">8I", *width, *height, 0, 1, 0, 1)


def test_an_avif_image_that_is_cropped_to_its_own_size_is_not_refused_for_that() -> None:
    with pytest.raises(ImageError, match="is damaged"):  # there is nothing behind the head
        decode_image(_cropped_avif((80, 2), (20, 1)))


def test_a_heif_file_with_another_codec_is_no_video() -> None:
    with pytest.raises(ImageError) as caught:
        decode_image(b"\0\0\0\x18ftypj2ki\0\0\0\0mif1j2ki" + bytes(64))
    assert "video" not in str(caught.value)


def test_the_orientation_of_xmp_is_no_orientation() -> None:
    """No viewer turns by it."""
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    for file_format in ("WEBP", "JPEG", "AVIF"):
        assert decode_image(_saved(_painting(), file_format, xmp=xmp)).pixels.shape == (64, 96, 3)


_CR3 = b"\0\0\0\x18ftypcrx \0\0\0\1crx isom"


@pytest.mark.parametrize(
    ("data", "what", "advice"),
    [
        (b"\xff\x0a" + bytes(64), "a JPEG XL image", "export it as JPEG"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(64), "a JPEG XL image", "export it as JPEG"),
        (b"%PDF-1.7\n" + bytes(64), "a PDF document", "export the page"),
        (b"\n%PDF-1.7\n" + bytes(64), "a PDF document", "export the page"),
        (b'<?xml version="1.0"?>\n<!-- made by a program -->\n<svg width="4">', "an SVG drawing", "export it as PNG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "a PostScript drawing", "export it as JPEG"),
        (_CR3, r"a raw photo \(CR3\)", "develop it"),
        (b"FUJIFILMCCD-RAW 0201", r"a raw photo \(RAF\)", "develop it"),
        (b"IIRO\x08\0\0\0", r"a raw photo \(ORF\)", "develop it"),
        (b"\0\0\0\x18ftypisom" + bytes(64), "a video", "export one of its images"),
        (b"gimp xcf v011", "a GIMP image", "export it as JPEG"),
        (b"PK\3\4" + bytes(64), "a ZIP archive", "export it as JPEG"),
        (_psd(np.zeros((4, 4, 3), np.uint8), bits=16), "a Photoshop file with 16 bits a sample", "export it as JPEG"),
        (b"8BPS\0\2" + bytes(64), "for large documents", "export it as JPEG"),
        (b"Pf\n2 2\n-1.0\n" + bytes(16), "floating-point samples", "export it as JPEG"),
        (b"P7\nWIDTH 2\n", "a PAM image", "export it as JPEG"),
        (b"\x8bJNG\r\n\x1a\n", "a JNG or MNG image", "export it as JPEG"),
        (bytes(128) + b"DICM" + bytes(64), "a medical image", "export it as JPEG"),
        (b"\x01\xda\x01\x01\0\x03" + bytes(600), "an image of the kind SGI", "export it as JPEG"),
        (_cropped_avif((30, 1), (20, 1)), "a cropped AVIF image", "export it as JPEG"),
    ],
)
def test_what_is_not_read_is_refused_by_its_name_with_what_to_do(data: bytes, what: str, advice: str) -> None:
    with pytest.raises(
        ImageError, match=rf"is {what}.*which is not read: {advice}|{what}.*not read: {advice}"
    ) as caught:
        decode_image(data)
    assert caught.value.kind == "unsupported"


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"plain text named .jpg\n" * 20, "not an image in a known format"),
        (bytes(range(200, 256)), "not an image in a known format"),
        (b"\0\0\3\0 a header like that of a TGA file, and nothing else", "not an image in a known format"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS, not the image: run `git lfs pull`"),
        (b"\0\5\x16\7\0\2\0\0Mac OS X", "a file of macOS about an image.*not the image: give the one without"),
        (b"\n<!DOCTYPE html><html>Sign in", "a web page, not an image: download the image itself"),
    ],
)
def test_what_is_no_image_is_said_so(data: bytes, what: str) -> None:
    with pytest.raises(ImageError, match=what) as caught:
        decode_image(data)
    assert caught.value.kind == "not_an_image"
