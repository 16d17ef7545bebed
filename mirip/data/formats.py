"""What kind of file an image is, told by its first bytes: one that is read here, or one that is refused by its name.

To read one more format, add it to `FORMATS`, and its first bytes to the table of `tests/data/test_formats.py`.
"""

import io
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

from PIL import Image, ImageFile
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.IcoImagePlugin import IcoImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TgaImagePlugin import TgaImageFile
from PIL.WebPImagePlugin import WebPImageFile

from mirip.data import jpeg, jpeg2000, png, psd, tiff
from mirip.errors import ImageError

# What Pillow's plugins and the libraries below them raise on a damaged file.
DECODER_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, IndexError, OverflowError, EOFError, RuntimeError, struct.error,
    zlib.error,
)  # fmt: skip

_META_BYTES = 1 << 16
_ANY_IMAGE = (b"mif1", b"mif2", b"mif3", b"msf1", b"miaf")  # main brands of HEIF files, whatever is packed in them

# Main brands of HEIF files with other codecs than the iPhone's: their decoder says that it lacks them.
_OTHER_CODECS = (b"avci", b"avcs", b"j2ki", b"j2is", b"jpeg", b"jpgs", b"vvic", b"vvis")


def _starts(*signatures: bytes) -> Callable[[bytes], bool]:
    return lambda data: data.startswith(signatures)


def _brand(*brands: bytes) -> Callable[[bytes], bool]:
    """Tell files of the family of MP4 by their main brand."""
    return lambda data: data[4:8] == b"ftyp" and data[8:12] in brands


def _is_avif(data: bytes) -> bool:
    """Tell an AVIF file by its main brand, or by the others where the main one is that of any image."""
    others = (data[start : start + 4] for start in range(16, min(int.from_bytes(data[:4], "big"), 256), 4))
    return _brand(b"avif", b"avis")(data) or (
        _brand(*_ANY_IMAGE)(data) and any(o in (b"avif", b"avis") for o in others)
    )


def _is_tga(data: bytes) -> bool:
    """Tell a TGA file, which has no first bytes of its own, by a header that makes sense."""
    if len(data) < 18:
        return False
    has_colours, kind, bits = data[1], data[2], data[16]
    width, height = struct.unpack("<HH", data[12:16])
    return (
        has_colours in (0, 1)
        and kind in (1, 2, 3, 9, 10, 11)
        and (kind in (1, 9)) <= (has_colours == 1)
        and bits in (1, 8, 16, 24, 32)
        and width > 0
        and height > 0
        and (data[17] & 0b11000000) == 0
    )


def _open_heif(stream: IO[bytes]) -> ImageFile.ImageFile:
    from pi_heif import HeifImageFile

    image: ImageFile.ImageFile = HeifImageFile(stream)
    return image


def _nothing_known(data: bytes) -> str:
    return ""


@dataclass(frozen=True)
class Format:
    """A format that is read.

    Attributes:
        accepts: tells the format by the file's bytes.
        open: reads the header; Pillow's plugin.
        unsupported: says what a file of this format has that is not read, "" for nothing known.
        isolated: whether it is decoded in a process of its own: by a library that prints, or that has crashed or hung.
    """

    accepts: Callable[[bytes], bool]
    open: Callable[[IO[bytes]], ImageFile.ImageFile]
    unsupported: Callable[[bytes], str] = _nothing_known
    isolated: bool = False


def _unsupported_avif(data: bytes) -> str:
    """Say whether an AVIF image is to be cropped (a `clap` box), which its decoder leaves undone."""
    start = data.find(b"clap", 0, _META_BYTES)
    if start < 0 or len(data) < start + 20:
        return ""
    width, width_divisor, height, height_divisor = struct.unpack_from(">4I", data, start + 4)
    sizes = [struct.unpack_from(">2I", data, found.end() + 4) for found in re.finditer(b"ispe", data[:_META_BYTES])]
    cropped = (width / max(width_divisor, 1), height / max(height_divisor, 1))
    return "" if cropped in sizes else "is a cropped AVIF image"


