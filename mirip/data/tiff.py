"""What is special about TIFF files: which of several pages is the image, and grey that Pillow does not scale.

A TIFF file is a chain of directories, a page each, which may have further pages below them. Cameras and museums'
systems put a thumbnail first. Tags and values are those of TIFF 6.0, of Adobe's TIFF Tech Note 1 (SubIFDs) and of the
DNG specification.
"""

import io
import itertools
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np
from PIL import Image, TiffImagePlugin
from PIL.TiffImagePlugin import ImageFileDirectory_v2, TiffImageFile

_NEW_SUBFILE_TYPE, _SUBFILE_TYPE, _WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC = 254, 255, 256, 257, 258, 262
_PLANES, _TILE_WIDTH, _SUB_IFDS, _SAMPLE_FORMAT, _DNG_VERSION = 284, 322, 330, 339, 50706
_REDUCED, _MASK = 1, 4  # bits of NewSubfileType
_WHITE_IS_ZERO, _COLOUR_FILTERS, _LINEAR_RAW = 0, 32803, 34892
_SAMPLES = {2: "signed samples", 3: "floating-point samples", 5: "complex samples", 6: "complex samples"}
_MOST_PAGES = 200
_TURNED = "white_is_zero"  # in the info of an image whose deep grey is yet to be turned into its negative
_CANON_RAW = b"CR"  # at byte 8, after the header
_THUMBNAIL_PX = 320  # longest side; without a mark, a page of the same shape four times as large is the image


@dataclass(frozen=True)
class _Page:
    offset: int  # bytes from the file's start
    tags: ImageFileDirectory_v2

    def first(self, tag: int, default: int) -> int:
        value = self.tags.get(tag, default)
        value = value[0] if isinstance(value, tuple) and value else value
        return int(value) if isinstance(value, int | float) else default

    @property
    def size(self) -> tuple[int, int]:
        return self.first(_WIDTH, 0), self.first(_HEIGHT, 0)

    @property
    def bits(self) -> int:
        return self.first(_BITS, 1)

    @property
    def n_pixels(self) -> int:
        return self.size[0] * self.size[1]

    @property
    def is_reduced(self) -> bool:
        marked = self.first(_NEW_SUBFILE_TYPE, 0) & (_REDUCED | _MASK)
        return bool(marked) or self.first(_SUBFILE_TYPE, 1) == 2

    @property
    def is_raw(self) -> bool:
        return _DNG_VERSION in self.tags or self.first(_PHOTOMETRIC, -1) in (_COLOUR_FILTERS, _LINEAR_RAW)

    def is_thumbnail_of(self, other: "_Page") -> bool:
        """Tell whether this page is small and has the shape of another that is at least four times as large."""
        (width, height), (other_width, other_height) = self.size, other.size
        scale = other_width / max(width, 1)
        return (
            0 < max(width, height) <= _THUMBNAIL_PX and scale >= 4 and abs(height * scale - other_height) <= 2 * scale
        )


def unsupported(data: bytes) -> str:
    """Say what a TIFF file has that is not read: a camera's raw data, or samples without an agreed range."""
    if data[8:10] == _CANON_RAW:
        return "is a raw photo (CR2)"
    if data[:4] == b"MM\0+":
        return "is a BigTIFF file with the highest byte first"
    pages = _pages(data)
    if any(page.is_raw for page in pages):
        return "is a raw photo (DNG, NEF, ARW, ...)"
    if not pages:
        return ""
    page = _image_page(pages)
    if samples := _SAMPLES.get(page.first(_SAMPLE_FORMAT, 1)):
        return f"is a TIFF file with {samples}, which have no agreed range"
    if (bits := page.bits) > 16:
        return f"is a TIFF file with {bits}-bit samples, which have no agreed range"
    return ""


def open_tiff(stream: IO[bytes]) -> TiffImageFile:
    """Open a TIFF file at the page that is its image; raises what Pillow raises."""
    data = stream.read()
    pages = _pages(data)
    page = _image_page(pages) if pages else None
    turned = page is not None and page.bits > 8 and page.first(_PHOTOMETRIC, 1) == _WHITE_IS_ZERO
    if page is not None and (page is not pages[0] or turned):
        data = _starting_at(data, page, black_is_zero=turned)
    is_split = page is not None and (page.first(_PLANES, 1) == 2 or _TILE_WIDTH in page.tags)
    image = _through_libtiff(data) if is_split else TiffImageFile(io.BytesIO(data))
    image.info[_TURNED] = turned
    return image


