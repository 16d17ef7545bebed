"""What files say of their making: real files by Pillow, and what is damaged or not there."""

import io
import math
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from mirip.data.file_data import FILE_DATA, file_data
from mirip.data.formats import open_image


def _of(data: bytes) -> dict[str, Any]:
    return file_data(open_image(data))


def saved(kind: str = "JPEG", **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((32, 48, 3), 128, np.uint8)).save(buffer, kind, **options)
    return buffer.getvalue()


def with_exif(tags: dict[int, object], taken: str | None = None) -> bytes:
    exif = Image.Exif()
    for tag, value in tags.items():
        exif[tag] = value
    if taken is not None:
        exif.get_ifd(0x8769)[0x9003] = taken
    return saved(exif=exif)


def test_a_camera_its_software_and_the_date_are_read() -> None:
    found = _of(
        with_exif({271: "Acme", 272: "X 1", 305: "Edit 2.0", 306: "2024:05:01 00:00:00"}, "1970:01:02 12:00:00")
    )
    assert (found["camera"], found["software"], found["exif_date"]) == ("Acme X 1", "Edit 2.0", 1.5)
    assert _of(with_exif({306: "1970:01:03 00:00:00"}))["exif_date"] == 2


def test_how_a_jpeg_was_compressed_is_read() -> None:
    found = [_of(saved(progressive=way, subsampling=way * 2)) for way in (False, True)]
    assert [one["progressive"] for one in found] == ["no", "yes"]
    assert [one["chroma_subsampling"] for one in found] == ["4:4:4", "4:2:0"]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_density_and_profile_are_read(kind: str) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    found = _of(saved(kind, dpi=(300, 300), icc_profile=profile))
    assert found["dpi"] == pytest.approx(300, abs=0.1)
    assert len(found["colour_profile"]) == 12
    assert _of(saved(kind))["colour_profile"] == ""


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "GIF", "BMP"])
def test_a_file_that_says_nothing_has_nothing(kind: str) -> None:
    found = _of(saved(kind))
    assert list(found) == list(FILE_DATA)
    assert (found["camera"], found["software"], found["progressive"]) == ("", "", "no")
    assert math.isnan(found["exif_date"])
    assert found["chroma_subsampling"] == ""


@pytest.mark.parametrize("date", ["yesterday", "0000:00:00 00:00:00", "", "    :  :     :  :  "])
def test_a_date_that_is_none_is_none(date: str) -> None:
    assert math.isnan(_of(with_exif({306: date}))["exif_date"])


def test_damaged_exif_data_is_nothing() -> None:
    data = with_exif({271: "Acme"})
    start = data.index(b"Exif")
    found = _of(data[: start + 8] + b"\xff" * 12 + data[start + 20 :])
    assert found["camera"] == ""
