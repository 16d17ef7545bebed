"""The queue behind the API: images wait for a decoder, then for the one thread that embeds and scores them.

The queue counts images, not requests, and refuses what goes beyond its length. What a client no longer waits for, or
what is past its deadline, is dropped before it is decoded and again before it is embedded. A batch is never larger than
the model's.
"""

import asyncio
import ctypes
import io
import logging
import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

from mirip.data.decoding import decoded
from mirip.data.formats import recognise
from mirip.errors import ImageError
from mirip.models.trained_ranker import BATCH_SIZE, ImageProblem, Scored, TrainedRanker
from mirip.serve.problems import HttpProblem
from mirip.serve.settings import ServeSettings

if TYPE_CHECKING:
    from mirip.models.trained_ranker import Embedded, Prepared
    from mirip.serve.uploads import UploadedImage

_LOG = logging.getLogger("mirip.serve")
_FOR_MORE_S = 0.004  # a batch waits so long for images that are being decoded
_RETRY_AFTER_S = 2
PREVIEW_PX = 1600
# Names in mirip.data.formats.FORMATS -> what a file of it may be declared as.
_TYPES = {
    "JPEG": ("image/jpeg", "image/jpg", "image/pjpeg", "image/mpo"),
    "PNG": ("image/png", "image/apng", "image/x-png"),
    "WEBP": ("image/webp",),
    "TIFF": ("image/tiff", "image/tiff-fx"),
    "HEIF": ("image/heic", "image/heif", "image/heic-sequence", "image/heif-sequence"),
    "AVIF": ("image/avif", "image/avif-sequence"),
    "BMP": ("image/bmp", "image/x-bmp", "image/x-ms-bmp"),
}
_UNDECLARED = ("", "application/octet-stream", "image/*")


class _Job:
    """The images of one request."""

    def __init__(self, deadline: float) -> None:
        self.deadline, self.abandoned = deadline, False

    @property
    def is_awaited(self) -> bool:
        return not self.abandoned and time.monotonic() < self.deadline


class _Item:
    """One image on its way; `data` is let go when it is decoded."""

    def __init__(self, image: "UploadedImage", job: _Job, future: "asyncio.Future[Scored | ImageProblem]") -> None:
        self.data: bytes = image.data
        self.content_type, self.job, self.future = image.content_type, job, future
        self.loop = future.get_loop()


