"""Files of rows that say something else than what was written, and are otherwise sound; and damaged ones."""

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from mirip.features.cache.form import make_header, read_form


def set_attributes(path: Path, **changed: str | int) -> None:
    """Give a file other attributes, under a header that is sound, as a version with a bug would write it."""
    form = read_form(path)
    assert form is not None
    header, _ = make_header(form.rows, form.dim, form.dtype, form.attributes | changed)
    path.write_bytes(header + path.read_bytes()[min(form.offsets.values()) :])


def make_old(path: Path) -> None:
    """Write a file again in the form of schema version 2."""
    with h5py.File(path) as file:
        datasets = {name: file[name][...] for name in ("image_sha256", "features", "row_crc32")}
        attributes = dict(file.attrs)
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file[name] = values
        for name, value in attributes.items():
            file.attrs[name] = value.decode() if isinstance(value, bytes) else value
        file.attrs["schema_version"] = 2


def flipped(data: bytes, n: int, seed: int) -> Iterator[bytes]:
    """Yield `data` with one bit flipped, `n` times; half of the bits are of the first and last 16 KiB."""
    rng = np.random.default_rng(seed)
    ends = [*range(min(len(data), 16384)), *range(max(0, len(data) - 16384), len(data))]
    for i in range(n):
        at = int(rng.integers(len(data))) if i % 2 else int(rng.choice(ends))
        damaged = bytearray(data)
        damaged[at] ^= 1 << int(rng.integers(8))
        yield bytes(damaged)


def zeroed(data: bytes, n: int, seed: int) -> Iterator[bytes]:
    """Yield `data` with a block of 512 to 4096 bytes of zeros, `n` times; the first lie at the beginning."""
    rng = np.random.default_rng(seed)
    for i in range(n):
        size = int(rng.choice([512, 1024, 2048, 4096]))
        start = 512 * i if i < 16 else int(rng.integers(max(1, len(data) - size)))
        yield data[:start] + bytes(len(data[start : start + size])) + data[start + size :]
