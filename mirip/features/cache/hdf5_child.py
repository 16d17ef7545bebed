"""Read where things lie in a file of rows of schema version 2, by HDF5.

Run     python -P mirip/features/cache/hdf5_child.py      (paths on stdin, one JSON line each on stdout)

It imports nothing of Mirip, so that a process that only asks for this starts quickly and from anywhere.
"""

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

_CPU_S = 1  # a file takes a millisecond; a disk may be slow, and a library that hangs computes


def describe(path: Path) -> dict[str, Any]:
    """Return the fields of `form.Form`, or {"error": what is wrong with the file}."""
    import h5py
    import numpy as np

    try:
        # A file is never changed in place, and locks fail on read-only and network file systems.
        with h5py.File(path, "r", locking=False) as file:
            attributes = {name: file.attrs[name] for name in file.attrs}
            datasets = {name: file[name] for name in ("image_sha256", "features", "row_crc32")}
            keys, features, crc32 = datasets.values()
            if keys.dtype != "S64" or crc32.dtype != np.uint32:
                raise ValueError(f"keys of type {keys.dtype}, checksums of {crc32.dtype}")
            if features.ndim != 2 or keys.shape != features.shape[:1] or crc32.shape != keys.shape:
                raise ValueError(f"keys {keys.shape}, features {features.shape}, checksums {crc32.shape}")
            offsets = {name: dataset.id.get_offset() for name, dataset in datasets.items()}
            if None in offsets.values():
                raise ValueError("a dataset is not contiguous")
            return {
                "rows": features.shape[0],
                "dim": features.shape[1],
                "dtype": str(features.dtype),
                "offsets": offsets,
                "attributes": {
                    name: int(value) if isinstance(value, np.integer) else str(value)
                    for name, value in attributes.items()
                },
            }
    except Exception as error:  # of a damaged file, HDF5 and h5py raise errors of any kind
        return {"error": _reason(error)}


def _reason(error: Exception) -> str:
    """Say in a few words why HDF5 failed; its own messages run over many lines."""
    if found := re.search("error message = '([^']+)'", str(error)):
        return found.group(1)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def _limit_cpu() -> None:
    """Have the system end this process once it has computed for much longer than a file takes."""
    if sys.platform != "win32":
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF)
        soft, hard = int(used.ru_utime + used.ru_stime) + 1 + _CPU_S, resource.getrlimit(resource.RLIMIT_CPU)[1]
        if hard == resource.RLIM_INFINITY or soft < hard:
            resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


if __name__ == "__main__":
    import h5py  # noqa: F401 - before the clock starts

    for name in sys.stdin.buffer:
        _limit_cpu()
        print(json.dumps(describe(Path(os.fsdecode(name.removesuffix(b"\n"))))), flush=True)
