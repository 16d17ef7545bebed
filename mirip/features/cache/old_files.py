"""Files of schema version 2, opened by HDF5 in a child process.

Only the HDF5 library can read them, and damage can crash or hang it, and the child with it.
"""

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from mirip.errors import CacheError
from mirip.features.cache import hdf5_child
from mirip.features.cache.form import DAMAGED, Form, checked_form

_TIMEOUT_S = 60.0  # of a disk that does not answer; a library that hangs is ended much sooner


def forms_by_child(paths: Sequence[Path]) -> list[Form | CacheError]:
    """Return the form of each file of schema version 2, or the error that opening it comes to."""
    found: list[Form | CacheError] = []
    while len(found) < len(paths):
        found += _by_one_child(paths[len(found) :])
    return found


def form_by_hdf5(path: Path) -> Form:
    """Return the form of a file of schema version 2 whose bytes are known to be sound.

    Raises:
        CacheError: it is damaged, or of another schema.
    """
    return _outcome(path, hdf5_child.describe(path))


def _outcome(path: Path, answer: dict[str, Any]) -> Form:
    if "error" in answer:
        raise CacheError(f"{path} is damaged ({answer['error']})", DAMAGED)
    form = checked_form(path, answer)
    if form.end > path.stat().st_size:
        raise CacheError(f"{path} is damaged (it ends too early)", DAMAGED)
    return form


def _by_one_child(paths: Sequence[Path]) -> list[Form | CacheError]:
    """Look at as many files as one child survives, at least one."""
    command = [sys.executable, "-P", hdf5_child.__file__]
    found: list[Form | CacheError] = []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        # A thread reads, since Windows cannot wait for a pipe with a time limit. It ends when the child does.
        answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        reader = threading.Thread(target=_pass_on_lines, args=(child.stdout, answers), daemon=True)
        reader.start()
        try:
            for path in paths:
                try:
                    found.append(_outcome(path, _asked(child.stdin, answers, path)))
                except (TimeoutError, BrokenPipeError) as error:
                    what = "hangs" if isinstance(error, TimeoutError) else "crashes or hangs"
                    found.append(CacheError(f"{path} is damaged, it {what} the HDF5 library", DAMAGED))
                    break
                except CacheError as error:
                    found.append(error)
        finally:
            child.kill()
            reader.join()
    return found


def _pass_on_lines(stream: IO[bytes], lines: "queue.SimpleQueue[bytes]") -> None:
    for line in stream:
        lines.put(line)
    lines.put(b"")  # the child ended


def _asked(questions: IO[bytes], answers: "queue.SimpleQueue[bytes]", path: Path) -> dict[str, Any]:
    """Return what a child says of a file; raise TimeoutError or BrokenPipeError where it says nothing."""
    questions.write(os.fsencode(path) + b"\n")
    questions.flush()
    try:
        line = answers.get(timeout=_TIMEOUT_S)
    except queue.Empty:
        raise TimeoutError from None
    if not line.endswith(b"\n"):
        raise BrokenPipeError
    return dict(json.loads(line))
