"""Objects below a URL such as s3://bucket/prefix: many are read at once, and again where network or store fail.

obstore does the requests. It tries again after answers such as 503, lost connections and silence, with exponential
backoff and jitter, for `PATIENCE_S`; a body that breaks off is fetched from where it broke. Credentials and endpoint
come from the environment, as AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and AWS_ENDPOINT_URL; nothing here
prints what a store answers, since that may repeat them.

A process makes its connections when it first reads, so an `ObjectStore` can be pickled. What obstore runs in does not
survive a fork: a process that was forked after its parent had read is refused, where it would wait for ever.
"""

import asyncio
import atexit
import functools
import os
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar
from urllib.parse import urlsplit

from mirip.errors import DataError, ImageError, MiripError, ParamsError, StoreError
from mirip.interruption import awaited

if TYPE_CHECKING:
    from obstore.store import ObjectStore as Connection

AT_ONCE = 32
PATIENCE_S = 120.0
MAX_BYTES = 2 * 1024**3
_READ_AHEAD_BYTES = 512 * 1024**2
_CONNECT_S, _SILENCE_S, _LONGEST_S = 5.0, 30.0, 900.0  # of a request, which is then made again
_MOST_BACKOFF_S = 5.0
_FIRST_CONTACT_S = 10.0
_SAY_AFTER_S, _SAY_AGAIN_S = 10.0, 60.0
_LETS_GO_S = 0.1
_TRIES = 3  # of a body with another length than was announced
_SKIPPED_AT_MOST = 256

# By scheme, which variables obstore takes credentials from, and what to advise.
_CREDENTIALS = {
    "s3": (
        ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS", "AWS_SKIP_SIGNATURE"),
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and AWS_ENDPOINT_URL where it is not Amazon's S3; the keys "
        "must be allowed to list the bucket and to read its objects",
    ),
    "gs": (("GOOGLE_",), "set GOOGLE_APPLICATION_CREDENTIALS to a key that may list the bucket and read its objects"),
    "az": (
        ("AZURE_",),
        "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY to those that may list and read the container",
    ),
}
_VARIABLES = ("AWS_", "GOOGLE_", "AZURE_")
_ROLE = r"//169\.254\.|/latest/(api/token|meta-data)|//metadata\.google"  # where a machine in a cloud asks for its own
_SCHEMES = {"s3": "s3", "s3a": "s3", "gs": "gs", "az": "az", "azure": "az", "adl": "az", "abfs": "az", "abfss": "az"}

_ENDPOINT = ", and AWS_ENDPOINT_URL where it is not Amazon's S3"
_TRY_AGAIN = "check the network" + _ENDPOINT + ", then run the same command again: features that were computed are kept"

T = TypeVar("T")


class StoredObject(NamedTuple):
    """What a store says of an object: its path below the URL, its size in bytes, and its etag without quotes."""

    path: str
    size: int
    etag: str


class Content(NamedTuple):
    """The bytes of an object, and its etag without quotes."""

    data: bytes
    etag: str


