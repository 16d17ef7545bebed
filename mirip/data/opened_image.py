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
from mirip.errors import ImageError

Image.MAX_IMAGE_PIXELS = None
# What a warning on a damaged tag would say is said by the pixels or by the reason for the rejection.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

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
