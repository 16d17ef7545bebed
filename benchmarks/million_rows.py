"""Time and memory of the feature cache at a million images, without a backbone: the vectors are made up.

Reads   nothing
Writes  a table to stdout; about 10 GB in a temporary folder, removed at the end
Run     python -m benchmarks.million_rows [--folder /big/disk] [--markdown]        (some minutes)
Try     python -m benchmarks.million_rows --rows 2000 --dim 32

Each line is measured in a process of its own. Peak memory is what is checked: the largest resident set, in which the
pages of a file that is mapped into memory count, though the system takes them back whenever it needs them. Beside it
stands the anonymous part, which only swapping could take back. The two reads are the median of five, files in the page
cache; the others, one of each, wait for the disk. To add rows is all that the stage `extract` does for images that
are new, from reading the manifest to remembering the extraction; left out are the images themselves (there are no
files to read and decode), the backbone, and hashing the stage's sources.
"""

import argparse
import hashlib
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.measuring import anonymous_peak, print_table, resident_peak, run_apart
from mirip.data.manifest import _COLUMNS, first_paths, read_manifest
from mirip.data.tables import write_table
from mirip.features.backbones.recipe import ResolvedRecipe, resolve
from mirip.features.cache.feature_cache import FeatureCache, write_gathered
from mirip.features.cache.rows import as_keys
from mirip.features.cache.store import FeatureStore
from mirip.features.cache.verification import verify_cache
from mirip.features.extract.history import ExtractionSummary, last_extraction, remember_extraction
from mirip.params import ExtractParams, Recipe

SHARD_ROWS = 16_384
NEW_ROWS = 1000
COMPARED_RUNS = 5
MAX_PAYLOADS = 2.0
MAX_PLAIN_READS = 3.0
MAX_ADD_SECONDS = 60.0

LABELS = {
    "build": "build the features file from the store",
    "read": "plain read of the features, for comparison",
    "load": "FeatureCache.open",
    "verify": "verify_cache",
    "add": f"add {NEW_ROWS:,} rows",
}


class Cache:
    """The store and the features file that are measured."""

    def __init__(self, folder: Path, rows: int, dim: int) -> None:
        self.rows, self.dim, self._folder = rows, dim, folder
        self.path = folder / "features" / "made_up.h5"
        self.manifest = folder / "data" / "manifest.parquet"

    def made_recipe(self) -> ResolvedRecipe:
        """Return a recipe whose backbone is nothing but its name: no row is ever computed."""
        backbone = self._folder / "backbone"
        backbone.mkdir(exist_ok=True)
        (backbone / "config.json").write_text('{"model_type": "made_up"}')
        (backbone / "model.safetensors").write_bytes(b"made up")
        return resolve(Recipe(backbone=str(backbone)))

    def store(self) -> FeatureStore:
        """Open the store as a new process does."""
        return FeatureStore(self._folder / "store", self.made_recipe())

    def made_manifest(self, rows: int) -> pd.DataFrame:
        """Return a manifest of so many images; what extraction does not use is 0."""
        columns: dict[str, object] = dict.fromkeys(_COLUMNS, 0)
        columns |= {"image_path": [f"images/{number:012d}.jpg" for number in range(rows)]}
        columns |= {"image_sha256": self.made_keys(0, rows)}
        return pd.DataFrame(columns)

    def made_keys(self, start: int, stop: int) -> list[str]:
        """Return hashes that follow no order."""
        return [hashlib.sha256(str(number).encode()).hexdigest() for number in range(start, stop)]

    def made_features(self, start: int, stop: int) -> NDArray[np.float16]:
        """Return made-up vectors, (stop - start, dim)."""
        rng = np.random.default_rng(start)
        return rng.standard_normal((stop - start, self.dim), dtype=np.float32).astype(np.float16)

    def fill(self) -> None:
        """Put all rows into the store, in many parts."""
        store = self.store()
        with store.locked():
            for start in range(0, self.rows, SHARD_ROWS):
                stop = min(start + SHARD_ROWS, self.rows)
                store.add(self.made_keys(start, stop), self.made_features(start, stop))
        write_table(self.manifest, self.made_manifest(self.rows + NEW_ROWS))

    def build(self) -> None:
        """Write the features file of all rows that the store holds."""
        store = self.store()
        with store.locked():
            gathering = store.gather(as_keys(sorted(self.made_keys(0, self.rows))))
            write_gathered(self.path, gathering, self.made_recipe())
            store.compact()

    def read(self) -> None:
        """Read the bytes of the features and nothing else."""
        with h5py.File(self.path, "r") as file:
            offset = file["features"].id.get_offset()
        assert len(np.fromfile(self.path, np.float16, self.rows * self.dim, offset=offset)) == self.rows * self.dim

    def load(self) -> None:
        """Open the file as train does."""
        assert len(FeatureCache.open(self.path)) == self.rows

    def verify(self) -> None:
        """Check every byte."""
        assert verify_cache(self.path).sound

    def add(self) -> None:
        """Bring the file up to date with new images: what the stage `extract` does, but for the images."""
        start_s = time.monotonic()
        listed = first_paths(read_manifest(self.manifest))
        paths = dict(listed)  # both are in memory there too
        store, recipe, batch_size = self.store(), self.made_recipe(), ExtractParams().batch_size
        with store.locked():
            store.adopt(self.path)
            keys = as_keys(sorted(paths))
            assert len(store.gather(keys).missing) == NEW_ROWS
            for start in range(self.rows, self.rows + NEW_ROWS, batch_size):
                stop = min(start + batch_size, self.rows + NEW_ROWS)
                store.add(self.made_keys(start, stop), self.made_features(start, stop))
            gathering = store.gather(keys)
            digest = write_gathered(self.path, gathering, recipe)
            store.compact()
        seconds = time.monotonic() - start_s
        summary = ExtractionSummary(
            len(paths), NEW_ROWS, len(paths) - NEW_ROWS, gathering.dim, recipe.fingerprint, digest, seconds
        )
        remember_extraction(self.path, summary, paths)
        assert last_extraction(self.path) == summary


