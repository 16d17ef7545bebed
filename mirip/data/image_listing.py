"""A listing of the images in an object store: a small file that changes exactly when an object did.

DVC can depend on a file, and not on a store (docs/decisions/0031-images-in-an-object-store.md). `mirip list-images`
writes it. Each object has its size and its etag, so that what was changed after it was listed is noticed. The objects
stay in columns: ten million of them take some gigabyte, in each process that reads by them.
"""

import io
import unicodedata
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mirip.data.image_files import normalised_path
from mirip.data.object_store import StoredObject
from mirip.errors import DataError
from mirip.files import write_bytes
from mirip.wording import counted, size

SUFFIX = ".parquet"
_URL = b"mirip.url"
_COLUMNS = {"path": pa.large_string(), "size": pa.int64(), "etag": pa.large_string()}


class ImageListing:
    """All objects below a URL.

    Attributes:
        url: the URL.
        table: path (relative to the URL), size in bytes and etag of each object, sorted by normalised path.
    """

    def __init__(self, url: str, table: pa.Table) -> None:
        self.url, self.table = url, table.combine_chunks()

    @classmethod
    def of(cls, url: str, objects: Iterable[StoredObject]) -> "ImageListing":
        """Return the listing of objects that come in any order."""
        rows = sorted(objects, key=lambda entry: (normalised_path(entry.path), entry.path))
        columns = [pa.array([row[n] for row in rows], kind) for n, kind in enumerate(_COLUMNS.values())]
        return cls(url, pa.table(columns, list(_COLUMNS)))

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ImageListing) and self.url == other.url and bool(self.table.equals(other.table))

    __hash__ = None  # type: ignore[assignment]

    def summary(self, before: "ImageListing | None" = None) -> str:
        """Say in one line what is listed, and what is not as in an earlier listing of the same URL."""
        said = f"{counted(len(self), 'object', ',')}, {size(sum(_values(self.table.column('size'))))}"
        if before is None or before.url != self.url:
            return said
        now, then = ({entry[0]: entry[1:] for entry in listing._rows()} for listing in (self, before))
        new, gone = len(now.keys() - then.keys()), len(then.keys() - now.keys())
        changed = sum(path in then and then[path] != value for path, value in now.items())
        if new or gone or changed:
            return f"{said}; since it was listed last, {new:,} new, {changed:,} changed, {gone:,} gone"
        return f"{said}, unchanged"

    def find(self, relative: str) -> StoredObject | None:
        """Return the object of that path, in whatever Unicode form its key is; None where there is none.

        Of two keys that are one path, the one in NFC is taken.
        """
        wanted = normalised_path(relative)
        position = _position(wanted, len(self), lambda n: normalised_path(self._path(n)))
        found = None
        while position < len(self) and normalised_path(self._path(position)) == wanted:
            if found is None or unicodedata.is_normalized("NFC", self._path(position)):
                found = position
            position += 1
        if found is None:
            return None
        return StoredObject(*(self.table.column(n)[found].as_py() for n in range(len(_COLUMNS))))

    def other_case(self, relative: str) -> str:
        """Return the path of an object that differs in upper and lower case alone; nothing where there is none."""
        wanted = normalised_path(relative).lower()
        lower, order = self._lower
        position = _position(wanted, len(lower), lambda n: str(lower[n].as_py()))
        is_found = position < len(lower) and lower[position].as_py() == wanted
        return self._path(order[position].as_py()) if is_found else ""

    def paths(self) -> Iterator[str]:
        """Yield the normalised paths of all objects that are not hidden."""
        for path in map(normalised_path, _values(self.table.column("path"))):
            if not path.startswith(".") and "/." not in path:
                yield path

    def sizes(self) -> dict[str, int]:
        """Return the size in bytes of all objects by normalised path."""
        paths = map(normalised_path, _values(self.table.column("path")))
        return dict(zip(paths, _values(self.table.column("size")), strict=True))

    def _rows(self) -> Iterator[tuple[Any, ...]]:
        return zip(*(_values(column) for column in self.table.columns), strict=True)

    def _path(self, position: int) -> str:
        return str(self.table.column("path")[position].as_py())

    @cached_property
    def _lower(self) -> tuple[pa.ChunkedArray, pa.Array]:
        lower = pc.utf8_lower(self.table.column("path"))
        order = pc.sort_indices(lower)
        return lower.take(order), order


def write_listing(path: Path, listing: ImageListing) -> None:
    """Write a listing; where the file has the same already, it stays as it is, byte for byte."""
    if path.is_file() and read_listing(path) == listing:
        return
    buffer = io.BytesIO()
    pq.write_table(listing.table.replace_schema_metadata({_URL: listing.url.encode()}), buffer, compression="zstd")
    write_bytes(path, buffer.getvalue())


def read_listing(path: Path) -> ImageListing:
    """Read a listing.

    Raises:
        DataError: the file is missing, damaged, or no listing.
    """
    advice = "write one by `mirip list-images URL --output FILE`"
    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        raise DataError(f"{path} is not found", advice) from None
    except (pa.ArrowException, OSError):
        raise DataError(f"{path} is damaged, and no listing can be read from it", f"delete it, and {advice}") from None
    url = (table.schema.metadata or {}).get(_URL)
    if url is None or table.column_names != list(_COLUMNS):
        raise DataError(f"{path} is no listing of images", f"give a folder, a URL or a listing: {advice}")
    return ImageListing(url.decode(), table.replace_schema_metadata(None))


def _position(wanted: str, n: int, value: Callable[[int], str]) -> int:
    """Return where `wanted` is, or would be, among n sorted values."""
    return bisect_left(range(n), wanted, key=value)


def _values(column: pa.ChunkedArray) -> Iterator[Any]:
    for chunk in column.chunks:
        for start in range(0, len(chunk), 1 << 16):
            yield from chunk.slice(start, 1 << 16).to_pylist()
