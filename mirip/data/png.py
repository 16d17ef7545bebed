"""What is special about PNG files: damage beside the pixels, which is no reason to refuse them."""

import struct
import zlib

_SIGNATURE_BYTES = 8
_END = b"\0\0\0\0IEND\xaeB`\x82"


def unsupported(data: bytes) -> str:
    """Say what a PNG file has that is not read."""
    return "is a PNG packed for iPhone apps (CgBI)" if data[12:16] == b"CgBI" else ""


def repaired_png(data: bytes) -> tuple[bytes, str]:
    """Leave out damaged chunks that are no pixels, and complete a file that lacks only the mark of its end.

    Args:
        data: the file's bytes.

    Returns:
        The bytes to decode, and what is damaged in words; `data` itself and "" for a file without such damage.
    """
    chunks, damaged, position = [data[:_SIGNATURE_BYTES]], list[str](), _SIGNATURE_BYTES
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        chunk = data[position : position + 12 + length]
        if len(chunk) < 12 + length:
            break
        # A small first letter marks a chunk that a decoder can do without.
        is_spare = kind[:1].islower()
        if is_spare and zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:], "big"):
            damaged.append(f"its part {kind.decode('ascii', 'replace')} is damaged and left out")
        else:
            chunks.append(chunk)
        position += len(chunk)
        if kind == b"IEND":
            return (b"".join(chunks), "; ".join(damaged)) if damaged else (data, "")
    if data[position + 4 : position + 8] != _END[4:8]:
        chunks.append(data[position:])  # it may be cut off before its last rows too: that is for the decoder to say
    return b"".join([*chunks, _END]), "; ".join([*damaged, "the mark of its end is missing"])
