"""Locks between processes: a file that one process at a time holds. They work on Linux, macOS and Windows.

The file itself means nothing and may stay or go: whoever holds a lock may delete its file, also while others wait for
it. They then make the file again and hold that one (filelock compares what it locked with what is at the path).
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock
from filelock import Timeout as LockTimeout

__all__ = ["LockTimeout", "forget", "is_locked", "last_held", "locked_file", "locked_if_free"]


@contextmanager
def locked_file(path: Path, *, on_wait: Callable[[], None] = lambda: None, timeout_s: float = -1) -> Iterator[None]:
    """Hold `path` against all other processes and threads; wait for one that holds it.

    The file's time of change becomes now: eviction from the store asks when a lock was last held.

    Args:
        path: the file; it and its folder are made if they are missing.
        on_wait: called once if another holds it.
        timeout_s: how long to wait; negative for as long as it takes.

    Raises:
        LockTimeout: another held it for all that time; a TimeoutError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = _lock(path)
    try:
        lock.acquire(blocking=False)
    except LockTimeout:
        on_wait()
        lock.acquire(timeout=timeout_s)
    try:
        with suppress(OSError):  # the time is worth knowing, and no reason to fail
            os.utime(path)
        yield
    finally:
        lock.release()


@contextmanager
def locked_if_free(path: Path) -> Iterator[bool]:
    """Hold `path` like `locked_file` and yield True, or yield False at once if another holds it; its time stays."""
    lock = _lock(path)
    try:
        lock.acquire(blocking=False)
    except LockTimeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def is_locked(path: Path) -> bool:
    """Tell whether a process holds `path` at this moment; False too where this user may not lock it."""
    if not path.exists():
        return False
    try:
        with locked_if_free(path) as free:
            return not free
    except OSError:  # a store that this user may only read
        return False


def last_held(path: Path) -> float | None:
    """Return when `locked_file` last took `path`, in seconds since 1970; None where that is not known."""
    return path.stat().st_mtime if path.exists() else None


def forget(path: Path) -> None:
    """Remove what a lock leaves behind; its holder may do so, and then still holds it."""
    with suppress(PermissionError):  # Windows deletes no open file: it stays, and hurts no one
        path.unlink(missing_ok=True)


def _lock(path: Path) -> FileLock:
    # Not reentrant, not shared between threads: two users in one process exclude each other, as two processes do.
    return FileLock(path, thread_local=False)
