"""The images of a multipart request, read from the stream into memory, never onto a disk, and no further than allowed.

Starlette's own reader of forms writes parts above a megabyte to temporary files.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from mirip.serve.problems import HttpProblem
from mirip.serve.settings import ServeSettings

_FIELD = "images"
_TEXT_BYTES = 64 * 2**10
_TEXT_FIELDS = ("context",)
_MOST_PARTS_BESIDE = 8


class UploadedImage(NamedTuple):
    """One part of a form: the bytes of an image, and what it is declared to be."""

    data: bytes
    content_type: str


class Upload(NamedTuple):
    """The images of a request, and its other fields."""

    images: list[UploadedImage]
    context: str | None


class UploadMemory:
    """Bounds the bytes of all bodies that are in memory at once."""

    def __init__(self, total: int) -> None:
        self._total, self._used = total, 0

    @contextmanager
    def held(self) -> Iterator["HeldMemory"]:
        """Yield what one request holds; it is given back at the end."""
        held = HeldMemory(self)
        try:
            yield held
        finally:
            self._used -= held.n_bytes

    def take(self, n_bytes: int) -> bool:
        """Take so many bytes if there are as many left."""
        if self._used + n_bytes > self._total:
            return False
        self._used += n_bytes
        return True


class HeldMemory:
    """The bytes that one request holds."""

    def __init__(self, memory: UploadMemory) -> None:
        self._memory, self.n_bytes = memory, 0

    def grow(self, n_bytes: int) -> None:
        """Hold more; raises HttpProblem where too much is held by all together."""
        if not self._memory.take(n_bytes):
            raise HttpProblem(
                429, "busy", "too many uploads at once: try again in a second", headers={"Retry-After": "1"}
            )
        self.n_bytes += n_bytes


@dataclass
class _Form:
    """Collects the parts of a form as a parser calls back."""

    settings: ServeSettings
    most_images: int
    images: list[UploadedImage] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    ended: bool = False

    def __post_init__(self) -> None:
        self._headers: dict[bytes, bytes] = {}
        self._name, self._value, self._parts = b"", b"", 0
        self._part, self._field = bytearray(), ""

    def callbacks(self) -> dict[str, object]:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_part_data": self._on_data,
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        self._headers, self._name, self._value = {}, b"", b""
        self._part, self._field = bytearray(), ""
        self._parts += 1
        if self._parts > self.most_images + _MOST_PARTS_BESIDE:
            raise HttpProblem(422, "too-many-images", f"a request has at most {self.most_images} images here")

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name, self._value = b"", b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._field = options.get(b"name", b"").decode("utf-8", "replace")
        if self._field == _FIELD:
            if len(self.images) >= self.most_images:
                raise HttpProblem(422, "too-many-images", f"a request has at most {self.most_images} images here")
        elif self._field not in _TEXT_FIELDS:
            known = ", ".join((_FIELD, *_TEXT_FIELDS))
            raise HttpProblem(422, "unknown-field", f"the form has a field that is not known: use {known}")

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        most = self.settings.image_bytes if self._field == _FIELD else _TEXT_BYTES
        if len(self._part) + end - start > most:
            what = "an image" if self._field == _FIELD else "a field"
            raise HttpProblem(413, "too-large", f"{what} has more than {most} bytes")
        self._part += data[start:end]

    def _end(self) -> None:
        if self._field == _FIELD:
            declared = self._headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
            self.images.append(UploadedImage(bytes(self._part), declared))
        else:
            self.texts[self._field] = self._part.decode("utf-8", "replace")
        self._part = bytearray()

    def _finish(self) -> None:
        self.ended = True


async def read_upload(request: Request, settings: ServeSettings, held: HeldMemory, *, most_images: int) -> Upload:
    """Read the images of a request.

    Args:
        request: multipart/form-data with the field `images`, once for each image, and `context`.
        settings: the limits.
        held: counts its bytes.
        most_images: of this request.

    Raises:
        HttpProblem: 408, 413, 415, 422 or 429.
        ClientDisconnect: the client has gone.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise HttpProblem(415, "not-a-form", f"send multipart/form-data with the field {_FIELD}, once for each image")
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > settings.request_bytes:
        raise _too_large(settings.request_bytes)
    form = _Form(settings, most_images)
    try:
        parser = MultipartParser(options[b"boundary"], form.callbacks())  # type: ignore[arg-type]
        async with asyncio.timeout(settings.upload_s):
            async for chunk in _bounded(request, settings.request_bytes, held):
                parser.write(chunk)
        parser.finalize()
    except TimeoutError:
        raise _too_slow(settings) from None
    except FormParserError as error:
        raise HttpProblem(422, "broken-form", f"the form cannot be read: {error}") from None
    if not form.ended:
        raise HttpProblem(422, "broken-form", "the form ends before its last boundary")
    if not form.images:
        raise HttpProblem(422, "no-images", f"the form has no field {_FIELD}: send at least one image")
    return Upload(form.images, form.texts.get("context"))


async def read_text(request: Request, settings: ServeSettings, held: HeldMemory) -> bytes:
    """Read a small body, such as JSON; raises HttpProblem 408, 413 or 429, and ClientDisconnect."""
    try:
        async with asyncio.timeout(settings.upload_s):
            return b"".join([chunk async for chunk in _bounded(request, _TEXT_BYTES, held)])
    except TimeoutError:
        raise _too_slow(settings) from None


async def _bounded(request: Request, most: int, held: HeldMemory) -> AsyncIterator[bytes]:
    n_bytes = 0
    async for chunk in request.stream():
        n_bytes += len(chunk)
        if n_bytes > most:
            raise _too_large(most)
        held.grow(len(chunk))
        yield chunk


def _too_large(most: int) -> HttpProblem:
    return HttpProblem(413, "too-large", f"a request has at most {most} bytes here")


def _too_slow(settings: ServeSettings) -> HttpProblem:
    return HttpProblem(408, "too-slow", f"the body took more than {settings.upload_s:g} s to arrive")
