"""Open files of rows in a child process: a damaged HDF5 file can crash or hang the library, and the child with it.

Run     python -m mirip.features.cache.probe      (paths on stdin, one JSON line each on stdout)
"""

import json
import os
import selectors
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from mirip.errors import CacheError, SchemaError

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
        try:
            for path in paths:
                try:
                    answer = _asked(child.stdin, child.stdout, path)
                except (TimeoutError, BrokenPipeError) as error:
                    what = "hangs" if isinstance(error, TimeoutError) else "crashes"
                    found.append(CacheError(f"{path} cannot be opened, it {what} the HDF5 library: it is damaged"))
                    break
                found.append(_outcome(answer))
        finally:
            child.kill()
    return found


def _outcome(answer: dict[str, Any]) -> Header | CacheError:
    if "error" not in answer:
        return Header(**answer)
    return (SchemaError if answer["of_another_version"] else CacheError)(answer["error"])


def _asked(questions: IO[bytes], answers: IO[bytes], path: Path) -> dict[str, Any]:
    """Return what a child says of a file; raise TimeoutError or BrokenPipeError where it says nothing."""
    size = path.stat().st_size if path.is_file() else 0
    questions.write(os.fsencode(path) + b"\n")
    questions.flush()
    with selectors.DefaultSelector() as selector:
        selector.register(answers, selectors.EVENT_READ)
        if not selector.select(_TIMEOUT_S + size * _TIMEOUT_S_PER_BYTE):
            raise TimeoutError
    line = answers.readline()
    if not line.endswith(b"\n"):
        raise BrokenPipeError
    return dict(json.loads(line))


def _answer(path: Path) -> dict[str, Any]:
    from mirip.features.cache.feature_cache import stored_recipe
    from mirip.features.cache.rows import read_rows

    try:
        rows = read_rows(path, any_order=True)
        recipe = stored_recipe(rows)
    except CacheError as error:
        return {"error": str(error), "of_another_version": isinstance(error, SchemaError)}
    n, dim = rows.features.shape
    return asdict(Header(n, dim, str(rows.features.dtype), str(rows.attributes["fingerprint"]), recipe))


if __name__ == "__main__":
    for name in sys.stdin.buffer:
        print(json.dumps(_answer(Path(os.fsdecode(name.removesuffix(b"\n"))))), flush=True)
