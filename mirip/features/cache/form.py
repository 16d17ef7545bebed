"""The form of a file of rows: where its datasets lie, its attributes, and the header that says so.

A file is HDF5, for any tool to read; Mirip itself reads it without the HDF5 library, which a damaged file can crash or
hang. The user block that HDF5 leaves to applications, before its own part, holds

    mirip rows <bytes of the header> <XXH3 of the rest of the header>
    {"attributes": {...}, "rows": N, "dim": D, ...}

The header is all that stands before the data: these two lines, zeros, and HDF5's own part. What is damaged in it
anywhere is found before any of it is believed. Attributes are strings of fixed length: those of variable length lie in
a heap, which is what a flipped bit has the library read for ever. Files of schema version 2 have no such lines; see
`old_files`.
"""

import io
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from mirip.errors import CacheError, SchemaError
from mirip.features.cache.checksums import CRC_DTYPE, KEY_DTYPE
from mirip.files import canonical_json

SCHEMA_VERSION = 3
OLD_SCHEMA_VERSION = 2
KEYS, FEATURES, CHECKSUMS = "image_sha256", "features", "row_crc32"
FEATURE_DTYPES = ("float16", "float32")
# The advice on a damaged file.
DAMAGED = "see `mirip cache verify`, then remove it and run `dvc repro extract`"
_MAGIC = b"mirip rows "
_FIRST_LINE_BYTES = len(_MAGIC) + 8 + 1 + 32 + 1
_MAX_HEADER_BYTES = 1 << 20
_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_REQUIRED = {
    "schema_version": int, "fingerprint": str, "recipe": str, "dim": int, "content_digest": str, "content_xxh3": str,
}  # fmt: skip


@dataclass(frozen=True)
class Form:
    """Where things lie in a file of rows.

    Attributes:
        rows: N.
        dim: D.
        dtype: of the features, float16 or float32.
        offsets: where each dataset begins, in bytes, by its name.
        attributes: the file's root attributes.
    """

    rows: int
    dim: int
    dtype: str
    offsets: dict[str, int]
    attributes: dict[str, Any]

    @property
    def end(self) -> int:
        """How many bytes the file has at least."""
        sizes = {
            KEYS: KEY_DTYPE.itemsize,
            FEATURES: self.dim * np.dtype(self.dtype).itemsize,
            CHECKSUMS: CRC_DTYPE.itemsize,
        }
        return max(self.offsets[name] + self.rows * size for name, size in sizes.items())


def make_header(rows: int, dim: int, dtype: str, attributes: Mapping[str, str | int]) -> tuple[bytes, Form]:
    """Return all that stands before the data of a file, and what it says; equal arguments give equal bytes.

    Its length depends on the lengths of the attributes, not on what they say.

    Args:
        rows: N.
        dim: D.
        dtype: of the features.
        attributes: all of them.

    Raises:
        OSError: the attributes are too long for HDF5.
    """
    room = 1024
    while room < _FIRST_LINE_BYTES + len(canonical_json(dict(attributes))) + 512:  # for what is beside the attributes
        room *= 2
    hdf5, offsets = _hdf5_part(rows, dim, dtype, tuple(attributes.items()), room)
    form = Form(rows, dim, dtype, offsets, dict(attributes))
    rest = canonical_json(asdict(form)).encode().ljust(room - _FIRST_LINE_BYTES, b"\0") + hdf5
    return b"%s%08d %s\n%s" % (_MAGIC, room + len(hdf5), _hash(rest), rest), form


class _WithoutData(io.BytesIO):
    """A file in memory, for HDF5 to write a header into; the data far behind it takes no memory."""

    def write(self, data: Any) -> int:
        return super().write(data) if self.tell() < _MAX_HEADER_BYTES else len(data)


@lru_cache(maxsize=8)  # a file is laid out before its data is hashed, and one batch is as large as another
def _layout(rows: int, dim: int, dtype: str, attributes: tuple[tuple[str, str | int], ...]) -> Form:
    return make_header(rows, dim, dtype, dict(attributes))[1]


