"""Ctrl-C ends a process with one line and exit code 130, whatever it is doing, and never with a traceback.

An exception is no way to interrupt an import: a library of C may turn it into another error, or leave out a part of
itself and go on. So a process that is importing ends at once; nothing is lost by that, since Mirip may be killed at any
moment. Elsewhere Ctrl-C is a KeyboardInterrupt as always, and what is under way is put in order.

A process loads this module first, so it imports nothing large.
"""

import _thread
import atexit
import io
import os
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future

T = TypeVar("T")

EXIT_CODE = 130  # what a shell gives for a process that Ctrl-C has ended
_AGAIN_AFTER_S = 0.02
_LOOKS_S = 0.5
_came = False


def interruptible(said: str) -> None:
    """Let Ctrl-C end this process with the line `said`, from now on; whoever starts a process calls it once.

    Where the process ignores Ctrl-C, as in the background of a shell, it still does.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        if _is_importing(frame):
            _end(said)
        global _came
        _came = True
        raise KeyboardInterrupt

    show = sys.unraisablehook

    def interrupt_again(lost: "sys.UnraisableHookArgs") -> None:
        if not issubclass(lost.exc_type, KeyboardInterrupt):
            show(lost)
            return
        # Ctrl-C met a destructor or a callback, whose errors Python only prints.
        import threading

        again = threading.Timer(_AGAIN_AFTER_S, _interrupt_main_thread)
        again.daemon = True
        again.start()

    signal.signal(signal.SIGINT, interrupt)
    # The last thing before Python takes itself apart, where Ctrl-C would end it by the signal and without a word.
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
    sys.unraisablehook = interrupt_again


def show_any_name() -> None:
    """Let this process print the names of all files, also those that are no text in the encoding of its output."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def interrupted(error: BaseException) -> bool:
    """Tell whether an error is Ctrl-C, or what a library has made of it."""
    return isinstance(error, KeyboardInterrupt) or _came


def ended(said: str) -> None:
    """Let Ctrl-C end this process at once: its work has ended, and it only waits for its threads and clears up.

    The line `said` is printed unless Ctrl-C came before. A process that is not `interruptible` stays as it is.
    """
    if signal.getsignal(signal.SIGINT) not in (signal.default_int_handler, signal.SIG_IGN):
        signal.signal(signal.SIGINT, lambda number, frame: _end("" if _came else said))


def awaited(future: "Future[T]", on_wait: Callable[[float], None] = lambda waited_s: None) -> T:
    """Return the result of a future; a thread that waits for it notices Ctrl-C within a second.

    A signal that comes just before a wait begins does not end it, and what is waited for may be minutes away.

    Args:
        future: that of any pool; its error is raised.
        on_wait: called now and then with the seconds waited so far.
    """
    from concurrent.futures import wait

    start = time.monotonic()
    while not future.done():
        wait([future], _LOOKS_S)
        on_wait(time.monotonic() - start)
    return future.result()


def _interrupt_main_thread() -> None:
    import threading

    if sys.platform == "win32":
        _thread.interrupt_main()
    elif (main_thread := threading.main_thread().ident) is not None:
        signal.pthread_kill(main_thread, signal.SIGINT)  # which also ends a wait


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _end(said: str) -> None:
    if said:
        os.write(2, f"{said}\n".encode())  # print is not safe in a signal handler
    os._exit(EXIT_CODE)
