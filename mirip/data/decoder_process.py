"""A process that does nothing but decode images, so that no decoder can stop, crash or speak in place of its caller.

Libraries for TIFF, HEIF, AVIF and JPEG 2000 print to stderr without a file's name, and have been known to crash and to
hang on damaged files. A process decodes one file at a time: what it prints belongs to that file, and it can be killed.
It stays for the next file; there are never more of them than threads that decode at once.

Messages go through its pipes: 8 bytes of length, then a pickle; pixels follow as they are.
"""

import atexit
import io
import os
import pickle
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import traceback
from contextlib import suppress
from dataclasses import replace
from typing import IO, Any, cast

import numpy as np

from mirip.data.opened_image import DecodedImage, OpenedImage
from mirip.errors import ImageError

TIME_LIMIT_S = 120.0
_BYTES_A_PIXEL = 24  # of JPEG 2000, rounded up from what was measured; TIFF, AVIF and HEIF take less
_LENGTH = struct.Struct("<Q")
_LONGEST_PRINTED = 200
_PIPE_BYTES = 1 << 20  # where the system has a choice: pixels go through in half the time
_START = "import sys; sys.path[:] = sys.argv[1:]; from mirip.data.decoder_process import serve; serve()"


class IsolatedImage:
    """An image file whose header was read by a process of its own; use it as a context.

    Attributes:
        size: width and height in pixels, as they are stored.

    Raises:
        ImageError: as `open_image` of mirip.data.formats; or the process crashed, or took more than `limit_s` seconds,
            by default TIME_LIMIT_S.
    """

    def __init__(self, data: bytes, *, limit_s: float | None = None) -> None:
        self._process, self._limit_s = _take(), limit_s or TIME_LIMIT_S
        try:
            self.size: tuple[int, int] = self._process.ask(data, self._limit_s)
        except BaseException as error:
            self._process.is_usable &= isinstance(error, ImageError)  # after Ctrl-C an answer may be under way
            _give_back(self._process)
            raise

    def __enter__(self) -> "IsolatedImage":
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._process.is_usable &= kind is None or issubclass(kind, ImageError)
        _give_back(self._process)

    @property
    def n_bytes(self) -> int:
        """About how many bytes of memory `decode` takes at its peak, in both processes together."""
        width, height = self.size
        return width * height * _BYTES_A_PIXEL

    def decode(self) -> DecodedImage:
        """Decode the file; raises ImageError as decoding in this process would, or as above."""
        image: DecodedImage
        image, shape = self._process.ask(b"", self._limit_s)
        pixels = self._process.read_pixels(shape, self._limit_s)
        printed = self._process.printed()
        return replace(image, pixels=pixels, repaired="; ".join(filter(None, (image.repaired, printed))))