FORMATS = {
    "JPEG": Format(_starts(b"\xff\xd8\xff"), JpegImageFile, jpeg.unsupported),
    "PNG": Format(_starts(b"\x89PNG\r\n\x1a\n"), PngImageFile, png.unsupported),
    "WEBP": Format(lambda data: data[:4] == b"RIFF" and data[8:12] == b"WEBP", WebPImageFile),
    "TIFF": Format(_starts(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), tiff.open_tiff, tiff.unsupported, isolated=True),
    "AVIF": Format(_is_avif, AvifImageFile, _unsupported_avif, isolated=True),
    "HEIF": Format(
        _brand(b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", *_ANY_IMAGE, *_OTHER_CODECS),
        _open_heif,
        isolated=True,
    ),
    "BMP": Format(_starts(b"BM"), BmpImageFile),
    "GIF": Format(_starts(b"GIF87a", b"GIF89a"), GifImageFile),
    "JPEG2000": Format(
        _starts(b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  \r\n\x87\n"),
        jpeg2000.open_jpeg2000,
        jpeg2000.unsupported,
        isolated=True,
    ),
    "PSD": Format(_starts(b"8BPS"), psd.open_psd, psd.unsupported),
    "ICO": Format(_starts(b"\0\0\1\0"), IcoImageFile),
    "PPM": Format(lambda data: data[:1] == b"P" and data[1:2] in b"123456" and data[2:3].isspace(), PpmImageFile),
    "TGA": Format(_is_tga, TgaImageFile),
}  # TGA is the last: it is the least sure

_EXPORT = "export it as JPEG, PNG or TIFF"
_DEVELOP = "develop it and export it as JPEG or TIFF"
_STILL = "export one of its images as JPEG"
_HEAD = 1024
# Refused by name: what it is, what to do, and how it is told.
_REFUSED: tuple[tuple[str, str, Callable[[bytes], bool]], ...] = (
    ("a JPEG XL image", _EXPORT, _starts(b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")),
    ("a PDF document", "export the page as JPEG, PNG or TIFF", lambda data: b"%PDF-" in data[:_HEAD]),
    ("a PostScript drawing", _EXPORT, _starts(b"%!PS", b"\xc5\xd0\xd3\xc6")),
    ("an SVG drawing", "export it as PNG", lambda data: b"<svg" in data[:_HEAD].lower()),
    ("a raw photo (CR3)", _DEVELOP, _brand(b"crx ")),
    ("a raw photo (RAF)", _DEVELOP, _starts(b"FUJIFILMCCD-RAW")),
    ("a raw photo (ORF)", _DEVELOP, _starts(b"IIRO", b"IIRS", b"MMOR")),
    ("a raw photo (RW2)", _DEVELOP, _starts(b"IIU\0")),
    ("a raw photo (CRW)", _DEVELOP, lambda data: data[6:14] == b"HEAPCCDR"),
    ("a raw photo (MRW or X3F)", _DEVELOP, _starts(b"\0MRM", b"FOVb")),
    ("a JNG or MNG image", _EXPORT, _starts(b"\x8bJNG", b"\x8aMNG")),
    ("an ImageMagick image (MIFF)", _EXPORT, _starts(b"id=ImageMagick")),
    ("a PAM image", _EXPORT, _starts(b"P7\n")),
    ("a medical image (DICOM)", _EXPORT, lambda data: data[128:132] == b"DICM"),
    ("a GIMP image (XCF)", _EXPORT, _starts(b"gimp xcf")),
    ("a Clip Studio drawing", _EXPORT, _starts(b"CSFCHUNK")),
    ("an image of floating-point samples (EXR, HDR or PFM)", _EXPORT,
     _starts(b"\x76\x2f\x31\x01", b"#?RADIANCE", b"#?RGBE", b"PF\n", b"Pf\n")),
    ("an image for a graphics card or an icon (DDS or ICNS)", _EXPORT, _starts(b"DDS ", b"icns")),
    ("a video", _STILL, lambda data: data[4:8] in (b"ftyp", b"moov", b"mdat")),
    ("a video", _STILL, lambda data: data[:4] == b"\x1aE\xdf\xa3" or (data[:4], data[8:12]) == (b"RIFF", b"AVI ")),
    ("a ZIP archive, an office document or a Procreate drawing", _EXPORT, _starts(b"PK\3\4")),
    ("an office document", _EXPORT, _starts(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"{\\rtf")),
    ("a packed file", "unpack it first", _starts(b"\x1f\x8b", b"BZh", b"7z\xbc\xaf\x27\x1c", b"Rar!", b"\xfd7zXZ")),
)  # fmt: skip
# What lies in the place of an image.
_INSTEAD = (
    (b"version https://git-lfs", "a pointer of Git LFS", "run `git lfs pull`"),
    (b"\0\5\x16\7", "a file of macOS about an image (its name begins with ._)", "give the one without ._"),
)

_SIGNS_OF_UNSUPPORTED = (  # in the words of Pillow and its libraries
    "unsupported", "not supported", "unknown pixel mode", "cannot handle", "not configured", "unable to determine",
    "not implemented", "not been built in",
)  # fmt: skip


def recognise(data: bytes) -> str:
    """Return the name in `FORMATS` of a file's format.

    Args:
        data: the file's bytes.

    Raises:
        ImageError: of kind `truncated` (0 bytes), `unsupported` (another format, by its name) or `not_an_image`.
    """
    if not data:
        raise ImageError("is empty (0 bytes)", kind="truncated")
    certain = next((name for name, known in FORMATS.items() if name != "TGA" and known.accepts(data)), None)
    if certain is not None:
        return certain
    for what, advice, accepts in _REFUSED:
        if accepts(data):
            raise ImageError(f"is {what}, which is not read", advice, kind="unsupported")
    for signature, what, advice in _INSTEAD:
        if data.startswith(signature):
            raise ImageError(f"is {what}, not the image", advice, kind="not_an_image")
    if any(mark in data[:_HEAD].lower() for mark in (b"<!doctype html", b"<html")):
        raise ImageError("is a web page, not an image", "download the image itself", kind="not_an_image")
    if _is_tga(data):
        return "TGA"
    if (name := _known_to_pillow(data)) is not None:
        raise ImageError(f"is an image of the kind {name}, which is not read", _EXPORT, kind="unsupported")
    raise ImageError("is not an image in a known format (JPEG, PNG, WebP, TIFF, ...)", kind="not_an_image")


def _known_to_pillow(data: bytes) -> str | None:
    """Return the name of a format that Pillow has a plugin for and nobody takes photographs in."""
    Image.init()
    for name, (_, accepts) in Image.OPEN.items():
        try:
            if name not in FORMATS and accepts is not None and accepts(data[:16]) is True:
                return name
        except DECODER_ERRORS:
            continue
    return None


def open_image(data: bytes) -> ImageFile.ImageFile:
    """Read the header of an image file.

    Args:
        data: the file's bytes.

    Returns:
        Pillow's image, not yet decoded: the full image of a TIFF file whose first is a thumbnail, the primary one of a
        HEIF file, the first frame of an animation.

    Raises:
        ImageError: as `recognise`, and of kind `truncated` or `unsupported` where the header cannot be used.
    """
    name = recognise(data)
    known = FORMATS[name]
    if what := known.unsupported(data):
        raise ImageError(f"{what}, which is not read", _EXPORT, kind="unsupported")
    try:
        image = known.open(io.BytesIO(data))
        for xmp in ("xmp", "XML:com.adobe.xmp"):  # in which Pillow looks for an orientation, and no viewer does
            image.info.pop(xmp, None)
        return image
    except (*DECODER_ERRORS, MemoryError) as error:
        if name == "TGA":  # by a guess; it may be anything
            raise ImageError("is not an image in a known format", kind="not_an_image") from None
        raise decoder_error(error, "is damaged, cut off or not made as its format demands") from None


def decoder_error(error: Exception, damaged: str) -> ImageError:
    """Return what an error of a decoder means for the file.

    Args:
        error: one of DECODER_ERRORS, or a MemoryError.
        damaged: what is said of the file if nothing else is known.
    """
    reason = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, MemoryError) or "security limit exceeded" in reason.lower():
        return ImageError("needs more memory than there is, or than its decoder allows", kind="too_large")
    if not isinstance(error, TypeError) and any(sign in reason.lower() for sign in _SIGNS_OF_UNSUPPORTED):
        return ImageError(f"is of a kind that is not read: {reason}", _EXPORT, kind="unsupported")
    return ImageError(f"{damaged}: {reason}", kind="truncated")
