"""The local engine: image files through the backbone in this process, a bounded number of images in memory."""

import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from mirip.data.decoding import decoded
from mirip.data.image_source import ImageReader, Read, read_unchanged
from mirip.errors import DataError
from mirip.features.backbones.backbone import DINOv2FeatureExtractor, hardware
from mirip.features.backbones.transform import ImageTransform
from mirip.features.extract.engine import Computed, Failed, ImageItem, Outcome

_TICK_S = 0.2
_MOST_WAITING = 16  # batches of images that wait for more of their shape


class Prepared(NamedTuple):
    """An image as the backbone takes it: (h, w, 3) pixels, fitted."""

    item: ImageItem
    pixels: NDArray[np.uint8]


class LocalEngine:
    """The backbone in this process.

    Args:
        extractor: the backbone of the active recipe.
        images: what the items' paths are relative to.
        batch_size: images in a pass of the backbone.
        workers: threads that read, decode and transform.
        max_image_pixels: a larger image is an error.
    """

    name = "local"
    opening = ""

    def __init__(
        self,
        extractor: DINOv2FeatureExtractor,
        *,
        images: ImageReader,
        batch_size: int,
        workers: int,
        max_image_pixels: int,
    ) -> None:
        self._extractor, self._images, self._batch_size = extractor, images, batch_size
        self._workers, self._max_image_pixels = workers, max_image_pixels
        self.device = self.place = self.hardware = ""
        self.ready_at = 0.0

    def __enter__(self) -> "LocalEngine":
        used = self._extractor.device
        self.device, self.hardware, self.place = used.type, hardware(used), f"{used}, engine {self.name}"
        return self

    def __exit__(self, *error: object) -> None:
        """Do nothing: the backbone goes with the last reference to it."""

    def compute(self, items: Sequence[ImageItem]) -> Generator[Outcome, None, None]:
        """Yield the rows of each batch, and what failed on the way to it."""
        self._extractor.load()
        self.ready_at = time.monotonic()
        yield None
        transform, ahead = self._extractor.transform, self._batch_size
        with closing(
            prepared_images(items, transform, self._images, self._max_image_pixels, self._workers, ahead)
        ) as prepared:
            yield from computed(prepared, self._extractor, self._batch_size)


def prepared_images(
    items: Sequence[ImageItem],
    transform: ImageTransform,
    images: ImageReader,
    max_pixels: int,
    workers: int,
    ahead: int,
) -> Generator[Prepared | Failed | None, None, None]:
    """Read, check, decode and fit images, and yield them in order; None now and then while one is waited for.

    Args:
        items: the images.
        transform: of the recipe.
        images: what their paths are relative to.
        max_pixels: a larger image is an error.
        workers: threads that do so.
        ahead: the most images that wait to be taken, beside two a thread.
    """

    def prepare(item: ImageItem, read: Read) -> Prepared | Failed:
        try:
            data = read_unchanged(read, item.path, item.sha256)
            with decoded(data, max_pixels=max_pixels) as image:
                return Prepared(item, transform.fitted(image.pixels))
        except DataError as error:
            return Failed(item, error)

    n_threads = max(workers, 1)
    pending: deque[Future[Prepared | Failed]] = deque()
    pool = ThreadPoolExecutor(n_threads)
    try:
        with images.reading([item.path for item in items]) as read:
            for item in items:
                pending.append(pool.submit(prepare, item, read))
                if len(pending) >= ahead + 2 * n_threads:
                    yield from _awaited(pending.popleft())
            while pending:
                yield from _awaited(pending.popleft())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _awaited(image: Future[Prepared | Failed]) -> Iterator[Prepared | Failed | None]:
    """Yield an image when it comes, and None until then: where its store is away, that may be long."""
    while not image.done():
        if not wait([image], _TICK_S).done:
            yield None
    yield image.result()


def computed(
    images: Iterator[Prepared | Failed | None], extractor: DINOv2FeatureExtractor, batch_size: int
) -> Iterator[Outcome]:
    """Embed images in batches of one fixed size and one shape, and yield each batch's rows; all else is handed on.

    A smaller batch is padded: a value must not depend on what came with it. On the size itself it does, by its
    rounding: sums are taken in another order.
    """
    waiting: dict[tuple[int, ...], list[Prepared]] = {}
    n_waiting = 0
    for image in images:
        if not isinstance(image, Prepared):
            yield image
            continue
        shape = image.pixels.shape
        waiting.setdefault(shape, []).append(image)
        n_waiting += 1
        if len(waiting[shape]) < batch_size:
            if n_waiting < _MOST_WAITING * batch_size:
                continue
            shape = max(waiting, key=lambda other: len(waiting[other]))  # of very many shapes: memory is bounded
        n_waiting -= len(waiting[shape])
        yield _embedded(extractor, waiting.pop(shape), batch_size)
    for batch in waiting.values():
        yield _embedded(extractor, batch, batch_size)


def _embedded(extractor: DINOv2FeatureExtractor, batch: list[Prepared], batch_size: int) -> Computed:
    """Embed a batch, padded with black images to its fixed size."""
    height, width, _ = batch[0].pixels.shape
    images = torch.zeros(batch_size, 3, height, width, dtype=torch.uint8)
    for image, prepared in zip(images, batch, strict=False):
        image.copy_(torch.from_numpy(prepared.pixels).permute(2, 0, 1))
    features: NDArray[np.float32] = extractor(images)[: len(batch)].cpu().numpy()  # (len(batch), D)
    with np.errstate(over="ignore"):
        rows = features.astype(extractor.recipe.stored_dtype)
    return Computed([prepared.item for prepared in batch], rows, np.abs(features).max(axis=1))
