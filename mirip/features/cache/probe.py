"""Open files of rows in a child process: a damaged HDF5 file can crash or hang the library, and the child with it.

Run     python -m mirip.features.cache.probe      (paths on stdin, one JSON line each on stdout)
"""

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from mirip.errors import CacheError, SchemaError
from mirip.features.cache.rows import DAMAGED, read_rows

_TIMEOUT_S = 60.0
_TIMEOUT_S_PER_BYTE = 1e-7  # the keys are read: a slow disk gives 10 MB/s


@dataclass(frozen=True)
class Header:
    """What a file says about itself.

    Attributes:
        rows: N.
        dim: D.
        dtype: float16 or float32.
        fingerprint: of the recipe that its rows were built by.
        recipe: that recipe, as `ResolvedRecipe.to_dict` gives it.
    """

    rows: int
    dim: int
    dtype: str
    fingerprint: str
    recipe: dict[str, Any]


def probe(paths: Iterable[Path]) -> list[Header | CacheError]:
    """Return the header of each file, or the error that opening it comes to; the content is not looked at.

    Keys that are not sorted are no error here.
    """
    left = list(paths)
    found: list[Header | CacheError] = []
    while left:
        outcomes = _probed_by_one_child(left)
        found += outcomes
        left = left[len(outcomes) :]
    return found


def _probed_by_one_child(paths: Sequence[Path]) -> list[Header | CacheError]:
    """Probe as many files as one child survives, at least one."""
    command = [sys.executable, "-m", "mirip.features.cache.probe"]
    found: list[Header | CacheError] = []
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
                    answer = _asked(child.stdin, answers, path)
                except (TimeoutError, BrokenPipeError) as error:
                    what = "hangs" if isinstance(error, TimeoutError) else "crashes"
                    found.append(CacheError(f"{path} is damaged, it {what} the HDF5 library", DAMAGED))
                    break
                found.append(_outcome(path, answer))
        finally:
            child.kill()
            reader.join()
    return found


def _pass_on_lines(stream: IO[bytes], lines: "queue.SimpleQueue[bytes]") -> None:
    for line in stream:
        lines.put(line)
    lines.put(b"")  # the child ended


def _outcome(path: Path, answer: dict[str, Any]) -> Header | CacheError:
    if "error" in answer:
        return (SchemaError if answer["of_another_version"] else CacheError)(answer["error"], answer["advice"])
    # Here and not above: the child imports HDF5 alone, and starts in half the time.
    from mirip.features.cache.feature_cache import stored_recipe

    try:
        return Header(**answer | {"recipe": stored_recipe(path, answer)})
    except CacheError as error:
        return error


def _asked(questions: IO[bytes], answers: "queue.SimpleQueue[bytes]", path: Path) -> dict[str, Any]:
    """Return what a child says of a file; raise TimeoutError or BrokenPipeError where it says nothing."""
    size = path.stat().st_size if path.is_file() else 0
    questions.write(os.fsencode(path) + b"\n")
    questions.flush()
    try:
        line = answers.get(timeout=_TIMEOUT_S + size * _TIMEOUT_S_PER_BYTE)
    except queue.Empty:
        raise TimeoutError from None
    if not line.endswith(b"\n"):
        raise BrokenPipeError
    return dict(json.loads(line))


def _answer(path: Path) -> dict[str, Any]:
    try:
        rows = read_rows(path, any_order=True)
    except CacheError as error:
        another = isinstance(error, SchemaError)
        return {"error": error.problem, "advice": error.advice, "of_another_version": another}
    n, dim = rows.features.shape
    named = {name: str(rows.attributes[name]) for name in ("fingerprint", "recipe")}
    return {"rows": n, "dim": dim, "dtype": str(rows.features.dtype), **named}


if __name__ == "__main__":
    for name in sys.stdin.buffer:
        print(json.dumps(_answer(Path(os.fsdecode(name.removesuffix(b"\n"))))), flush=True)