def lay_out(rows: int, dim: int, dtype: str, attributes: Mapping[str, str | int]) -> Form:
    """Return where the data of a file will lie, from attributes that are as long as those it will have."""
    return _layout(rows, dim, dtype, tuple(attributes.items()))


def _hdf5_part(
    rows: int, dim: int, dtype: str, attributes: tuple[tuple[str, str | int], ...], room: int
) -> tuple[bytes, dict[str, int]]:
    """Return what HDF5 has to say, from the end of the user block to the data, and where each dataset begins."""
    import h5py

    shapes: dict[str, tuple[tuple[int, ...], Any]] = {
        KEYS: ((rows,), KEY_DTYPE),
        FEATURES: ((rows, dim), dtype),
        CHECKSUMS: ((rows,), CRC_DTYPE),
    }
    memory = _WithoutData()
    with h5py.File(memory, "w", userblock_size=room) as file:
        for name, value in attributes:
            file.attrs[name] = np.bytes_(value.encode()) if isinstance(value, str) else value
        datasets = [
            file.create_dataset(name, shape=shape, dtype=kind, fill_time="never")
            for name, (shape, kind) in shapes.items()
        ]
        for dataset in datasets:  # all are named by now: their data comes last
            dataset[:1] = np.zeros((1, *dataset.shape[1:]), dataset.dtype)  # sets room aside for all of it
        offsets = {name: file[name].id.get_offset() for name in shapes}
    return memory.getvalue()[room : min(offsets.values())], offsets


def read_form(path: Path) -> Form | None:
    """Return the form of a file; None for one of schema version 2, which only HDF5 can tell.

    Raises:
        CacheError: the file is missing or damaged, or of another schema.
        OSError: it cannot be read.
    """
    if not path.is_file():
        raise CacheError(f"{path} is not found", "run `dvc repro extract`, or `dvc pull extract` to fetch it")
    with path.open("rb") as stream:
        first_line = stream.read(_FIRST_LINE_BYTES)
        if first_line.startswith(_HDF5_SIGNATURE):
            return None
        length, _, written = first_line.removeprefix(_MAGIC).rstrip(b"\n").partition(b" ")
        if not first_line.startswith(_MAGIC) or not length.isdigit() or int(length) > _MAX_HEADER_BYTES:
            raise _damaged(path, "it does not begin as a file of rows does")
        rest = stream.read(int(length) - _FIRST_LINE_BYTES)
        size = os.fstat(stream.fileno()).st_size
    if _hash(rest) != written:
        raise _damaged(path, "its header is not what was written")
    form = checked_form(path, json.loads(rest[: rest.index(b"\0")]))
    if size != form.end:
        raise _damaged(path, f"it has {size} bytes, written were {form.end}")
    return form


def checked_form(path: Path, values: Mapping[str, Any]) -> Form:
    """Return the form that values read from a file describe.

    Raises:
        CacheError: they are not those of a file of rows, or of one of another schema.
    """
    form = Form(**values)
    for name, kind in _REQUIRED.items():
        if not isinstance(form.attributes.get(name), kind):
            raise _damaged(path, f"no valid attribute {name}")
        if name == "schema_version" and form.attributes[name] not in (OLD_SCHEMA_VERSION, SCHEMA_VERSION):
            raise SchemaError(
                f"{path} has schema version {form.attributes[name]}, this version of Mirip reads {SCHEMA_VERSION}",
                "run `dvc repro extract`",
            )
    if form.dtype not in FEATURE_DTYPES or form.attributes["dim"] != form.dim or not form.rows:
        raise _damaged(path, f"{form.rows} rows of {form.dim} {form.dtype}, dim {form.attributes['dim']}")
    return form


def _hash(data: bytes) -> bytes:
    return xxhash.xxh3_128(data).hexdigest().encode()


def _damaged(path: Path, reason: str) -> CacheError:
    return CacheError(f"{path} is damaged ({reason})", DAMAGED)
