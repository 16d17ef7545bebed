"""A file that one process at a time may hold; it may be deleted while others wait for it."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked_file(path: Path, *, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold `path`, which is made if need be, against all others; wait for one who holds it.

    Its time of change becomes now: when the lock was last held is worth knowing.

    Args:
        path: the file; its folder too is made if need be.
        on_wait: called once if it is held by another.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = _acquired(path, on_wait)
    try:
        os.utime(handle)
        yield
    finally:
        os.close(handle)


@contextmanager
def locked_if_free(path: Path) -> Iterator[bool]:
    """Hold `path` like `locked_file` and yield True, or yield False at once if another holds it; its time stays."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        yield _flocked(handle, fcntl.LOCK_NB) and _is_at(handle, path)
    finally:
        os.close(handle)


def is_locked(path: Path) -> bool:
    """Tell whether a process holds `path` at this moment."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return not _flocked(handle, fcntl.LOCK_NB)
    finally:
        os.close(handle)


def _acquired(path: Path, on_wait: Callable[[], None]) -> int:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if not _flocked(handle, fcntl.LOCK_NB):
                on_wait()
                _flocked(handle, 0)
            if _is_at(handle, path):
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # the file was deleted while we waited: whoever comes next would take another one


def _flocked(handle: int, flags: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | flags)
    except BlockingIOError:
        return False
    return True


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.fstat(handle).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False
