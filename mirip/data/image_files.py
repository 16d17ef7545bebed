"""Image files in a folder: found whatever the Unicode form of their names, and read from inside that folder only."""

import os
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath, PureWindowsPath

from mirip.errors import ImageError
from mirip.workspace import dvc_cache

_FOLDERS_REMEMBERED = 256
_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".heic", ".heif", ".hif", ".avif", ".bmp",
    ".gif", ".jp2", ".j2k", ".j2c", ".jpx", ".jpf", ".mpo", ".pnm", ".psd", ".tga", ".ppm", ".pgm", ".pbm", ".ico",
    ".jxl", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2", ".pef", ".srw",
)  # fmt: skip


def normalised_path(path: str) -> str:
    """Return a path as all paths are compared: forward slashes, no "." in it, each part in Unicode NFC."""
    return str(PurePosixPath(unicodedata.normalize("NFC", path.replace("\\", "/")))) if path else ""


def read_image_bytes(root: Path, relative: str) -> bytes:
    """Read a file that lies under `root`.

    `root` itself may be a link. A link below it may not lead out of it, but into DVC's cache, where DVC's `cache.type`
    symlink has the files. A name that differs only in its Unicode normal form is found, in each
    part of the path: macOS decomposes accents and Hangul in the names of files and folders.

    Args:
        root: the image folder.
        relative: path below it, with forward slashes.

    Returns:
        The file's bytes.

    Raises:
        ImageError: of kind `outside` or `missing`; the message does not name the file.
    """
    given = path_below(relative)
    try:
        path = find(root, given)
        real = path.resolve()
        if not real.is_relative_to(root.resolve()) and not real.is_relative_to(dvc_cache().resolve()):
            raise ImageError("is a link that leads out of data.images", "copy the file there", kind="outside")
        if not path.exists():
            other = _other_case(path)
            advice = f"the folder has {other}, write the name as it is there" if other else ""
            raise ImageError("is missing: no such file below data.images", advice, kind="missing")
    except (OSError, ValueError, RuntimeError) as error:
        raise ImageError(f"cannot be read: {_reason(error)}", kind="missing") from None
    return read_file(path)


def path_below(relative: str) -> PurePosixPath:
    """Return a path that is relative to data.images and stays below it, as far as the path alone can tell.

    Raises:
        ImageError: of kind `outside`, or `missing` for an empty path; the message does not name it.
    """
    given = PurePosixPath(relative)
    if given.is_absolute() or PureWindowsPath(relative).drive:
        raise ImageError("is an absolute path", "give paths relative to data.images", kind="outside")
    if ".." in given.parts or ".." in PureWindowsPath(relative).parts:
        raise ImageError("leads out of data.images with '..'", "give paths below that folder", kind="outside")
    if not given.parts:
        raise ImageError("is an empty path", "name a file below data.images", kind="missing")
    return given


def is_named_as_image(name: str) -> bool:
    """Tell by a name alone whether people would call the file an image, of a kind that is read or not."""
    return name.lower().endswith(_SUFFIXES)


def find(root: Path, relative: PurePosixPath) -> Path:
    """Return the path of a file below `root`, its parts in the Unicode forms that they have on the disk."""
    if (root / relative).exists():
        return root / relative
    path = root
    for part in relative.parts:
        known = next((form for form in _forms(part) if (path / form).exists()), None)
        path = path / (known or _as_listed(path, part))
    return path


def read_file(path: Path) -> bytes:
    """Read an ordinary file; a pipe or a device, which might never end, is refused.

    Raises:
        ImageError: of kind `missing`; the message does not name the file.
    """
    try:
        if path.is_dir():
            raise ImageError("is a folder, not an image file", kind="missing")
        if path.exists() and not path.is_file():
            raise ImageError("is a device or a pipe, not a file", kind="missing")
        return path.read_bytes()
    except (OSError, ValueError, RuntimeError) as error:
        raise ImageError(f"cannot be read: {_reason(error)}", kind="missing") from None


def files_below(root: Path) -> Iterator[Path]:
    """Yield the path relative to a folder of each file below it, as it is on the disk, sorted within each folder.

    Hidden files and folders are left out, and so are links to folders: they may lead in a circle.
    """
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(folder, name).relative_to(root)


def with_folders_opened(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield each path, and in place of a folder those of the image files below it; a folder without any stays."""
    for path in paths:
        found = [path / below for below in files_below(path) if is_named_as_image(below.name)] if path.is_dir() else []
        yield from found or [path]


def _forms(name: str) -> tuple[str, ...]:
    return name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)


def _as_listed(folder: Path, name: str) -> str:
    """Return the name in a folder that is the same in NFC, or `name` itself."""
    return _listing(folder).get(unicodedata.normalize("NFC", name), name)


def _other_case(path: Path) -> str:
    wanted = unicodedata.normalize("NFC", path.name).casefold()
    return next((name for form, name in _listing(path.parent).items() if form.casefold() == wanted), "")


def _listing(folder: Path) -> dict[str, str]:
    try:
        return _listed(folder, folder.stat().st_mtime_ns)
    except OSError:
        return {}


@lru_cache(maxsize=_FOLDERS_REMEMBERED)
def _listed(folder: Path, changed: int) -> dict[str, str]:
    """Return the names in a folder by their NFC form; read again when the folder has changed."""
    return {unicodedata.normalize("NFC", path.name): path.name for path in folder.iterdir()}


def _reason(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)