class ScoringService:
    """Scores images for many requests at once.

    Args:
        ranker: the trained model.
        settings: the limits.
    """

    def __init__(self, ranker: TrainedRanker, settings: ServeSettings) -> None:
        self.ranker, self._settings = ranker, settings
        self._lock = threading.Lock()
        self._n_waiting = self._n_decoding = 0
        self._ready: queue.SimpleQueue[tuple[_Item, Prepared | Embedded] | None] = queue.SimpleQueue()
        self._decoders = ThreadPoolExecutor(settings.workers, thread_name_prefix="decode")
        self._worker = threading.Thread(target=self._work, name="score", daemon=True)

    def start(self) -> None:
        """Start the thread that scores."""
        self._worker.start()

    def stop(self) -> None:
        """Drop what waits and end the threads."""
        self._decoders.shutdown(wait=False, cancel_futures=True)
        self._ready.put(None)
        self._worker.join(timeout=5)

    @property
    def n_waiting(self) -> int:
        """Images that were taken and have no result yet."""
        return self._n_waiting

    @property
    def is_alive(self) -> bool:
        """Whether the thread that scores runs."""
        return self._worker.is_alive()

    async def score(self, images: list["UploadedImage"]) -> list[Scored | ImageProblem]:
        """Score the images of one request, in their order.

        Args:
            images: is emptied: an image's bytes are let go as soon as it is decoded.

        Raises:
            HttpProblem: 429, the queue is full; 504, they were not scored in time.
        """
        self._take(len(images))
        loop, job = asyncio.get_running_loop(), _Job(time.monotonic() + self._settings.deadline_s)
        items = [_Item(image, job, loop.create_future()) for image in images]
        images.clear()
        for item in items:
            self._decoders.submit(self._prepare, item)
        try:
            async with asyncio.timeout(self._settings.deadline_s):
                return list(await asyncio.gather(*(item.future for item in items)))
        except TimeoutError:
            raise self._too_late() from None
        finally:
            job.abandoned = True

    async def preview(self, image: "UploadedImage") -> bytes:
        """Return an image as a JPEG file to look at, upright, its longer side at most PREVIEW_PX.

        Raises:
            HttpProblem: 422, it cannot be decoded; 429, the queue is full; 504, it took too long.
        """
        self._take(1)
        decoding = self._decoders.submit(_preview, image.data, self._settings)
        decoding.add_done_callback(lambda _: self._leave())
        try:
            async with asyncio.timeout(self._settings.deadline_s):
                return await asyncio.wrap_future(decoding)
        except ImageError as error:
            raise HttpProblem(422, "no-preview", f"the image {error.problem}", extra={"kind": error.kind}) from None
        except TimeoutError:
            raise self._too_late() from None

    def _take(self, n_images: int) -> None:
        """Count images that wait from now on; raises HttpProblem where there is no room for them."""
        most = self._settings.queue_images
        if n_images > most:
            raise HttpProblem(422, "too-many-images", f"the queue of this server holds {most} images: send fewer")
        with self._lock:
            if self._n_waiting + n_images > most:
                raise HttpProblem(
                    429,
                    "queue-full",
                    f"{self._n_waiting} images wait, {most} at most: try again in a moment",
                    headers={"Retry-After": str(_RETRY_AFTER_S)},
                )
            self._n_waiting += n_images

    def _leave(self) -> None:
        with self._lock:
            self._n_waiting -= 1

    def _too_late(self) -> HttpProblem:
        seconds = f"{self._settings.deadline_s:g} s"
        return HttpProblem(504, "deadline", f"the images were not done within {seconds}: send fewer")

    def _prepare(self, item: _Item) -> None:
        """Decode an image, in a thread of the pool."""
        with self._lock:
            self._n_decoding += 1
        try:
            if not item.job.is_awaited:
                self._settle(item, None)
                return
            prepared = _mismatch(item.data, item.content_type) or self.ranker.prepare(item.data)
            item.data = b""
            if isinstance(prepared, ImageProblem):
                self._settle(item, prepared)
            else:
                self._ready.put((item, prepared))
        except Exception as error:  # a bug must not leave a client waiting
            _LOG.exception("an image could not be decoded")
            self._settle(item, error)
        finally:
            with self._lock:
                self._n_decoding -= 1

    def _work(self) -> None:
        while (first := self._ready.get()) is not None:
            batch = [first]
            while len(batch) < BATCH_SIZE and (another := self._another()) is not None:
                batch.append(another)
            awaited = [(item, prepared) for item, prepared in batch if item.job.is_awaited]
            for item, _ in batch:
                if not item.job.is_awaited:
                    self._settle(item, None)
            try:
                scored = self.ranker.scored([prepared for _, prepared in awaited])
            except Exception as error:  # the thread lives on: other images may go well
                _LOG.exception("a batch could not be scored")
                for item, _ in awaited:
                    self._settle(item, error)
            else:
                for (item, _), result in zip(awaited, scored, strict=True):
                    self._settle(item, result)
            if not self._n_waiting:
                _give_memory_back()

    def _another(self) -> "tuple[_Item, Prepared | Embedded] | None":
        """Return one more image for a batch; wait a moment where some are being decoded."""
        try:
            another = self._ready.get(timeout=_FOR_MORE_S if self._n_decoding else 0)
        except queue.Empty:
            return None
        if another is None:  # the end, which is for the outer loop to see
            self._ready.put(None)
        return another

    def _settle(self, item: _Item, result: "Scored | ImageProblem | Exception | None") -> None:
        self._leave()
        item.data = b""

        def settle() -> None:
            if item.future.done():
                return
            if isinstance(result, Exception):
                item.future.set_exception(result)
            elif result is None:
                item.future.set_exception(TimeoutError())
            else:
                item.future.set_result(result)

        with suppress(RuntimeError):  # the server has ended
            item.loop.call_soon_threadsafe(settle)


def _preview(data: bytes, settings: ServeSettings) -> bytes:
    """Decode an image, in a thread of the pool, and make it small."""
    from PIL import Image

    with decoded(data, max_pixels=settings.pixels, limit_s=settings.decode_s) as found:
        image = Image.fromarray(found.pixels)
        image.thumbnail((PREVIEW_PX, PREVIEW_PX), reducing_gap=2)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def _give_memory_back() -> None:
    """Let the system have what large images have left free, where the C library can do that."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _mismatch(data: bytes, declared: str) -> ImageProblem | None:
    """Hold what an image is declared to be against what it is; None where they agree or nothing is declared."""
    if declared in _UNDECLARED:
        return None
    try:
        found = recognise(data)
    except ImageError as error:
        return ImageProblem(error.kind, error.problem, error.advice)
    others = [declared in types for name, types in _TYPES.items() if name != found]
    if declared in _TYPES.get(found, ()) or (found not in _TYPES and declared.startswith("image/") and not any(others)):
        return None
    advice = "declare what it is, or application/octet-stream"
    return ImageProblem("type_mismatch", f"is a {found} file and declared as {declared[:80]}", advice)
