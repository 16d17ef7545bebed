"""One look at each image file: what it is, or why it cannot be used."""

import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from mirip.data.decoding import decoded
from mirip.data.duplicates import perceptual_hash
from mirip.data.image_source import ImageSource, Read
from mirip.data.pixels import encode_jpeg, shrink
from mirip.data.statistics import LONGEST_PX, measure
from mirip.errors import DataError, ImageError
from mirip.files import sha256_bytes
from mirip.interruption import awaited

REJECT_KINDS = (
    "missing", "truncated", "not_an_image", "unsupported", "too_large", "outside", "unknown_tier", "listed_twice",
)  # fmt: skip


@dataclass(frozen=True)
class Accepted:
    """A usable image.

    Attributes:
        values: the manifest's columns that come from the file.
        thumbnail: bytes of a small JPEG.
        conversions: those of CONVERSIONS in mirip.data.opened_image that the file needed.
    """

    values: dict[str, Any]
    thumbnail: bytes
    conversions: tuple[str, ...]


@dataclass(frozen=True)
class Rejected:
    """A row that cannot be used: one of REJECT_KINDS, and the reason in words."""

    kind: str
    reason: str


def refused_by_table(paths: Sequence[str], row_tiers: Sequence[str], tiers: Sequence[str]) -> dict[int, Rejected]:
    """Find the rows that the table alone shows to be unusable: listed twice, or without a known tier.

    Args:
        paths: normalised image paths.
        row_tiers: tier of each row.
        tiers: the known tiers.

    Returns:
        The refusals by 0-based position.
    """
    refused, first_row = {}, dict[str, int]()
    for position, (path, tier) in enumerate(zip(paths, row_tiers, strict=True)):
        if tier not in tiers:
            known = ", ".join(tiers)
            what = f"tier {tier!r} is not among data.tiers ({known})" if tier else "has no tier"
            refused[position] = Rejected("unknown_tier", what)
            continue  # another row of the image may have a tier
        first = first_row.setdefault(path, position + 1)
        if path and first <= position:
            said = f"is listed twice: first in row {first}"
            if tier != (other := row_tiers[first - 1]):
                said += f", where its tier is {other!r}: the two rows contradict each other"
            refused[position] = Rejected("listed_twice", said)
    return refused


def inspect_all(
    images: ImageSource,
    paths: Sequence[str],
    refused: Mapping[int, Rejected],
    max_pixels: int,
    thumbnail_px: int,
    workers: int | None = None,
) -> Iterator[Accepted | Rejected]:
    """Read and decode files in threads, and yield what came of them in order.

    Pillow decodes outside the interpreter lock. Only a few files are in flight, so that memory stays flat.

    Args:
        images: where they are.
        paths: image paths.
        refused: rows, by position, that are passed through unread.
        max_pixels: a larger image is rejected.
        thumbnail_px: longest side of a thumbnail.
        workers: threads; None means one a CPU core.

    Yields:
        One outcome a path.
    """

    def inspect(path: str, read: Read) -> Accepted | Rejected:
        try:
            return _inspect(read(path), max_pixels, thumbnail_px)
        except ImageError as error:
            return Rejected(error.kind, str(error))
        except DataError as error:  # it is not the one that was listed: the result would not be that of the listing
            raise DataError(f"{path} {error.problem}", error.advice) from None

    wanted = [path for position, path in enumerate(paths) if position not in refused]
    n_threads = workers or os.cpu_count() or 1
    pending: deque[Future[Accepted | Rejected]] = deque()
    with ThreadPoolExecutor(n_threads) as pool, images.reading(wanted) as read:
        try:
            for position, path in enumerate(paths):
                known = refused.get(position)
                pending.append(pool.submit(inspect, path, read) if known is None else _done(known))
                if len(pending) >= 4 * n_threads:
                    yield awaited(pending.popleft())
            while pending:
                yield awaited(pending.popleft())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _inspect(data: bytes, max_pixels: int, thumbnail_px: int) -> Accepted:
    with decoded(data, max_pixels=max_pixels) as image:
        height, width = image.pixels.shape[:2]
        small = shrink(image.pixels, max(LONGEST_PX, thumbnail_px))
    values = {
        "image_sha256": sha256_bytes(data),
        "width_px": width,
        "height_px": height,
        "file_bytes": len(data),
        "format": image.format,
        "perceptual_hash": perceptual_hash(small),
        **measure(small),
        "jpeg_quality": image.jpeg_quality,
        **image.file_data,
        "repaired": image.repaired,
    }
    return Accepted(values, encode_jpeg(shrink(small, thumbnail_px)), image.conversions)


def _done(outcome: Accepted | Rejected) -> Future[Accepted | Rejected]:
    future: Future[Accepted | Rejected] = Future()
    future.set_result(outcome)
    return future