@dataclass(frozen=True)
class ObjectStore:
    """The objects below a URL.

    Attributes:
        url: scheme, bucket and prefix.
        patience_s: seconds for which one object is tried again before the store counts as unavailable.

    Raises:
        ParamsError: the URL is none of an object store, or holds a password.
    """

    url: str
    patience_s: float = field(default_factory=lambda: PATIENCE_S)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        shown = f"{parts.scheme}://{parts.hostname}/..."
        if parts.password is not None or (parts.username is not None and not parts.scheme.startswith("abfs")):
            raise ParamsError(f"the URL {shown} holds credentials", "leave them out: " + _advice(self.url))
        if "?" in self.url or "#" in self.url:
            raise ParamsError(
                f"the URL {shown} has a '?' or '#'",
                "write %3F or %23 where it belongs to the prefix, and leave keys and signatures to the environment",
            )
        if parts.scheme not in _SCHEMES or not parts.netloc:
            known = ", ".join(f"{scheme}://" for scheme in dict.fromkeys(_SCHEMES.values()))
            raise ParamsError(
                f"{self.url} is no URL of an object store", f"give a folder, or bucket and prefix behind {known}"
            )

    def get(self, key: str) -> Content:
        """Return one object.

        Raises:
            FileNotFoundError: there is none.
            ImageError: it is larger than MAX_BYTES, of which none is read.
            StoreError: the store denies access, has no such bucket, or stays unavailable.
        """
        with self.reading([]) as reading:
            return reading.get(key)

    def reading(self, keys: Iterable[str]) -> "Reading":
        """Return what reads objects ahead, about in this order; use it as a context."""
        return Reading(self, keys)

    def objects(self) -> Iterator[StoredObject]:
        """Yield all objects below the URL, in no certain order.

        Raises:
            StoreError: as `get`.
            DataError: an object has a key that cannot be read.
        """
        import obstore

        pages = obstore.list(_connection(self))
        while page := _finished(self._next_page(pages), self):
            for found in page:
                if not found["path"].endswith("/"):
                    yield StoredObject(found["path"], found["size"], _plain_etag(found["e_tag"]))

    def say_waiting(self, waited_s: float) -> None:
        """Tell the user why nothing goes on, now and then."""
        global _said_at
        if waited_s >= _SAY_AFTER_S and (now := time.monotonic()) - _said_at >= _SAY_AGAIN_S:
            _said_at = now
            print(f"waiting for {self.url}, for up to {self.patience_s:g} s", file=sys.stderr, flush=True)

    async def _next_page(self, pages: Any) -> Any:
        try:
            return await anext(pages)
        except StopAsyncIteration:
            return []
        except Exception as error:
            raise _translated(error, self) from None

    async def fetch(self, connection: "Connection", key: str, room: "_Room") -> Content:
        """Return one object, when there is room for it; raises as `get`."""
        import obstore

        try:
            for _ in range(_TRIES):
                found = await obstore.get_async(connection, key)
                size = found.meta["size"]
                if size > MAX_BYTES:
                    raise ImageError(
                        f"is too large: {size / 1e9:.1f} GB is more than the {MAX_BYTES / 1e9:.1f} GB that are read",
                        "make it smaller",
                        kind="too_large",
                    )
                await room.take(key, size)
                data = (await found.bytes_async()).to_bytes()
                if len(data) == size:
                    return Content(data, _plain_etag(found.meta["e_tag"]))
                room.give_back(key)
        except MiripError:
            raise
        except ValueError:
            raise ImageError("has a path that no object can have", kind="missing") from None
        except Exception as error:
            if isinstance(error, FileNotFoundError) and "NoSuchBucket" not in str(error):
                raise
            raise _translated(error, self) from None
        raise StoreError(f"{self.url} gives {key} with another length than it says", _TRY_AGAIN)


class Reading:
    """Objects that are read ahead of those who ask for them, `AT_ONCE` at a time; `get` may be called in any thread.

    What was read and not yet taken is at most some 500 MB, and one object for each thread that waits.
    """

    def __init__(self, store: ObjectStore, keys: Iterable[str]) -> None:
        self._store, self._later = store, iter(keys)
        self._soon: deque[str] = deque()  # taken from `_later`
        self._lock = threading.Lock()
        self._begun: dict[str, Future[Content]] = {}  # and not yet taken
        self._running: set[Future[Content]] = set()
        self._is_closed = False

    def __enter__(self) -> Self:
        self._loop = _loop(self._store.url)
        self._connection = _connection(self._store)
        self._room = _Room(self._loop)
        with self._lock:
            self._read_ahead()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._is_closed = True
            running = list(self._running)
        for future in running:
            future.cancel()

    def get(self, key: str) -> Content:
        """Return an object; raises as `ObjectStore.get`, or CancelledError when the context has ended."""
        with self._lock:
            while key not in self._begun and self._comes_soon(key):  # more threads ask than are read ahead
                self._begin_next()
            future = self._begun.pop(key, None) or self._begin(key)
            self._read_ahead()
        self._room.hurry(key)
        try:
            return awaited(future, self._store.say_waiting)
        finally:
            self._room.give_back(key)

    def _read_ahead(self) -> None:
        while len(self._begun) < AT_ONCE and self._look_ahead(1):
            self._begin_next()

    def _comes_soon(self, key: str) -> bool:
        return key in self._soon or (self._look_ahead(_SKIPPED_AT_MOST) and key in self._soon)

    def _look_ahead(self, n: int) -> bool:
        """Take keys until there are n of them, and tell whether there is any."""
        self._soon.extend(islice(self._later, max(0, n - len(self._soon))))
        return bool(self._soon)

    def _begin_next(self) -> None:
        key = self._soon.popleft()
        if key not in self._begun:
            self._begun[key] = self._begin(key)

    def _begin(self, key: str) -> Future[Content]:
        if self._is_closed:
            raise CancelledError
        future = asyncio.run_coroutine_threadsafe(self._store.fetch(self._connection, key, self._room), self._loop)
        self._running.add(future)
        future.add_done_callback(self._running.discard)
        return future


