"""What `data.images` points to: where images are read from, by the paths that the metadata table gives.

`image_source` makes the one object for it, and nothing else in mirip/ asks what kind of place it is. A source is small
and can be pickled: a process that computes features reads by its own copy.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from mirip.data.image_files import files_below, find, normalised_path, read_image_bytes
from mirip.errors import DataError
from mirip.files import sha256_bytes

Read = Callable[[str], bytes]
_THREADS = 8  # where files are on a network, each look takes a while
_CHUNK = 2048


class ImageSource(Protocol):
    """Where images are read from. All paths are relative to it, with forward slashes."""

    def check(self) -> None:
        """Raise DataError where no image can be read from it, whatever the path."""

    def unavailable(self) -> str:
        """Say why nothing can be read from it on this machine; nothing where it can."""

    def read(self, relative: str) -> bytes:
        """Return the bytes of one image.

        Raises:
            ImageError: of kind `outside`, `missing` or `too_large`; the message does not name the image.
        """

    def reading(self, relatives: Sequence[str]) -> AbstractContextManager[Read]:
        """Return a context whose value reads as `read` does, from any thread.

        Args:
            relatives: what will be read, about in this order: a source that is far away begins before it is asked.
        """

    def below(self) -> Iterator[str]:
        """Yield the path of every file there, hidden ones left out, as all paths are compared (`normalised_path`)."""

    def sizes(self, relatives: Sequence[str]) -> list[int]:
        """Return how many bytes each image has, -1 for one that is not there; no image is read."""


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

    def _size(self, relative: str) -> int:
        try:
            return os.stat(f"{self.root}/{relative}").st_size  # noqa: PTH116 - a Path each takes longer than the look
        except (OSError, ValueError):
            pass
        try:
            return find(self.root, PurePosixPath(relative)).stat().st_size  # under a name in another Unicode form
        except (OSError, ValueError):
            return -1


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
    """Return what reads the images at a location, as `data.images` names it."""
    return ImageFolder(Path(location))
