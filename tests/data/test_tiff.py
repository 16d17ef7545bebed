import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mirip.data.decoding import decode_image
from mirip.errors import ImageError

_TYPES = {"H": 3, "I": 4}


def _tiff(
    *pages: tuple[np.ndarray, dict[int, Any]], order: str = "<", below_the_first: int = 0, big: bool = False
) -> bytes:
    """A TIFF file of uncompressed pages, with any tags; so many of its last pages lie below the first."""
    head, offset_code, count_code = (16, "Q", "Q") if big else (8, "I", "H")
    entry_bytes, value_bytes = (20, 8) if big else (12, 4)
    body, directories, at = b"", [], head
    chain = len(pages) - below_the_first
    prepared = []
    for pixels, tags in pages:
        data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
        bits = pixels.dtype.itemsize * 8
        values = {256: pixels.shape[1], 257: pixels.shape[0], 258: bits, 259: 1, 262: 1, 277: 1, 278: pixels.shape[0]}
        prepared.append(({**values, 273: at, 279: len(data), **tags}, data))
        body += data
        at += len(data)
    if below_the_first:
        prepared[0][0][330] = 0
    starts = []
    for tags, _ in prepared:
        starts.append(at)
        at += (8 if big else 2) + entry_bytes * len(tags) + (8 if big else 4)
    for index, (tags, _) in enumerate(prepared):
        if below_the_first and index == 0:
            assert below_the_first == 1
            tags[330] = starts[chain]
        following = starts[index + 1] if index + 1 < chain else 0
        entries = b""
        for tag, value in sorted(tags.items()):
            code = "I" if tag in (273, 279, 330) else "H"
            entries += struct.pack(order + "HH" + offset_code, tag, _TYPES[code], 1)
            entries += struct.pack(order + code, value).ljust(value_bytes, b"\0")
        directories.append(
            struct.pack(order + count_code, len(tags)) + entries + struct.pack(order + offset_code, following)
        )
    mark = b"II" if order == "<" else b"MM"
    header = struct.pack(order + "HHHQ", 43, 8, 0, starts[0]) if big else struct.pack(order + "HI", 42, starts[0])
    return mark + header + body + b"".join(directories)


def _page(height: int, width: int, shade: int) -> np.ndarray:
    return np.full((height, width), shade, np.uint8)


@pytest.mark.parametrize(("order", "big"), [("<", False), (">", False), ("<", True)])
def test_white_may_be_the_least_or_the_greatest_value(order: str, big: bool) -> None:
    values = np.array([[0, 257, 32768, 65535]], np.uint16)
    plain = decode_image(_tiff((values, {}), order=order, big=big))
    turned = decode_image(_tiff((65535 - values, {262: 0}), order=order, big=big))
    assert plain.pixels[0, :, 0].tolist() == turned.pixels[0, :, 0].tolist() == [0, 1, 128, 255]
    assert plain.conversions == turned.conversions == ("sixteen_bit", "grey")


def test_white_may_be_the_least_of_eight_bits_too() -> None:
    assert decode_image(_tiff((np.array([[0, 255]], np.uint8), {262: 0}))).pixels[0, :, 0].tolist() == [255, 0]


@pytest.mark.parametrize("order", ["<", ">"])
def test_deep_colours_in_planes_of_their_own(order: str) -> None:
    planes = np.array([[[65535, 0]], [[0, 32896]], [[257, 65535]]], np.uint16)  # (3, 1, 2)
    stacked = planes.reshape(3, 2)
    data = _tiff((stacked, {256: 2, 257: 1, 262: 2, 277: 3, 278: 1, 284: 2}), order=order)
    decoded = decode_image(_with_planes(data, order, planes))
    assert decoded.pixels.tolist() == [[[255, 0, 1], [0, 128, 255]]]


def _with_planes(data: bytes, order: str, planes: np.ndarray) -> bytes:
    """Let a file's strips be one a plane: offsets and lengths of three values stand at its end."""
    changed, size = bytearray(data), planes[0].nbytes
    start = struct.unpack_from(order + "I", data, 4)[0]
    for entry in range(start + 2, start + 2 + 12 * struct.unpack_from(order + "H", data, start)[0], 12):
        tag = struct.unpack_from(order + "H", data, entry)[0]
        if tag in (273, 279):
            values = [8 + size * index for index in range(3)] if tag == 273 else [size] * 3
            struct.pack_into(order + "HHII", changed, entry, tag, 4, 3, len(changed))
            changed += struct.pack(order + "3I", *values)
    return bytes(changed)


def test_grey_with_alpha_that_is_multiplied_in() -> None:
    pixels = np.array([[[40, 255], [0, 0]]], np.uint8)
    data = _tiff((pixels.reshape(1, 4), {256: 2, 258: 8, 277: 2, 338: 1}))
    assert decode_image(data).pixels[0, :, 0].tolist() == [40, 255]


def test_twelve_bits_reach_from_black_to_white() -> None:
    packed = np.frombuffer(bytes([0x00, 0x0F, 0xFF, 0x80, 0x08, 0x00]), np.uint8)[None]  # 0, 4095, 2048, 2048
    decoded = decode_image(_tiff((packed, {256: 4, 258: 12})))
    assert decoded.pixels[0, :, 0].tolist() == [0, 255, 128, 128]
    assert decoded.conversions == ("sixteen_bit", "grey")