class _Room:
    """Bounds the bytes that wait to be taken; who is waited for may always have his."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._held, self._hurried = loop, dict[str, int](), set[str]()
        self._waiting: list[asyncio.Event] = []

    async def take(self, key: str, n_bytes: int) -> None:
        """Wait until there is room for so many bytes."""
        while key not in self._hurried and sum(self._held.values()) + n_bytes > _READ_AHEAD_BYTES:
            changed = asyncio.Event()
            self._waiting.append(changed)
            await changed.wait()
        self._held[key] = n_bytes

    def hurry(self, key: str) -> None:
        """Let an object come at once; may be called in any thread."""
        self._loop.call_soon_threadsafe(self._change, self._hurried.add, key)

    def give_back(self, key: str) -> None:
        """Free the room of an object that was taken; may be called in any thread."""
        self._loop.call_soon_threadsafe(self._change, self._forget, key)

    def _forget(self, key: str) -> None:
        self._held.pop(key, None)
        self._hurried.discard(key)

    def _change(self, change: Callable[[str], None], key: str) -> None:
        change(key)
        for changed in self._waiting:
            changed.set()
        self._waiting.clear()


_process: int | None = None
_said_at = -_SAY_AGAIN_S


def _loop(url: str) -> asyncio.AbstractEventLoop:
    """Return the event loop of this process, which runs in a thread of its own from the first use on."""
    global _process
    if _process not in (None, os.getpid()):
        raise StoreError(
            f"{url} cannot be read in a process that was forked after its parent had read", "start processes by spawn"
        )
    _process = os.getpid()
    return _running_loop()


@functools.cache
def _running_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="object-store", daemon=True).start()
    atexit.register(_let_go, loop, os.getpid())
    return loop


def _let_go(loop: asyncio.AbstractEventLoop, process: int) -> None:
    """At the end of the process, cancel what is under way, and let the threads of obstore finish what they have begun.

    A thread of theirs that asks for the interpreter while that is being taken apart would abort the process. All that
    one does after an answer or a cancellation is to hand it over, which takes it some microseconds.
    """
    if os.getpid() != process:
        return

    async def cancel() -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.wait(others, timeout=_LETS_GO_S) if others else None

    with suppress(TimeoutError):
        asyncio.run_coroutine_threadsafe(cancel(), loop).result(2 * _LETS_GO_S)
    time.sleep(_LETS_GO_S)


def _connection(store: ObjectStore) -> "Connection":
    """Return the connection to a store as the environment names it now; raises StoreError, ParamsError."""
    variables = frozenset((name, value) for name, value in os.environ.items() if name.startswith(_VARIABLES))
    for name, value in sorted(variables):
        if "ENDPOINT" in name and not value.startswith(("http://", "https://")):
            raise ParamsError(f"{name} is {value!r}", "begin it with http:// or https://, or unset it")
    _loop(store.url)
    return _connected(store, variables)


@functools.lru_cache(maxsize=8)
def _connected(store: ObjectStore, variables: frozenset[tuple[str, str]]) -> "Connection":
    import obstore

    def connect(patience_s: float) -> "Connection":
        return obstore.store.from_url(
            store.url,
            client_options={
                "allow_http": any("ENDPOINT" in name and value.startswith("http://") for name, value in variables),
                "connect_timeout": timedelta(seconds=_CONNECT_S),
                "read_timeout": timedelta(seconds=_SILENCE_S),
                "timeout": timedelta(seconds=_LONGEST_S),
            },
            retry_config={
                "max_retries": 1_000_000,  # the time is what ends it
                "retry_timeout": timedelta(seconds=patience_s),
                "backoff": {
                    "init_backoff": timedelta(seconds=0.1),
                    "max_backoff": timedelta(seconds=_MOST_BACKOFF_S),
                    "base": 3,
                },
            },
        )

    async def first_page() -> None:
        async for _ in obstore.list(connect(_FIRST_CONTACT_S), chunk_size=1):
            return

    try:
        connection = connect(store.patience_s)
        names, _ = _CREDENTIALS[_SCHEMES[urlsplit(store.url).scheme]]
        if not any(name.startswith(names) for name, _ in variables):
            # The machine itself may have a role. Where it has none, one does not learn that in every case at once.
            _finished(first_page(), store)
    except MiripError:
        raise
    except Exception as error:
        raise _translated(error, store) from None
    return connection


def _finished(coroutine: Coroutine[Any, Any, T], store: ObjectStore) -> T:
    future = asyncio.run_coroutine_threadsafe(coroutine, _loop(store.url))
    try:
        return awaited(future, store.say_waiting)
    finally:
        future.cancel()


def _translated(error: Exception, store: ObjectStore) -> MiripError:
    """Say an error of obstore in words that hold nothing which the store answered: that may repeat credentials."""
    from obstore.exceptions import InvalidPathError, PermissionDeniedError, UnauthenticatedError

    url, text = store.url, str(error)
    said = text.partition("\n\nDebug source:")[0]
    code = _found(r"<Code>(\w+)</Code>", said)
    status = _found(r"status code: (\d{3}(?: [A-Z][A-Za-z-]+)*)", said)
    if isinstance(error, InvalidPathError):
        key = _found(r'Path "([^"]*)"', said)
        return DataError(
            f"{url} has an object whose key cannot be read: {key!r}",
            "give it a name without '..', '//' and control characters, or take another prefix",
        )
    if code in ("AuthorizationHeaderMalformed", "PermanentRedirect") or "redirect" in said:
        return StoreError(f"{url} is in another region", "set AWS_REGION to the region of the bucket")
    why = ", ".join(filter(None, (status, code)))
    denied = StoreError(f"access to {url} is denied ({why or 'no reason given'})", _advice(url))
    if isinstance(error, PermissionDeniedError | UnauthenticatedError):
        return denied
    own_words = re.sub(r"https?://\S+", "", said.partition("<")[0])
    if re.search(_ROLE, said) or re.search(r"[Cc]redential|Missing \w+Key|Account must be", own_words):
        return StoreError(f"there are no credentials for {url}", _advice(url))
    if status[:3] in ("401", "403"):
        return denied
    if status[:3] == "404":
        return StoreError(f"{url} is not found: the store has no such bucket", "check its name" + _ENDPOINT)
    if status[:1] == "4" and status[:3] not in ("408", "429"):
        return StoreError(f"{url} refuses what it is asked for ({why})", "check the URL" + _ENDPOINT)
    kinds = {"Connect": "no connection", "Timeout": "no answer in time", "Interrupted": "answers break off"}
    kind = _found(r"kind: (Connect|Timeout|Interrupted)", text)
    return StoreError(f"{url} is unavailable ({status or kinds.get(kind, 'no answer')})", _TRY_AGAIN)


def _found(pattern: str, text: str) -> str:
    return match[1] if (match := re.search(pattern, text)) else ""


def _plain_etag(etag: str | None) -> str:
    return (etag or "").removeprefix("W/").strip('"')


def _advice(url: str) -> str:
    return _CREDENTIALS[_SCHEMES.get(urlsplit(url).scheme, "s3")][1]
