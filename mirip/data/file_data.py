"""What a file says of its making beside its pixels: camera, software, date, density, profile, compression.

None of it is quality, and a ranker may see traces of it. To add one, write a function of Pillow's image and list it in
`FILE_DATA`, with "" or NaN where a file does not say; name it in `file_predictors` of mirip/metrics/columns.py too.
"""

import math
import struct
from collections.abc import Callable
from datetime import datetime
from typing import Any

from PIL import ExifTags, Image, JpegImagePlugin

from mirip.files import sha256_bytes

_SUBSAMPLINGS = {0: "4:4:4", 1: "4:2:2", 2: "4:2:0"}
_SECONDS_A_DAY = 86_400
_ERRORS = (OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, EOFError, struct.error)


def camera(image: Image.Image) -> str:
    """Return make and model by EXIF."""
    return " ".join(filter(None, (_text(image, ExifTags.Base.Make), _text(image, ExifTags.Base.Model))))


def software(image: Image.Image) -> str:
    """Return the software by EXIF."""
    return _text(image, ExifTags.Base.Software)


def exif_date(image: Image.Image) -> float:
    """Return when the picture was taken by EXIF, or else when the file was changed, in days since 1970."""
    taken = image.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.DateTimeOriginal)
    text = str(taken or _text(image, ExifTags.Base.DateTime)).strip("\0 ")
    return (datetime.strptime(text, "%Y:%m:%d %H:%M:%S") - datetime(1970, 1, 1)).total_seconds() / _SECONDS_A_DAY


def dpi(image: Image.Image) -> float:
    """Return the horizontal density in dots an inch."""
    value = float(image.info["dpi"][0])
    return value if math.isfinite(value) else math.nan


def colour_profile(image: Image.Image) -> str:
    """Return the first digits of the embedded profile's sha256."""
    profile = image.info.get("icc_profile")
    return sha256_bytes(profile)[:12] if profile else ""


def progressive(image: Image.Image) -> str:
    """Return whether a JPEG is progressive, as yes or no."""
    return "yes" if image.info.get("progressive") else "no"


def chroma_subsampling(image: Image.Image) -> str:
    """Return how much a JPEG's colours are thinned out, as 4:2:0."""
    return _SUBSAMPLINGS.get(JpegImagePlugin.get_sampling(image), "")


# Name of the manifest's column -> what reads it, and the column's type.
FILE_DATA: dict[str, tuple[Callable[[Image.Image], Any], str]] = {
    "camera": (camera, "str"),
    "software": (software, "str"),
    "exif_date": (exif_date, "float64"),
    "dpi": (dpi, "float32"),
    "colour_profile": (colour_profile, "str"),
    "progressive": (progressive, "str"),
    "chroma_subsampling": (chroma_subsampling, "str"),
}


def file_data(image: Image.Image) -> dict[str, Any]:
    """Return every entry of `FILE_DATA` of an image by its name; "" or NaN where its file does not say, or is damaged.

    Args:
        image: as it was opened from the file.
    """
    return {name: _read(function, image, dtype) for name, (function, dtype) in FILE_DATA.items()}


def _read(function: Callable[[Image.Image], Any], image: Image.Image, dtype: str) -> Any:
    try:
        return function(image)
    except _ERRORS:  # what cameras write is often wrong, and no reason to refuse the pixels
        return "" if dtype == "str" else math.nan


def _text(image: Image.Image, tag: int) -> str:
    return " ".join(str(image.getexif().get(tag) or "").replace("\0", " ").split())