class _DecoderProcess:
    """One process; its stderr is a file without a name, which is emptied after each answer."""

    def __init__(self) -> None:
        self._printed = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._popen: subprocess.Popen[bytes] = subprocess.Popen(
            [sys.executable, "-c", _START, *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._printed,
            pipesize=_PIPE_BYTES,
        )
        self.is_usable = True

    def ask(self, request: bytes, limit_s: float) -> Any:
        """Return the answer to a request: a file's bytes, or none for its pixels; raises ImageError."""
        timer = threading.Timer(limit_s, self._popen.kill)
        timer.daemon = True
        timer.start()
        try:
            _send(self._popen.stdin, request)
            answer = _receive(self._popen.stdout)
        except OSError:
            answer = None
        finally:
            timer.cancel()
        if answer is None:
            raise self._death(limit_s)
        kind, value = pickle.loads(answer)
        if kind == "bug":
            raise RuntimeError(f"the decoder process failed:\n{value}")
        if kind == "refused":
            printed = self.printed()
            problem, advice, reason = value
            raise ImageError(f"{problem} ({printed})" if printed else problem, advice, kind=reason)
        return value

    def read_pixels(self, shape: tuple[int, int, int], limit_s: float) -> np.ndarray:
        """Return the uint8 pixels of that shape that follow an answer."""
        pixels = np.empty(shape, np.uint8)
        assert isinstance(self._popen.stdout, io.BufferedReader)
        if self._popen.stdout.readinto(pixels.data.cast("B")) < pixels.size:
            raise self._death(limit_s)
        return pixels

    def printed(self) -> str:
        """Return what was printed since the last call, in one line of at most some 200 characters."""
        self._printed.seek(0)
        lines = self._printed.read().decode(errors="replace").split("\n")
        self._printed.seek(0)  # the process writes on from here: it shares this position
        self._printed.truncate()
        text = "; ".join(dict.fromkeys(" ".join(line.split()).rstrip(".") for line in lines if line.strip()))
        return text if len(text) <= _LONGEST_PRINTED else text[:_LONGEST_PRINTED] + " ..."

    def stop(self) -> None:
        """End the process."""
        self.is_usable = False
        self._popen.kill()
        self._popen.wait()
        self._close()

    def forget(self) -> None:
        """Leave the process to another that forked this one."""
        self._popen.returncode = 0
        self._close()

    def _close(self) -> None:
        for stream in (self._popen.stdin, self._popen.stdout, self._printed):
            with suppress(OSError):
                cast(IO[bytes], stream).close()

    def _death(self, limit_s: float) -> ImageError:
        code = self._popen.wait()
        self.is_usable = False
        if code == -signal.SIGKILL:
            why = f"took more than {limit_s:g} s to decode or more memory than there is, and was given up"
        else:
            why = f"made its decoder crash ({signal.Signals(-code).name if code < 0 else f'exit code {code}'})"
        return ImageError(f"is damaged: it {why}", kind="truncated")


def serve() -> None:
    """Answer requests on stdin until it ends: the process's whole life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all processes of a terminal; the caller decides
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints to stdout must not break in between
    opened = None
    while (request := _receive(sys.stdin.buffer)) is not None:
        pixels: np.ndarray | None = None
        answer: tuple[str, Any]
        try:
            if request:
                opened = OpenedImage(request)
                answer = "size", opened.size
            else:
                assert opened is not None
                image, opened = opened.decode(), None
                pixels = image.pixels
                answer = "image", (replace(image, pixels=np.empty(0, np.uint8)), pixels.shape)
        except ImageError as error:
            answer = "refused", (error.problem, error.advice, error.kind)
        except Exception:
            answer = "bug", traceback.format_exc()
        _send(answers, pickle.dumps(answer), pixels)


_idle: list[_DecoderProcess] = []
_lock = threading.Lock()


def _take() -> _DecoderProcess:
    with _lock:
        return _idle.pop() if _idle else _DecoderProcess()


def _give_back(process: _DecoderProcess) -> None:
    if not process.is_usable:
        process.stop()
        return
    with _lock:
        _idle.append(process)


def _stop_all() -> None:
    with _lock:
        while _idle:
            _idle.pop().stop()


def _forget_all() -> None:
    """In a fork: the processes are those of its parent, and the lock may be held by a thread that is not here."""
    global _lock
    _lock = threading.Lock()
    while _idle:
        _idle.pop().forget()


atexit.register(_stop_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)


def _send(stream: IO[bytes] | None, message: bytes, pixels: np.ndarray | None = None) -> None:
    assert stream is not None
    stream.write(_LENGTH.pack(len(message)))
    stream.write(message)
    if pixels is not None:
        stream.write(pixels.data.cast("B"))
    stream.flush()


def _receive(stream: IO[bytes] | None) -> bytes | None:
    """Return the next message, None where the stream ends."""
    assert stream is not None
    length = stream.read(_LENGTH.size)
    if len(length) < _LENGTH.size:
        return None
    return stream.read(*_LENGTH.unpack(length))
