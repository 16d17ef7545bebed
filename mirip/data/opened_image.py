"""One image file from its header to upright 8-bit sRGB pixels, in this process and thread.

Pillow's own limit on pixels only warns at first and is one setting for the whole process. It is switched off here: who
opens an image looks at its size, before a pixel is decoded.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from mirip.data import tiff
from mirip.data.colour import GREY_MODES, is_deep, is_srgb, to_srgb
from mirip.data.file_data import file_data
from mirip.data.formats import DECODER_ERRORS, decoder_error, open_image, recognise
from mirip.data.jpeg import decode_jpeg, jpeg_quality, repaired_jpeg
from mirip.data.pixels import ORIENTATIONS, turn_upright
from mirip.data.png import repaired_png
from mirip.errors import ImageError

Image.MAX_IMAGE_PIXELS = None
# What a warning on a damaged tag would say is said by the pixels or by the reason for the rejection.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

CONVERSIONS = ("sideways_exif", "cmyk", "alpha", "sixteen_bit", "grey", "palette", "icc")
_STRIP_PIXELS = 1 << 24
# Bytes of memory that decoding takes for each pixel, at its peak, rounded up from what was measured.
_PLAIN_JPEG, _OTHER_JPEG, _OTHER_FORMATS = 7, 12, 16


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


class OpenedImage:
    """An image file whose header was read.

    Attributes:
        size: width and height in pixels, as they are stored.

    Raises:
        ImageError: as `open_image`.
    """

    def __init__(self, data: bytes) -> None:
        self._format, self._repaired = recognise(data), ""
        if self._format == "PNG":
            data, self._repaired = repaired_png(data)
        self._data = data
        self._image = open_image(data)
        self.size: tuple[int, int] = self._image.size
        self._is_srgb = is_srgb(self._image.info.get("icc_profile"))

    def __enter__(self) -> "OpenedImage":
        return self

    def __exit__(self, *error: object) -> None:
        self._image.close()

    @property
    def n_bytes(self) -> int:
        """About how many bytes of memory `decode` takes at its peak."""
        width, height = self.size
        is_plain = self._image.mode in ("RGB", "L") and self._is_srgb
        if self._format == "JPEG":
            return width * height * (_PLAIN_JPEG if is_plain else _OTHER_JPEG)
        return width * height * _OTHER_FORMATS

    def decode(self) -> DecodedImage:
        """Decode the file in this process and thread, however large it is.

        Raises:
            ImageError: of kind `truncated`, `unsupported` or `too_large`.
        """
        image, data = self._image, self._data
        # Pillow turns a TIFF upright while it decodes and then forgets the tag.
        turned = self._format == "TIFF" and _tag(image, ExifTags.Base.Orientation) in ORIENTATIONS
        sixteen_bit, repaired, pixels = self._has_sixteen_bits(), self._repaired, None
        conversions = _mode_conversions(image)
        if self._format == "JPEG" and self._is_srgb:
            pixels = decode_jpeg(image, data)
        if pixels is None:
            if self._format == "JPEG":
                whole, repaired = repaired_jpeg(data, image.mode)
                image = image if whole is data else open_image(whole)
            pixels, conversions = self._decoded_by_pillow(image)
        # Asked for the EXIF data of a PNG, Pillow loads it: what it raises must not be taken for damaged EXIF data.
        if (orientation := _tag(image, ExifTags.Base.Orientation)) in ORIENTATIONS:
            pixels, turned = turn_upright(pixels, orientation), True
        conversions |= {"sideways_exif": turned, "sixteen_bit": sixteen_bit}
        return DecodedImage(
            pixels=pixels,
            format=self._format,
            jpeg_quality=jpeg_quality(getattr(image, "quantization", None) or {}),
            file_data=file_data(image),
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
        return _as_array(converted), conversions


def _as_array(image: Image.Image) -> NDArray[np.uint8]:
    """Return the pixels of an RGB image, writable; of large ones by strips, since Pillow copies what it gives."""
    width, height = image.size
    pixels = np.empty((height, width, 3), np.uint8)
    rows = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        strip = image if rows >= height else image.crop((0, top, width, bottom))
        pixels[top:bottom] = np.asarray(strip)
    return pixels


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
