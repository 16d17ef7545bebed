"""The expensive part: files to features, a bounded number of images in memory, every batch kept at once."""

import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from types import FrameType
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from mirip.data.decoding import decoded
from mirip.data.image_source import ImageSource, Read, read_unchanged
from mirip.errors import CacheError, DataError, ImageError
from mirip.features.backbones.backbone import DINOv2FeatureExtractor
from mirip.features.backbones.transform import ImageTransform
from mirip.features.cache.store import FeatureStore
from mirip.progress import Progress

_LOOKS_S = 0.2  # how often Ctrl-C is looked for while an image is waited for
_MOST_WAITING = 16  # batches of images that wait for more of their shape


class ImageItem(NamedTuple):
    """One image content: its sha256 in hexadecimal, and a file below the image root that holds it."""

    sha256: str
    path: str


class _Prepared(NamedTuple):
    item: ImageItem
    pixels: NDArray[np.uint8]  # (h, w, 3), fitted


class _Failed(NamedTuple):
    item: ImageItem
    error: DataError


def compute_features(
    items: Sequence[ImageItem],
    extractor: DINOv2FeatureExtractor,
    store: FeatureStore,
    *,
    images: ImageSource,
    batch_size: int,
    workers: int,
    max_image_pixels: int,
    visible: bool = True,
) -> None:
    """Compute the features of `items` and keep each batch in the store as soon as it is done.

    Batches have one fixed size and hold images of one shape; a smaller one is padded: a value must not depend on
    what came with it. On the size itself it does, by its rounding: sums are taken in another order.

    Args:
        items: images that the store lacks.
        extractor: the backbone of the active recipe.
        store: where the rows go.
        images: what the items' paths are relative to.
        batch_size: images in a pass of the backbone.
        workers: threads that read, decode and transform.
        max_image_pixels: a larger image is an error.
        visible: show progress on stderr.

    Raises:
        ImageError: a file cannot be decoded; all the others are computed and kept first.
        DataError: a file is not the one that was prepared; likewise.
        CacheError: a feature is not finite in the stored dtype, or cannot be written.
        BackboneError: the backbone cannot be loaded.
        KeyboardInterrupt: after Ctrl-C, when the batch in work is kept.
    """
    extractor.load()
    failures: list[_Failed] = []
    done = 0
    with _patient_interrupt() as interrupted, Progress("extract", len(items), "image", visible=visible) as progress:
        outcomes = _prepared(items, extractor.transform, images, max_image_pixels, workers, batch_size, interrupted)
        with closing(outcomes):
            for batch in _batches(outcomes, batch_size, failures):
                _keep(store, batch, _embedded(extractor, batch, batch_size), extractor.recipe.stored_dtype)
                done += len(batch)
                progress.update(len(batch))
                if interrupted.is_set():
                    break
    if interrupted.is_set() and done + len(failures) < len(items):
        _say(f"stopped with {done} of {len(items)} new images kept: run the same command again to go on")
        raise KeyboardInterrupt
    if failures:
        item, error = failures[0]
        others = f" (and {len(failures) - 1} more files)" if len(failures) > 1 else ""
        problem = f"{item.path} {error.problem}{others}; the features of the other {done} new images are kept"
        if isinstance(error, ImageError):
            raise ImageError(problem, error.advice, kind=error.kind)
        raise DataError(problem, error.advice)


def _prepared(
    items: Sequence[ImageItem],
    transform: ImageTransform,
    images: ImageSource,
    max_pixels: int,
    workers: int,
    batch_size: int,
    interrupted: threading.Event,
) -> Generator[_Prepared | _Failed, None, None]:
    """Yield fitted images in order, at most a batch and two a thread ahead; after Ctrl-C, wait for no more of them."""

    def prepare(item: ImageItem, read: Read) -> _Prepared | _Failed:
        try:
            data = read_unchanged(read, item.path, item.sha256)
            with decoded(data, max_pixels=max_pixels) as image:
                return _Prepared(item, transform.fitted(image.pixels))
        except DataError as error:
            return _Failed(item, error)

    n_threads = max(workers, 1)
    pending: deque[Future[_Prepared | _Failed]] = deque()
    pool = ThreadPoolExecutor(n_threads)
    try:
        with images.reading([item.path for item in items]) as read:
            for item in items:
                pending.append(pool.submit(prepare, item, read))
                if len(pending) >= batch_size + 2 * n_threads:
                    if not _is_there(pending[0], interrupted):
                        return
                    yield pending.popleft().result()
            while pending and _is_there(pending[0], interrupted):
                yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _is_there(outcome: Future[_Prepared | _Failed], interrupted: threading.Event) -> bool:
    """Wait for an outcome, and tell whether it came: an image may be long in coming where its store is away."""
    while not outcome.done() and not interrupted.is_set():
        wait([outcome], _LOOKS_S)
    return not interrupted.is_set()


def _batches(
    outcomes: Iterator[_Prepared | _Failed], batch_size: int, failures: list[_Failed]
) -> Iterator[list[_Prepared]]:
    """Yield full batches of one shape and last smaller ones; what failed goes to `failures`."""
    waiting: dict[tuple[int, ...], list[_Prepared]] = {}
    n_waiting = 0
    for outcome in outcomes:
        if isinstance(outcome, _Failed):
            failures.append(outcome)
            continue
        shape = outcome.pixels.shape
        waiting.setdefault(shape, []).append(outcome)
        n_waiting += 1
        if len(waiting[shape]) < batch_size:
            if n_waiting < _MOST_WAITING * batch_size:
                continue
            shape = max(waiting, key=lambda other: len(waiting[other]))  # of very many shapes: memory is bounded
        n_waiting -= len(waiting[shape])
        yield waiting.pop(shape)
    yield from waiting.values()


def _embedded(extractor: DINOv2FeatureExtractor, batch: list[_Prepared], batch_size: int) -> NDArray[np.float32]:
    """Embed a batch, padded with black images to its fixed shape, as (len(batch), D) float32."""
    height, width, _ = batch[0].pixels.shape
    images = torch.zeros(batch_size, 3, height, width, dtype=torch.uint8)
    for image, prepared in zip(images, batch, strict=False):
        image.copy_(torch.from_numpy(prepared.pixels).permute(2, 0, 1))
    embeddings: NDArray[np.float32] = extractor(images)[: len(batch)].cpu().numpy()
    return embeddings


def _keep(store: FeatureStore, batch: list[_Prepared], features: NDArray[np.float32], dtype: str) -> None:
    with np.errstate(over="ignore"):
        stored = features.astype(dtype)
    finite = np.isfinite(stored).all(axis=1)
    if finite.any():
        store.add([prepared.item.sha256 for prepared, good in zip(batch, finite, strict=True) if good], stored[finite])
    if not finite.all():
        first = int(np.argmin(finite))
        raise CacheError(
            f"{batch[first].item.path} has features that are not finite as {dtype} (largest "
            f"{np.abs(features[first]).max():.3g}, float16 ends at 65504)",
            "set the recipe's stored_dtype to float32, or its compute_dtype if that is not enough",
        )


@contextmanager
def _patient_interrupt() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into an event, so that the batch in work is kept; the second stops at once."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def note(number: int, frame: FrameType | None) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()
        # print is not safe in a signal handler
        os.write(2, b"extract: stopping when this batch is kept; Ctrl-C again stops at once\n")

    before = signal.signal(signal.SIGINT, note)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)


def _say(message: str) -> None:
    print(f"extract: {message}", file=sys.stderr, flush=True)