@pytest.mark.parametrize(("order", "big"), [("<", False), (">", False), ("<", True)])
@pytest.mark.parametrize("below", [0, 1])
@pytest.mark.parametrize("tags", [{254: 1}, {255: 2}])
def test_a_thumbnail_in_front_is_passed_over(tags: dict[int, int], below: int, order: str, big: bool) -> None:
    data = _tiff((_page(16, 24, 10), tags), (_page(64, 96, 200), {}), order=order, below_the_first=below, big=big)
    assert decode_image(data).pixels.shape == (64, 96, 3)


def test_a_thumbnail_without_a_mark_is_passed_over() -> None:
    data = _tiff((_page(20, 30, 10), {}), (_page(160, 240, 200), {}))
    assert decode_image(data).pixels.shape == (160, 240, 3)


@pytest.mark.parametrize(
    "second", [_page(64, 96, 200), _page(400, 30, 200), _page(20, 30, 200)], ids=["larger", "another shape", "equal"]
)
def test_the_first_of_several_pages_is_taken(second: np.ndarray) -> None:
    assert decode_image(_tiff((_page(20, 30, 10), {}), (second, {}))).pixels.shape == (20, 30, 3)


def test_a_pyramid_gives_its_largest_image() -> None:
    data = _tiff((_page(64, 96, 9), {}), (_page(32, 48, 9), {254: 1}), (_page(16, 24, 9), {254: 1}))
    assert decode_image(data).pixels.shape == (64, 96, 3)


@pytest.mark.parametrize("tags", [{262: 32803}, {262: 34892}, {50706: 1}])
@pytest.mark.parametrize("below", [0, 1])
def test_a_raw_photo_is_refused_and_not_taken_at_the_size_of_its_thumbnail(below: int, tags: dict[int, int]) -> None:
    data = _tiff((_page(16, 24, 10), {254: 1}), (_page(64, 96, 200), tags), below_the_first=below)
    with pytest.raises(ImageError, match=r"a raw photo \(DNG.*export it as JPEG") as caught:
        decode_image(data)
    assert caught.value.kind == "unsupported"


def test_a_canon_raw_photo_is_refused() -> None:
    with pytest.raises(ImageError, match=r"a raw photo \(CR2\)"):
        decode_image(b"II*\0\x10\0\0\0CR\2\0" + bytes(64))


@pytest.mark.parametrize(
    ("pixels", "tags", "what"),
    [
        (np.ones((2, 2), np.float32), {339: 3}, "floating-point samples"),
        (np.ones((2, 2), np.float64), {339: 3}, "floating-point samples"),
        (np.ones((2, 2), np.uint32), {}, "32-bit samples"),
        (np.ones((2, 2), np.int16), {339: 2}, "signed samples"),
        (np.ones((2, 2), np.int8), {339: 2}, "signed samples"),
    ],
)
def test_samples_without_an_agreed_range_are_unsupported_and_not_damaged(
    pixels: np.ndarray, tags: dict[int, int], what: str
) -> None:
    with pytest.raises(ImageError, match=f"{what}.*no agreed range.*export it as JPEG") as caught:
        decode_image(_tiff((pixels, tags)))
    assert caught.value.kind == "unsupported"


def test_what_pillow_does_not_read_is_refused_by_its_name() -> None:
    with pytest.raises(ImageError, match=r"a BigTIFF file with the highest byte first.*not read: export it"):
        decode_image(_tiff((_page(16, 24, 10), {}), order=">", big=True))


def test_directories_that_point_in_a_circle_end() -> None:
    data = bytearray(_tiff((_page(16, 24, 10), {}), (_page(16, 24, 20), {})))
    first = struct.unpack("<I", data[4:8])[0]
    data[-4:] = struct.pack("<I", first)
    assert decode_image(bytes(data)).pixels.shape == (16, 24, 3)


def test_what_the_decoder_prints_is_told_with_the_file_and_not_printed(capfd: pytest.CaptureFixture[str]) -> None:
    noise = np.random.default_rng(0).integers(256, size=(300, 300, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "TIFF", compression="tiff_lzw")
    data = bytearray(buffer.getvalue())
    data[len(data) // 2 : len(data) // 2 + 500] = bytes(500)
    with pytest.raises(ImageError, match=r"is damaged or cut off.*LZWDecode") as caught:
        decode_image(bytes(data))
    assert caught.value.kind == "truncated"
    assert capfd.readouterr() == ("", "")


def test_what_the_decoder_repairs_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    dots = Image.fromarray(np.random.default_rng(0).integers(256, size=(60, 60), dtype=np.uint8)).convert("1")
    buffer = io.BytesIO()
    dots.save(buffer, "TIFF", compression="group4")
    sound = buffer.getvalue()
    assert decode_image(sound).repaired == ""
    told = [decode_image(sound[:at] + bytes(3) + sound[at + 3 :]).repaired for at in range(100, 900, 50)]
    assert any("Fax4Decode: Bad code word at line" in text for text in told)
    assert decode_image(sound).repaired == ""
    assert capfd.readouterr() == ("", "")
