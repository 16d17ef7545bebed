"""Image files, whatever they are, as upright 8-bit sRGB pixels.

A file's format is told by its bytes (mirip.data.formats), never by its name. Formats whose libraries print, or have
been known to crash or hang, are decoded in a process of their own (mirip.data.decoder_process).
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from mirip.data.decoder_process import IsolatedImage
from mirip.data.formats import FORMATS, recognise
from mirip.data.image_files import read_file
from mirip.data.opened_image import DecodedImage, OpenedImage
from mirip.errors import ImageError

MAX_PIXELS = 200_000_000


class _InFlight:
    """Bounds the memory that all threads together decode in; an image that needs more than that goes alone."""

    def __init__(self, total: int) -> None:
        self._total, self._used = total, 0
        self._turn, self._freed = threading.Lock(), threading.Condition()

    @contextmanager
    def reserved(self, n_bytes: int) -> Iterator[None]:
        with self._turn, self._freed:  # in order of arrival, or a large image would wait for ever
            self._freed.wait_for(lambda: self._used == 0 or self._used + n_bytes <= self._total)
            self._used += n_bytes
        try:
            yield
        finally:
            with self._freed:
                self._used -= n_bytes
                self._freed.notify_all()


_IN_FLIGHT = _InFlight(4_000_000_000)


@contextmanager
def decoded(data: bytes, *, max_pixels: int = MAX_PIXELS, limit_s: float | None = None) -> Iterator[DecodedImage]:
    """Decode an image file to upright 8-bit sRGB: EXIF orientation, colour profile, alpha over white, first frame.

    16-bit values v become v / 257 rounded; an embedded profile that is broken or of another colour space is
    ignored. Safe in threads: all that are within this context at once take at most some 4 GB of memory together (or
    what one larger image takes), and further ones wait.

    Args:
        data: the file's bytes.
        max_pixels: a larger image is refused by its header.
        limit_s: seconds after which a decoder in a process of its own is given up; None: 120.

    Yields:
        The pixels and what had to be done to get them.

    Raises:
        ImageError: of kind `not_an_image`, `unsupported`, `truncated` or `too_large`; the message does not name the
            file.
    """
    with IsolatedImage(data, limit_s=limit_s) if FORMATS[recognise(data)].isolated else OpenedImage(data) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise ImageError(
                f"is too large: {width} x {height} px is more than the limit of {max_pixels} pixels",
                "raise prepare.max_image_pixels if it is meant",
                kind="too_large",
            )
        with _IN_FLIGHT.reserved(image.n_bytes):
            yield image.decode()


def decode_image(data: bytes, *, max_pixels: int = MAX_PIXELS) -> DecodedImage:
    """Decode one image file, as `decoded` does; the pixels that are returned no longer count."""
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