def measure_here(step: str, cache: Cache) -> dict[str, float]:
    """Do one step in this process and return its seconds and peaks of memory in bytes."""
    if step in ("read", "load", "verify"):  # both from memory, not from a disk
        with cache.path.open("rb", buffering=0) as stream:
            while stream.read(1 << 24):
                pass
    durations_s = []
    with anonymous_peak() as anonymous:
        for _ in range(COMPARED_RUNS if step in ("read", "load") else 1):
            start = time.perf_counter()
            getattr(cache, step)()
            durations_s.append(time.perf_counter() - start)
    return {"seconds": statistics.median(durations_s), "resident": resident_peak(), "anonymous": anonymous()}


def measure_apart(step: str, folder: Path, rows: int, dim: int) -> dict[str, float]:
    """Do one step in a process of its own."""
    print(f"million_rows: {LABELS.get(step, 'make the vectors up')}", file=sys.stderr, flush=True)
    options = ["--step", step, "--folder", str(folder), "--rows", str(rows), "--dim", str(dim)]
    return run_apart(__file__, options, folder)


def checks(step: str, measured: dict[str, float], plain_read_s: float, payload: int) -> list[tuple[str, bool]]:
    """Return what is asked of a step, and whether it holds."""
    asked = [(f"memory < {MAX_PAYLOADS:.0f} x payload", measured["resident"] < MAX_PAYLOADS * payload)]
    if step == "load":
        asked.append((f"< {MAX_PLAIN_READS:.0f} x plain read", measured["seconds"] < MAX_PLAIN_READS * plain_read_s))
    if step == "add":
        asked.append((f"< {MAX_ADD_SECONDS:.0f} s", measured["seconds"] < MAX_ADD_SECONDS))
    return [] if step == "read" else asked


def table(measured: dict[str, dict[str, float]], payload: int) -> list[list[str]]:
    """Return header and rows of what is printed."""
    lines = [["step", "seconds", "peak memory", "of it anonymous", "verdict"]]
    for step, found in measured.items():
        asked = checks(step, found, measured["read"]["seconds"], payload)
        verdict = ", ".join(f"{what}: {'met' if met else 'missed'}" for what, met in asked)
        memory = (f"{found[kind] / 1e9:.2f} GB" for kind in ("resident", "anonymous"))
        lines.append([LABELS[step], f"{found['seconds']:.1f}", *memory, verdict])
    return lines


def main() -> None:
    """Measure everything and print the table."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made; default: the system's")
    parser.add_argument("--markdown", action="store_true", help="print the table for a page")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        print(json.dumps(measure_here(options.step, Cache(options.folder, options.rows, options.dim))))
        return
    with tempfile.TemporaryDirectory(prefix="million_rows.", dir=options.folder and options.folder.resolve()) as name:
        measure_apart("fill", Path(name), options.rows, options.dim)
        measured = {step: measure_apart(step, Path(name), options.rows, options.dim) for step in LABELS}
    payload = 2 * options.rows * options.dim
    print(f"{options.rows:,} rows of {options.dim:,} float16, payload {payload / 1e9:.2f} GB\n")
    print_table(table(measured, payload), markdown=options.markdown, right=(1, 2, 3))


if __name__ == "__main__":
    main()
