"""Files as people really send them: a dozen of the sample's artworks are spoiled, each in its own way, on purpose."""

import io
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from PIL import Image, ImageDraw

from mirip.sample.artists import Artwork, generator

# What is wrong with each planted file; the last four can't be used and belong among the rejected.
PLANTED = {
    "sideways_exif": "a JPEG stored on its side, with EXIF orientation 6",
    "cmyk": "a CMYK JPEG",
    "alpha": "a PNG whose transparent rim shows the paper cut out",
    "sixteen_bit": "a grey PNG of 16 bits a pixel",
    "grey": "a JPEG of one channel",
    "palette": "a PNG of 64 colours",
    "exact_copy": "byte for byte the file of another artwork, handed in by another artist",
    "near_copy": "another artwork, a little smaller and saved again, handed in by another artist",
    "truncated": "a JPEG that ends half way",
    "not_an_image": "a text file named .jpg",
    "missing": "a row whose file is not there",
    "unknown_tier": "a row of a tier that nobody knows",
}
UNUSABLE = ("truncated", "not_an_image", "missing", "unknown_tier")
UNKNOWN_TIER = "X"
_PNG_KINDS = ("alpha", "sixteen_bit", "palette")
_PNG_SHARE = 0.06
_STREAM, _FILE_STREAM = 3, 4
_FIRST_SOUND = 10


def choose_planted(seed: int, artworks: list[Artwork]) -> tuple[dict[str, int], dict[str, int]]:
    """Return which artwork (its index) has each kind of `PLANTED`, and for both copies the index of the original.

    The original of a copy is a sound artwork by somebody else. The first artworks have none: they are what people open.
    """
    rng = generator(seed, _STREAM)
    order = rng.permutation(len(artworks)).tolist()
    spoiled = dict(zip(PLANTED, (index for index in order if index >= _FIRST_SOUND), strict=False))
    sound = [index for index in order if index not in spoiled.values()]
    originals = {}
    for kind in ("exact_copy", "near_copy"):
        thief = artworks[spoiled[kind]].artist
        originals[kind] = next(index for index in sound if artworks[index].artist != thief)
        sound.remove(originals[kind])
    return spoiled, originals


def with_copies(artworks: list[Artwork], spoiled: Mapping[str, int], originals: Mapping[str, int]) -> list[Artwork]:
    """Give a copy what its image shows: skill, medium and tier of the original, under the name of who hands it in."""
    result = list(artworks)
    for kind, source in originals.items():
        copy, original = artworks[spoiled[kind]], artworks[source]
        result[copy.index] = replace(copy, skill=original.skill, medium=original.medium, tier=original.tier)
    return result


def is_png(seed: int, index: int, kind: str | None) -> bool:
    """Say whether an artwork, planted as `kind` or not at all, is saved as PNG rather than JPEG."""
    if kind is not None:
        return kind in _PNG_KINDS
    return bool(generator(seed, _FILE_STREAM, index).uniform() < _PNG_SHARE)


def encode(image: Image.Image, seed: int, index: int, kind: str | None) -> bytes | None:
    """Return the bytes of an artwork's file, spoiled as `kind` says, or None where there is to be no file."""
    rng = generator(seed, _FILE_STREAM, index)
    png = is_png(seed, index, kind)
    rng.uniform()
    exif = None
    if kind == "missing":
        return None
    if kind == "not_an_image":
        return b"My drawing is on the other computer, I will send it on Monday.\n"
    if kind == "sideways_exif":
        exif = Image.Exif()
        exif[0x0112] = 6
        image = image.transpose(Image.Transpose.ROTATE_90)
    elif kind == "cmyk":
        image = image.convert("CMYK")
    elif kind == "alpha":
        mask = Image.new("L", image.size)
        ImageDraw.Draw(mask).rounded_rectangle((5, 5, image.width - 6, image.height - 6), 14, fill=255)
        image.putalpha(mask)
    elif kind == "sixteen_bit":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    elif kind == "grey":
        image = image.convert("L")
    elif kind == "palette":
        image = image.quantize(64)
    elif kind == "near_copy":
        image = image.resize((round(image.width * 0.96), round(image.height * 0.96)), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    if png:
        image.save(stream, "PNG")
    else:
        quality, subsampling = int(rng.integers(78, 96)), int(rng.choice([0, 2]))
        options = {} if exif is None else {"exif": exif}
        image.save(stream, "JPEG", quality=quality, subsampling=subsampling, **options)
    data = stream.getvalue()
    return data[: len(data) * 11 // 20] if kind == "truncated" else data
