"""Image files, whatever they are, as upright 8-bit sRGB pixels; read from inside one folder only.

Pillow's own limit on pixels only warns at first and is one setting for the whole process. It is switched off here,
since `decode_image` refuses a large image by its header, before a pixel is decoded.
"""

import io
import unicodedata
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from mirip.data.colour import GREY_MODES, is_deep, is_srgb, to_srgb
from mirip.data.jpeg import decode_jpeg, jpeg_quality
from mirip.errors import ImageError

Image.MAX_IMAGE_PIXELS = None
# What a warning on a damaged tag would say is said by the pixels or by the reason for the rejection.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

MAX_PIXELS = 200_000_000
# Without the formats that run a program (EPS) or that no camera, scanner or phone writes.
_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "MPO", "JPEG2000", "AVIF", "PPM", "PSD", "TGA", "ICO")
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0", b"MM\0*", b"GIF8")
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")
_UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.T,
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].T,
    8: lambda pixels: np.rot90(pixels),
}
ORIENTATIONS = tuple(_UPRIGHT)  # those of images that are not upright as they are stored
_TILE = 128  # pixels, small enough for both sides of a transposition to stay in the cache
CONVERSIONS = ("sideways_exif", "cmyk", "alpha", "sixteen_bit", "grey", "palette", "icc")


@dataclass(frozen=True)
class DecodedImage:
    """One decoded file.

    Attributes:
        pixels: uint8 of shape (H, W, 3), upright sRGB, C-contiguous.
        format: JPEG, PNG, ... as Pillow names it.
        jpeg_quality: 1 to 100, NaN where the file is not a JPEG.
        conversions: those of CONVERSIONS that the file needed.
    """

    pixels: np.ndarray
    format: str
    jpeg_quality: float
    conversions: tuple[str, ...]


def read_image_bytes(root: Path, relative: str) -> bytes:
    """Read a file that lies under `root`.

    `root` itself may be a link. A link below it may not lead out of it, not even into DVC's cache: set DVC's
    `cache.type` to reflink, hardlink or copy. A name that differs only in its Unicode normal form is found, since
    macOS decomposes accents and Hangul in file names.

    Args:
        root: the image folder.
        relative: path below it, with forward slashes.

    Returns:
        The file's bytes.

    Raises:
        ImageError: of kind `outside` or `missing`; the message does not name the file.
    """
    given = PurePosixPath(relative)
    if given.is_absolute() or PureWindowsPath(relative).drive:
        raise ImageError("is an absolute path", "give paths relative to data.images", kind="outside")
    if ".." in given.parts or ".." in PureWindowsPath(relative).parts:
        raise ImageError("leads out of data.images with '..'", "give paths below that folder", kind="outside")
    if not given.parts:
        raise ImageError("is an empty path", "name a file below data.images", kind="missing")
    try:
        path = _existing(root, relative)
        if not path.resolve().is_relative_to(root.resolve()):
            raise ImageError("is a link that leads out of data.images", "copy the file there", kind="outside")
        if not path.exists():
            raise ImageError("is missing: no such file below data.images", kind="missing")
        if not path.is_file():
            raise ImageError("is a folder or device, not a file", kind="missing")
        return path.read_bytes()
    except (OSError, ValueError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ImageError(f"cannot be read: {reason}", kind="missing") from None


def decode_image(data: bytes, *, max_pixels: int = MAX_PIXELS) -> DecodedImage:
    """Decode an image file to upright 8-bit sRGB: EXIF orientation, colour profile, alpha over white, first frame.

    16-bit values v become v / 257 rounded; an embedded profile that is broken or of another colour space is
    ignored. Safe in threads.

    Args:
        data: the file's bytes.
        max_pixels: a larger image is refused by its header.

    Returns:
        The pixels and what had to be done to get them.

    Raises:
        ImageError: of kind `not_an_image`, `truncated` or `too_large`; the message does not name the file.
    """
    image = _open(data)
    width, height = image.size
    if width * height > max_pixels:
        raise ImageError(
            f"is too large: {width} x {height} px is more than the limit of {max_pixels} pixels",
            "raise prepare.max_image_pixels if it is meant",
            kind="too_large",
        )
    # Pillow turns a TIFF upright while it decodes and then forgets the tag.
    turned = image.format == "TIFF" and _tag(image, ExifTags.Base.Orientation) in ORIENTATIONS
    sixteen_bit = _has_sixteen_bits(image, data)
    conversions: dict[str, bool] = {}
    pixels = decode_jpeg(image, data) if is_srgb(image.info.get("icc_profile")) else None
    if pixels is None:
        pixels, conversions = _decoded_by_pillow(image)
    if (orientation := _tag(image, ExifTags.Base.Orientation)) in ORIENTATIONS:
        pixels, turned = turn_upright(pixels, orientation), True
    conversions |= {"sideways_exif": turned, "sixteen_bit": sixteen_bit}
    return DecodedImage(
        pixels=pixels,
        format="JPEG" if image.format == "MPO" else str(image.format),
        jpeg_quality=jpeg_quality(getattr(image, "quantization", None) or {}),
        conversions=tuple(name for name in CONVERSIONS if conversions.get(name)),
    )


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
        return decode_image(Path(path).read_bytes(), max_pixels=max_pixels).pixels
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror or error}", kind="missing") from None
    except ImageError as error:
        raise ImageError(f"{path} {error.problem}", error.advice, kind=error.kind) from None


