"""What `data.images` points to: where images are read from, by the paths that the metadata table gives.

`image_source` makes the one object for it, and nothing else in mirip/ asks what kind of place it is. A source is small
and can be pickled: a process that computes features reads by its own copy.
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from mirip.data.image_files import files_below, find, normalised_path, path_below, read_image_bytes
from mirip.data.image_listing import SUFFIX, ImageListing, read_listing
from mirip.data.object_store import Content, ObjectStore
from mirip.errors import DataError, ImageError, MiripError
from mirip.files import is_url, sha256_bytes

Read = Callable[[str], bytes]
_THREADS = 8  # where files are on a network, each look takes a while
_CHUNK = 2048
_NO_OBJECT = "is missing: no such object below data.images"


class ImageReader(Protocol):
    """What reads images by their paths, on whatever machine it is used."""

    def unavailable(self) -> str:
        """Say why nothing can be read from it on this machine; nothing where it can."""

    def reading(self, relatives: Sequence[str]) -> AbstractContextManager[Read]:
        """Return a context whose value reads one image, from any thread; see `ImageSource.read` for what it raises.

        Args:
            relatives: what will be read, about in this order: a source that is far away begins before it is asked.
        """


class ImageSource(ImageReader, Protocol):
    """Where images are read from. All paths are relative to it, with forward slashes."""

    def check(self) -> None:
        """Look whether images can be read from it at all.

        Raises:
            DataError: they cannot, whatever the path.
            StoreError: likewise.
        """

    def read(self, relative: str) -> bytes:
        """Return the bytes of one image.

        Raises:
            ImageError: of kind `outside`, `missing` or `too_large`; the message does not name the image.
            DataError: it changed since it was listed; likewise.
            StoreError: an object store cannot be read: that is no matter of this image.
        """

    def below(self) -> Iterator[str]:
        """Yield the path of every file there, hidden ones left out, as all paths are compared (`normalised_path`)."""

    def sizes(self, relatives: Sequence[str]) -> list[int]:
        """Return how many bytes each image has, -1 for one that is not there; no image is read."""

    def shared(self, relatives: Sequence[str]) -> tuple[ImageReader, list[str]]:
        """Return what reads these images on other machines, and the path of each of them there.

        It can be pickled, is small, and asks nobody where an image is. Whether an image is still the one that was
        listed is not looked at: its sha256 says so.
        """


@dataclass(frozen=True)
class ImageFolder:
    """A folder on this machine, as mirip.data.image_files reads it."""

    root: Path

    def check(self) -> None:
        """See ImageSource."""
        if not self.root.is_dir():
            advice = "set data.images to the folder that image paths are relative to"
            raise DataError(f"{self.root} is not a folder", advice)

    def unavailable(self) -> str:
        """See ImageSource."""
        return "" if self.root.is_dir() else f"the images, {self.root}, are not on this machine"

    def read(self, relative: str) -> bytes:
        """See ImageSource."""
        return read_image_bytes(self.root, relative)

    def reading(self, relatives: Sequence[str]) -> AbstractContextManager[Read]:
        """See ImageSource."""
        return nullcontext(self.read)

    def below(self) -> Iterator[str]:
        """See ImageSource."""
        return (normalised_path(str(path)) for path in files_below(self.root))

    def sizes(self, relatives: Sequence[str]) -> list[int]:
        """See ImageSource."""
        chunks = [relatives[start : start + _CHUNK] for start in range(0, len(relatives), _CHUNK)]
        with ThreadPoolExecutor(_THREADS) as pool:
            return [
                size for chunk in pool.map(lambda chunk: [self._size(path) for path in chunk], chunks) for size in chunk
            ]

    def shared(self, relatives: Sequence[str]) -> tuple[ImageReader, list[str]]:
        """See ImageSource: a folder that all machines have under one name."""
        return ImageFolder(self.root.absolute()), list(relatives)

    def _size(self, relative: str) -> int:
        try:
            return os.stat(f"{self.root}/{relative}").st_size  # noqa: PTH116 - a Path each takes longer than the look
        except (OSError, ValueError):
            pass
        try:
            return find(self.root, PurePosixPath(relative)).stat().st_size  # under a name in another Unicode form
        except (OSError, ValueError):
            return -1


class ImageStore:
    """An object store: below a URL, or as a listing says that it was.

    By a listing (of a file, or made by `check`), a path that it lacks is missing, without a request. Without one, a
    path is asked for as it is given, and the store is listed when there is no object of that name: it may have another
    Unicode form.

    Args:
        location: the URL, or the file of a listing.
    """

    def __init__(self, location: Path | str) -> None:
        self._location = location
        self._store = ObjectStore(location) if isinstance(location, str) else None
        self._known: ImageListing | None = None
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type["ImageStore"], tuple[Path | str]]:
        return ImageStore, (self._location,)

    def check(self) -> None:
        """See ImageSource."""
        if not len(self._listing()):
            raise DataError(f"there is no object below {self._listing().url}", "check the prefix in data.images")

    def unavailable(self) -> str:
        """See ImageSource."""
        try:
            self.check()
        except MiripError as error:
            return error.problem
        return ""

    def read(self, relative: str) -> bytes:
        """See ImageSource."""
        with self.reading([]) as read:
            return read(relative)

    @contextmanager
    def reading(self, relatives: Sequence[str]) -> Iterator[Read]:
        """See ImageSource."""
        self._list_for(relatives)
        keys = (key for relative in relatives if (key := self._key(relative)) is not None)
        with self._objects().reading(keys) as reading:
            yield lambda relative: self._read(relative, reading.get)

    def below(self) -> Iterator[str]:
        """See ImageSource."""
        return self._listing().paths()

    def sizes(self, relatives: Sequence[str]) -> list[int]:
        """See ImageSource."""
        sizes = self._listing().sizes()
        return [sizes.get(normalised_path(relative), -1) for relative in relatives]

    def shared(self, relatives: Sequence[str]) -> tuple[ImageReader, list[str]]:
        """See ImageSource."""
        self._list_for(relatives)
        return ObjectKeys(self._objects()), [self._key(relative) or relative for relative in relatives]

    def _list_for(self, relatives: Sequence[str]) -> None:
        """List what is there, where that costs no request or a name may have another Unicode form."""
        if isinstance(self._location, Path) or not all(map(str.isascii, relatives)):
            self._listing()

    def _key(self, relative: str) -> str | None:
        """Return the key that an image is first looked for by; None where there is none."""
        try:
            path = str(path_below(relative))
        except ImageError:
            return None
        if self._known is None:
            return path
        entry = self._known.find(path)
        return None if entry is None else entry.path

    def _read(self, relative: str, get: Callable[[str], Content]) -> bytes:
        path = str(path_below(relative))
        if self._known is None:
            try:
                return get(path).data
            except FileNotFoundError:
                pass
        entry = self._listing().find(path)
        if entry is None:
            other = self._listing().other_case(path)
            advice = f"the store has {other}, write the name as it is there" if other else ""
            raise ImageError(_NO_OBJECT, advice, kind="missing")
        try:
            data, etag = get(entry.path)
        except FileNotFoundError:
            raise DataError("is gone since it was listed", self._list_again()) from None
        if etag != entry.etag or len(data) != entry.size:
            raise DataError("changed since it was listed", self._list_again())
        return data

    def _objects(self) -> ObjectStore:
        return self._store or ObjectStore(self._listing().url)

    def _listing(self) -> ImageListing:
        with self._lock:
            if self._known is None:
                if isinstance(self._location, Path):
                    self._known = read_listing(self._location)
                else:
                    self._known = ImageListing.of(self._location, ObjectStore(self._location).objects())
            return self._known

    def _list_again(self) -> str:
        if isinstance(self._location, Path):
            return f"run `mirip list-images {self._listing().url} --output {self._location}`"
        return "run the same command again"


@dataclass(frozen=True)
class ObjectKeys:
    """The objects of a store, by the keys that they have there."""

    store: ObjectStore

    def unavailable(self) -> str:
        """See ImageReader: what is wrong is told by the first object that is read."""
        return ""

    @contextmanager
    def reading(self, relatives: Sequence[str]) -> Iterator[Read]:
        """See ImageReader."""
        with self.store.reading(relatives) as reading:
            yield lambda key: self._read(key, reading.get)

    def _read(self, key: str, get: Callable[[str], Content]) -> bytes:
        try:
            return get(key).data
        except FileNotFoundError:
            raise ImageError(_NO_OBJECT, kind="missing") from None


def read_unchanged(read: Read, relative: str, sha256: str) -> bytes:
    """Read an image that was prepared before; once more where the bytes differ, since a network may damage them.

    Raises:
        ImageError: as `read`.
        DataError: it has another content; the message does not name it.
    """
    for _ in range(2):
        if sha256_bytes(data := read(relative)) == sha256:
            return data
    raise DataError("is not the file that was prepared, it changed since", "run `dvc repro prepare`")


def image_source(location: Path | str) -> ImageSource:
    """Return what reads the images at a location, as `data.images` names it: a folder, a URL or a listing.

    Raises:
        ParamsError: it is a URL, and none of an object store.
    """
    if isinstance(location, str) and is_url(location):
        return ImageStore(location)
    path = Path(location)
    return ImageStore(path) if path.suffix == SUFFIX and not path.is_dir() else ImageFolder(path)
