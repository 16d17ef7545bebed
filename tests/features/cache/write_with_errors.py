"""Run under failing_writes.so: extractions in forks of this process, in each of which a write fails.

Prints, for each, one JSON line: the call that failed, with what, how the process ended, and what it said.

Args: the library, an empty folder, how many extractions.
"""

import ctypes
import errno
import json
import os
import shutil
import sys
import traceback
from pathlib import Path

import numpy as np

from mirip.features.backbones.recipe import resolve
from mirip.features.cache.feature_cache import FeatureCache
from mirip.features.cache.store import FeatureStore
from mirip.features.extract.extraction import extract_features
from mirip.params import Recipe
from stages import run

KEYS = [f"{i:064x}" for i in range(30)]
ROWS = np.random.default_rng(0).normal(size=(30, 300)).astype(np.float16)
RECIPE = Recipe(backbone="import:some-model", stored_dtype="float16")


def extract(folder: Path, batches: list[slice]) -> None:
    """Compute batches, as far as the store can tell, and write the features of all rows before the last one's end."""
    store = FeatureStore(folder / "store", resolve(RECIPE))
    with store.locked():
        for batch in batches:
            store.add(KEYS[batch], ROWS[batch])
    extract_features(
        [(key, f"{key}.png") for key in KEYS[: batches[-1].stop]],
        image_root=folder,
        recipe=RECIPE,
        path=folder / "features" / "some.h5",
        store_root=folder / "store",
    )


def ended(folder: Path, fail: ctypes._CFuncPtr, said: Path, *arguments: int) -> int:
    """Return the status of a fork that extracts."""
    if child := os.fork():
        return os.waitpid(child, 0)[1]
    try:
        os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        fail(os.fsencode(folder), *arguments)
        run(lambda: extract(folder, [slice(8, 16), slice(16, 30)]))
    except SystemExit as stop:
        fail(os.fsencode(folder), 0, 0, 0)
        print(stop, file=sys.stderr, flush=True)
        os._exit(1)
    except BaseException:
        traceback.print_exc()
        os._exit(2)
    os._exit(0)


def main() -> None:
    library, root, n = ctypes.CDLL(sys.argv[1]), Path(sys.argv[2]).resolve(), int(sys.argv[3])
    fail = library.fail
    fail.argtypes = [ctypes.c_char_p, ctypes.c_long, ctypes.c_int, ctypes.c_int]
    os.environ["DVC_ROOT"] = str(root)
    before, folder, clean = root / "before", root / "folder", root / "clean"
    extract(before, [slice(0, 8)])
    shutil.copytree(before, clean)
    fail(os.fsencode(clean), 0, 0, 0)
    extract(clean, [slice(8, 16), slice(16, 30)])
    n_calls = library.counted()
    fail(b"", 0, 0, 0)
    expected = (clean / "features" / "some.h5").read_bytes()
    old = (before / "features" / "some.h5").read_bytes()
    for i in range(n):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(before, folder)
        call = 1 + i * n_calls // n
        error = (errno.EIO, errno.ENOSPC)[i % 2]
        status = ended(folder, fail, root / "said", call, error, i // 2 % 2)
        features = folder / "features" / "some.h5"
        untouched = features.read_bytes() in (old, expected) and len(FeatureCache.open(features)) in (8, 30)
        again = ended(folder, fail, root / "said again", 0, 0, 0)
        found = {
            "call": call,
            "error": errno.errorcode[error],
            "signal": status & 0x7F,
            "code": status >> 8,
            "said": (root / "said").read_text(),
            "untouched": untouched,
            "again": again,
            "exact": features.read_bytes() == expected,
            "leftovers": [str(path) for path in folder.rglob(".*.tmp")],
        }
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
