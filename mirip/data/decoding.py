"""Image files, whatever they are, as upright 8-bit sRGB pixels.

A file's format is told by its bytes (mirip.data.formats), never by its name. Formats whose libraries print, or have
been known to crash or hang, are decoded in a process of their own (mirip.data.decoder_process).

Pillow's own limit on pixels only warns at first and is one setting for the whole process. It is switched off here,
since a large image is refused by its header, before a pixel is decoded.
"""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from mirip.data import tiff
from mirip.data.colour import GREY_MODES, is_deep, is_srgb, to_srgb
from mirip.data.decoder_process import IsolatedImage
from mirip.data.file_data import file_data
from mirip.data.formats import DECODER_ERRORS, FORMATS, decoder_error, open_image, recognise
from mirip.data.image_files import read_file
from mirip.data.jpeg import decode_jpeg, jpeg_quality, repaired_jpeg
from mirip.data.pixels import ORIENTATIONS, turn_upright
from mirip.errors import ImageError

Image.MAX_IMAGE_PIXELS = None
# What a warning on a damaged tag would say is said by the pixels or by the reason for the rejection.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

MAX_PIXELS = 200_000_000
CONVERSIONS = ("sideways_exif", "cmyk", "alpha", "sixteen_bit", "grey", "palette", "icc")


@dataclass(frozen=True)
class DecodedImage:
    """One decoded file.

    Attributes:
        pixels: uint8 of shape (H, W, 3), upright sRGB, C-contiguous.
        format: a name of mirip.data.formats.FORMATS.
        jpeg_quality: 1 to 100, NaN where the file is not a JPEG.
        file_data: what the file says of its making, the values of mirip.data.file_data.
        conversions: those of CONVERSIONS that the file needed.
        repaired: what the decoder found damaged and repaired, in words; "" for a sound file.
    """

    pixels: np.ndarray
    format: str
    jpeg_quality: float
    file_data: dict[str, Any]
    conversions: tuple[str, ...]
    repaired: str = ""


class _InFlight:
    """Bounds the pixels that all threads together have in memory; a larger image than that goes alone."""

    def __init__(self, total: int) -> None:
        self._total, self._used = total, 0
        self._turn, self._freed = threading.Lock(), threading.Condition()

    @contextmanager
    def reserved(self, n_pixels: int) -> Iterator[None]:
        with self._turn, self._freed:  # in order of arrival, or a large image would wait for ever
            self._freed.wait_for(lambda: self._used == 0 or self._used + n_pixels <= self._total)
            self._used += n_pixels
        try:
            yield
        finally:
            with self._freed:
                self._used -= n_pixels
                self._freed.notify_all()


# A pixel takes up to ten bytes while it is decoded, so some 2 GB whatever the number of threads.
_IN_FLIGHT = _InFlight(MAX_PIXELS)