def _through_libtiff(data: bytes) -> TiffImageFile:
    """Open a file so that libtiff decodes it, compressed or not: Pillow's own way mistakes planes and tiles.

    It is a setting of Pillow for the whole process. TIFF files are decoded in one that does one thing at a time.
    """
    TiffImagePlugin.READ_LIBTIFF = True
    try:
        return TiffImageFile(io.BytesIO(data))
    finally:
        TiffImagePlugin.READ_LIBTIFF = False


def sample_bits(image: Image.Image) -> int:
    """Return the bits a sample of a TIFF image, as its header says."""
    bits = getattr(image, "tag_v2", {}).get(_BITS, 8)
    return int(max(bits) if isinstance(bits, tuple) else bits)


def scaled_grey(image: Image.Image) -> Image.Image:
    """Bring grey of 12 or 16 bits to 0 for black and 65535 for white; other images are returned as they are.

    Args:
        image: a TIFF image, decoded.
    """
    if image.mode not in ("I;16", "I;16B", "I;16L", "I;16N"):
        return image
    values: np.ndarray = np.asarray(image).astype(np.uint16)
    if sample_bits(image) == 12:
        values = (values << 4) | (values >> 8)
    if image.info.get(_TURNED):
        values = ~values
    scaled = Image.fromarray(values)
    scaled.info = image.info
    return scaled


def _starting_at(data: bytes, page: _Page, *, black_is_zero: bool) -> bytes:
    """Return a copy of a file that starts with a page, on request as if black were its least value."""
    order = "<" if data[:2] == b"II" else ">"
    changed = bytearray(data)
    offset_code, count_code, entry_bytes = ("Q", "Q", 20) if _is_big(data) else ("I", "H", 12)
    struct.pack_into(order + offset_code, changed, 8 if _is_big(data) else 4, page.offset)
    n_entries = struct.unpack_from(order + count_code, data, page.offset)[0]
    first = page.offset + struct.calcsize(count_code)
    for entry in range(first, first + n_entries * entry_bytes, entry_bytes):
        if black_is_zero and struct.unpack_from(order + "H", data, entry)[0] == _PHOTOMETRIC:
            struct.pack_into(order + "H", changed, entry + entry_bytes - (8 if _is_big(data) else 4), 1)
    return bytes(changed)


def _image_page(pages: list[_Page]) -> _Page:
    """Return the first page, or where that is a thumbnail the largest that is none."""
    first = pages[0]
    if first.is_reduced:
        return max([page for page in pages if not page.is_reduced] or pages, key=lambda page: page.n_pixels)
    return next((page for page in pages[1:] if not page.is_reduced and first.is_thumbnail_of(page)), first)


def _pages(data: bytes) -> list[_Page]:
    """Return the pages of the chain, each followed by those below it; up to the first that is damaged."""
    return list(itertools.islice(_walk(data), _MOST_PAGES))


def _walk(data: bytes) -> Iterator[_Page]:
    stream, seen = io.BytesIO(data), set[int]()
    try:
        waiting = [ImageFileDirectory_v2(data[: 16 if _is_big(data) else 8]).next]
        while waiting:
            offset = waiting.pop(0)
            if offset in seen or not 0 < offset < len(data):
                continue
            seen.add(offset)
            tags = ImageFileDirectory_v2(data[: 16 if _is_big(data) else 8])
            stream.seek(offset)
            tags.load(stream)
            yield _Page(offset, tags)
            below = tags.get(_SUB_IFDS, ())
            below = below if isinstance(below, tuple) else (below,)
            waiting = [int(item) for item in below if isinstance(item, int)] + [tags.next or 0] + waiting
    except (OSError, SyntaxError, ValueError, TypeError, LookupError, struct.error):
        return  # what was found until then; whether the file can be used is for the decoder to say


def _is_big(data: bytes) -> bool:
    return data[:4] == b"II+\0"
