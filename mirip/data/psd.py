"""What is special about PSD files: the composite image is read, without the channels that are no colours of it.

Photoshop lays the composite over white already, and further channels may be saved selections: as transparency they
would bleach or blank the image. Layout by Adobe's "Photoshop File Formats Specification".
"""

import io
import struct
from typing import IO

from PIL.PsdImagePlugin import PsdImageFile

_HEADER = struct.Struct(">4sH6xHIIHH")  # signature, version, channels, height, width, bits, colour mode
_COLOURS = {1: 1, 2: 1, 3: 3, 4: 4, 8: 1, 9: 3}  # colour mode -> channels: grey, indexed, RGB, CMYK, duotone, Lab
_VERSION_INFO = 1057  # the image resource that says whether there is a composite
_PACKED = 1  # compression of the composite: rows by PackBits, after a table of their lengths


def unsupported(data: bytes) -> str:
    """Say what a PSD file has that is not read: other bits than 8, a colour mode without colours, or no composite."""
    if len(data) < _HEADER.size:
        return ""
    _, version, _, _, _, bits, mode = _HEADER.unpack_from(data)
    if version == 2:
        return "is a Photoshop file for large documents (PSB)"
    if bits != 8:
        return f"is a Photoshop file with {bits} bits a sample"
    if mode not in _COLOURS:
        return f"is a Photoshop file of the colour mode {mode}"
    try:
        if not _has_composite(data):
            return "is a Photoshop file saved without a composite image (Maximize Compatibility)"
    except struct.error:  # cut off, as its decoder will say
        pass
    return ""


def open_psd(stream: IO[bytes]) -> PsdImageFile:
    """Open a PSD file with its colours alone; raises what Pillow raises."""
    data = stream.read()
    signature, version, channels, height, width, bits, mode = _HEADER.unpack_from(data)
    colours = _COLOURS[mode]
    if channels > colours:
        start = _composite(data) + 2
        header = _HEADER.pack(signature, version, colours, height, width, bits, mode)
        data = header + data[_HEADER.size :]
        if int.from_bytes(data[start - 2 : start], "big") == _PACKED:
            lengths, rows = data[start : start + 2 * colours * height], data[start + 2 * channels * height :]
            data = data[:start] + lengths + rows
    return PsdImageFile(io.BytesIO(data))


def _sections(data: bytes) -> list[int]:
    """Return where colour mode data, image resources, layers and the composite begin, in bytes."""
    starts = [_HEADER.size]
    for _ in range(3):
        starts.append(starts[-1] + 4 + struct.unpack_from(">I", data, starts[-1])[0])
    return starts


def _composite(data: bytes) -> int:
    return _sections(data)[3]


def _has_composite(data: bytes) -> bool:
    _, position, end, _ = _sections(data)
    position += 4
    while position + 12 <= end:
        number, name = struct.unpack_from(">HB", data, position + 4)
        position += 6 + (name + 2) // 2 * 2
        length = struct.unpack_from(">I", data, position)[0]
        if number == _VERSION_INFO and length >= 5:
            return bool(data[position + 8])
        position += 4 + (length + 1) // 2 * 2
    return True
