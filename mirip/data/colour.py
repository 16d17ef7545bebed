"""Any mode that an image may be stored in, as RGB in sRGB over white."""

import io

import numpy as np
from PIL import Image, ImageCms

GREY_MODES = ("1", "L", "LA", "La")


def is_deep(image: Image.Image) -> bool:
    """Tell whether a grey image holds integer samples of more than 8 bits."""
    return image.mode == "I" or image.mode.startswith("I;16")


def to_srgb(image: Image.Image) -> tuple[Image.Image, bool]:
    """Convert a decoded image to RGB over white.

    16-bit values v become v / 257 rounded. An embedded profile that is broken or of another colour space is
    ignored, and one that says sRGB needs no work.

    Args:
        image: an image of any mode, decoded.

    Returns:
        The image in mode RGB (itself where there was nothing to do), and whether an embedded colour profile was
        applied.

    Raises:
        ValueError: the mode has no agreed meaning as an image: floating-point or 32-bit samples.
    """
    profile = image.info.get("icc_profile")
    colour, alpha = _colour_and_alpha(image)
    converted = _apply_profile(colour, profile)
    result = colour if converted is None else converted
    if result.mode != "RGB":
        result = result.convert("RGB")
    if alpha is not None:
        canvas = Image.new("RGB", image.size, "white")
        canvas.paste(result, mask=alpha)
        result = canvas
    return result, bool(profile) and converted is not None


def is_srgb(profile: bytes | None) -> bool:
    """Tell whether RGB pixels with this embedded profile are taken as sRGB: it says so, is broken, or there is none."""
    if not profile:
        return True
    try:
        description = ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile.profile_description
    except (OSError, ValueError, TypeError, ImageCms.PyCMSError):
        return True
    return str(description or "").startswith("sRGB")


def _colour_and_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Return the image in mode L, RGB, CMYK or LAB, and its alpha channel where it has one."""
    if is_deep(image):
        clear = image.info.get("transparency")  # the grey value that stands for nothing
        if not isinstance(clear, int):
            return _eight_bit(image), None
        shown = np.asarray(image) != clear
        return _eight_bit(image), Image.fromarray(np.where(shown, 255, 0).astype(np.uint8))
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode == "F":
        raise ValueError("floating-point samples have no agreed range, save it with 8 or 16 bits")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return rgba.getchannel("R") if image.mode in GREY_MODES else rgba.convert("RGB"), rgba.getchannel("A")
    if image.mode in ("L", "RGB", "CMYK", "LAB"):
        return image, None
    return image.convert("L" if image.mode == "1" else "RGB"), None


def _eight_bit(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    if values.dtype != np.uint16:
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("32-bit samples have no agreed range, save it with 8 or 16 bits")
        values = values.astype(np.uint16)
    rounded = (np.arange(65536) + 128) // 257
    return Image.fromarray(rounded.astype(np.uint8)[values])


def _apply_profile(image: Image.Image, profile: bytes | None) -> Image.Image | None:
    """Convert an L, RGB, CMYK or LAB image to sRGB; None where there is nothing (usable) to apply."""
    try:
        if image.mode == "LAB":
            source = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
        elif profile and not is_srgb(profile):
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        else:
            return None
        return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (OSError, ValueError, TypeError, ImageCms.PyCMSError):
        return None