@contextmanager
def decoded(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Iterator[DecodedImage]:
    """Decode an image file to upright 8-bit sRGB: EXIF orientation, colour profile, alpha over white, first frame.

    16-bit values v become v / 257 rounded; an embedded profile that is broken or of another colour space is
    ignored. Safe in threads: all that are within this context at once hold at most 200 million pixels together (or
    one larger image), and further ones wait.

    Args:
        data: the file's bytes.
        max_pixels: a larger image is refused by its header.

    Yields:
        The pixels and what had to be done to get them.

    Raises:
        ImageError: of kind `not_an_image`, `unsupported`, `truncated` or `too_large`; the message does not name the
            file.
    """
    with IsolatedImage(data) if FORMATS[recognise(data)].isolated else OpenedImage(data) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise ImageError(
                f"is too large: {width} x {height} px is more than the limit of {max_pixels} pixels",
                "raise prepare.max_image_pixels if it is meant",
                kind="too_large",
            )
        with _IN_FLIGHT.reserved(width * height):
            yield image.decode()


def decode_image(data: bytes, *, max_pixels: int = MAX_PIXELS) -> DecodedImage:
    """Decode one image file, as `decoded` does; the pixels that are returned count no more as in flight."""
    with decoded(data, max_pixels=max_pixels) as image:
        return image


def read_pixels(path: Path | str, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read any image file as upright sRGB pixels.

    Args:
        path: the file, anywhere.
        max_pixels: a larger image is refused by its header.

    Returns:
        uint8 of shape (H, W, 3).

    Raises:
        ImageError: the file is missing or cannot be decoded; the message names it.
    """
    try:
        return decode_image(read_file(Path(path)), max_pixels=max_pixels).pixels
    except ImageError as error:
        raise ImageError(f"{path} {error.problem}", error.advice, kind=error.kind) from None


class OpenedImage:
    """An image file whose header was read.

    Attributes:
        size: width and height in pixels, as they are stored.

    Raises:
        ImageError: as `open_image`.
    """

    def __init__(self, data: bytes) -> None:
        self._data, self._format = data, recognise(data)
        self._image = open_image(data)
        self.size: tuple[int, int] = self._image.size

    def __enter__(self) -> "OpenedImage":
        return self

    def __exit__(self, *error: object) -> None:
        self._image.close()

    def decode(self) -> DecodedImage:
        """Decode the file in this process and thread, however large it is.

        Raises:
            ImageError: of kind `truncated`, `unsupported` or `too_large`.
        """
        image, data = self._image, self._data
        # Pillow turns a TIFF upright while it decodes and then forgets the tag.
        turned = self._format == "TIFF" and _tag(image, ExifTags.Base.Orientation) in ORIENTATIONS
        sixteen_bit, found = self._has_sixteen_bits(), file_data(image)
        quality = jpeg_quality(getattr(image, "quantization", None) or {})
        repaired, pixels = "", None
        conversions = _mode_conversions(image)
        if self._format == "JPEG" and is_srgb(image.info.get("icc_profile")):
            pixels = decode_jpeg(image, data)
        if pixels is None:
            if self._format == "JPEG":
                whole, repaired = repaired_jpeg(data, image.mode)
                image = image if whole is data else open_image(whole)
            elif self._format == "PNG" and b"IEND" not in data:
                repaired = "the mark of its end is missing"
            pixels, conversions = self._decoded_by_pillow(image)
        if (orientation := _tag(image, ExifTags.Base.Orientation)) in ORIENTATIONS:
            pixels, turned = turn_upright(pixels, orientation), True
        conversions |= {"sideways_exif": turned, "sixteen_bit": sixteen_bit}
        return DecodedImage(
            pixels=pixels,
            format=self._format,
            jpeg_quality=quality,
            file_data=found,
            conversions=tuple(name for name in CONVERSIONS if conversions.get(name)),
            repaired=repaired,
        )

    def _has_sixteen_bits(self) -> bool:
        """Tell whether samples have 12 or 16 bits; Pillow reads those of colour images as 8-bit and does not say so."""
        if self._format == "PNG":
            return self._data[24] == 16  # IHDR: length, type, width, height, then the bit depth
        return is_deep(self._image) or (self._format == "TIFF" and tiff.sample_bits(self._image) > 8)

    def _decoded_by_pillow(self, image: Image.Image) -> tuple[NDArray[np.uint8], dict[str, bool]]:
        """Decode any image to sRGB, not yet turned upright; also say what that took."""
        try:
            image.load()
        except (*DECODER_ERRORS, MemoryError) as error:
            raise decoder_error(error, "is damaged or cut off") from None
        conversions = _mode_conversions(image)
        try:
            converted, conversions["icc"] = to_srgb(tiff.scaled_grey(image) if self._format == "TIFF" else image)
        except (OSError, ValueError) as error:
            problem = f"has colours of a kind that is not read ({image.mode}): {' '.join(str(error).split())}"
            raise ImageError(problem, kind="unsupported") from None
        return np.asarray(converted).copy(), conversions  # writable; np.array would copy more than once


def _mode_conversions(image: Image.Image) -> dict[str, bool]:
    return {
        "cmyk": image.mode == "CMYK",
        "alpha": image.has_transparency_data,
        "grey": image.mode in GREY_MODES or is_deep(image),
        "palette": image.mode in ("P", "PA"),
    }


def _tag(image: Image.Image, tag: int) -> Any:
    try:
        return image.getexif().get(tag)
    except DECODER_ERRORS:  # damaged EXIF data is no reason to refuse the pixels
        return None