def turn_upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn or mirror an image.

    Args:
        pixels: uint8 of shape (H, W, 3), C-contiguous.
        orientation: one of ORIENTATIONS.

    Returns:
        uint8 of shape (H, W, 3) or (W, H, 3), C-contiguous, a new array.
    """
    view = _UPRIGHT[orientation](pixels.view("V3")[..., 0])  # (H, W, 3) -> (H, W) of three bytes each
    turned = np.empty(view.shape, view.dtype)
    for top in range(0, view.shape[0], _TILE):
        for left in range(0, view.shape[1], _TILE):
            tile = np.s_[top : top + _TILE, left : left + _TILE]
            turned[tile] = view[tile]
    return turned.view(np.uint8).reshape(*turned.shape, 3)


def shrink(pixels: np.ndarray, longest_px: int) -> np.ndarray:
    """Return pixels averaged down so that the longest side is at most `longest_px`; never enlarged.

    Args:
        pixels: uint8 of shape (H, W, 3).
        longest_px: pixels of the longest side.

    Returns:
        uint8 of shape (h, w, 3), `pixels` itself where it is small enough.
    """
    height, width = pixels.shape[:2]
    scale = longest_px / max(height, width)
    if scale >= 1:
        return pixels
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))


def encode_jpeg(pixels: np.ndarray, quality: int = 80) -> bytes:
    """Return uint8 pixels of shape (H, W, 3) as the bytes of a JPEG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _existing(root: Path, relative: str) -> Path:
    for form in (relative, unicodedata.normalize("NFC", relative), unicodedata.normalize("NFD", relative)):
        if (root / form).exists():
            return root / form
    return root / relative


def _open(data: bytes) -> Image.Image:
    if not data:
        raise ImageError("is empty (0 bytes)", kind="truncated")
    try:
        return Image.open(io.BytesIO(data), formats=_FORMATS)
    except Exception:  # as above: plugins raise more than UnidentifiedImageError on damaged headers
        if data[4:8] == b"ftyp" and data[8:12] in _HEIC_BRANDS:
            raise ImageError(
                "is a HEIC photo, which cannot be read", "convert it to JPEG", kind="not_an_image"
            ) from None
        if data.startswith(_MAGIC) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP"):
            raise ImageError("is damaged or cut off in its header", kind="truncated") from None
        raise ImageError(
            "is not an image in a known format (JPEG, PNG, WebP, TIFF, ...)", kind="not_an_image"
        ) from None


def _decoded_by_pillow(image: Image.Image) -> tuple[NDArray[np.uint8], dict[str, bool]]:
    """Decode any image to sRGB, not yet turned upright; also say what that took."""
    try:
        image.load()
    except Exception as error:  # a damaged file makes Pillow's plugins raise nearly anything
        raise ImageError(f"is damaged or cut off: {_one_line(error)}", kind="truncated") from None
    conversions = _mode_conversions(image)
    try:
        converted, conversions["icc"] = to_srgb(image)
    except (OSError, ValueError) as error:
        raise ImageError(
            f"has colours of an unknown kind ({image.mode}): {_one_line(error)}", kind="not_an_image"
        ) from None
    return np.asarray(converted).copy(), conversions  # writable; np.array would copy more than once


def _has_sixteen_bits(image: Image.Image, data: bytes) -> bool:
    """Tell whether the samples have 16 bits; Pillow reads those of colour images as 8-bit and does not say so."""
    if image.format == "PNG":
        return data[24] == 16  # IHDR: length, type, width, height, then the bit depth
    bits = _tag(image, ExifTags.Base.BitsPerSample) if image.format == "TIFF" else None
    return is_deep(image) or 16 in np.atleast_1d(np.asarray(bits if bits is not None else 8))


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
    except Exception:  # damaged EXIF data is no reason to refuse the pixels
        return None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
