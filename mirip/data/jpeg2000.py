"""What is special about JPEG 2000 files: the colour profile of a JP2 file, and forms that Pillow decodes wrongly.

Boxes and markers are those of ISO/IEC 15444-1, annexes A and I.
"""

import struct
from collections.abc import Iterator
from typing import IO

from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile

_CODESTREAM, _COMPONENTS = b"\xff\x4f\xff\x51", 40  # start and size markers; bytes from there to the components
_PROFILE = 2  # method of a colour specification: an ICC profile
_COLOUR = 0  # type of a channel


def unsupported(data: bytes) -> str:
    """Say what a file has that is not read: deep or subsampled colours, or channels in another order."""
    start = data.find(_CODESTREAM)
    parts = data[start + _COMPONENTS :]
    if start < 0 or len(parts) < 2:
        return ""
    count = int.from_bytes(parts[:2], "big")
    components = list(struct.iter_unpack("BBB", parts[2 : 2 + 3 * count])) if len(parts) >= 2 + 3 * count else []
    bits = max(((depth & 127) + 1 for depth, _, _ in components), default=8)
    if len(components) > 1 and bits > 8:
        return f"is a JPEG 2000 image with {bits} bits a sample in colour"
    if any((across, down) != (1, 1) for _, across, down in components):
        return "is a JPEG 2000 image with subsampled colours"
    boxes = dict(_boxes(data))
    channels = struct.iter_unpack(">HHH", _whole(boxes.get(b"cdef", b"")[2:], 6))
    columns = struct.iter_unpack(">HBB", _whole(boxes.get(b"cmap", b""), 4))
    in_order = all(place == number + 1 for number, kind, place in channels if kind == _COLOUR)
    if not in_order or any(column != (0, 1, index) for index, column in enumerate(columns)):
        return "is a JPEG 2000 image with its colours in another order"
    return ""


def open_jpeg2000(stream: IO[bytes]) -> Jpeg2KImageFile:
    """Open a file, with the colour profile that Pillow leaves out; raises what Pillow raises."""
    data = stream.read()
    stream.seek(0)
    image = Jpeg2KImageFile(stream)
    colours = dict(_boxes(data)).get(b"colr", b"")
    if colours[:1] == bytes([_PROFILE]):
        image.info.setdefault("icc_profile", colours[3:])
    return image


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield type and content of the boxes in a JP2 file's header, and of those beside it that are no image data."""
    position = 0
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        if length < 8 or kind == b"jp2c":
            return
        content = data[position + 8 : position + length]
        if kind == b"jp2h":
            yield from _boxes(content)
        else:
            yield kind, content
        position += length


def _whole(content: bytes, size: int) -> bytes:
    return content[: len(content) // size * size]
