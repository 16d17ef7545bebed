"""Is the manifest still that of the data? Files are looked at, never read."""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pandas as pd
import yaml

from mirip.data.image_files import find

_THREADS = 8  # where files are on a network, each look takes a while
_CHUNK = 2048


@dataclass(frozen=True)
class Staleness:
    """In what the data is not as prepare saw it.

    Attributes:
        missing: images of the manifest that are not there.
        resized: images whose file has another size.
        first: path of the first of them.
        metadata_changed: the metadata table was changed.
    """

    missing: int
    resized: int
    first: str | None
    metadata_changed: bool


def look_for_changes(manifest: pd.DataFrame, manifest_path: Path, image_root: Path, metadata: Path) -> Staleness:
    """Compare a manifest with the files that it was made of, by their sizes and times alone.

    A file that was changed and kept its size is not found here: extraction, which reads it, finds it.

    Args:
        manifest: with the columns image_path and file_bytes.
        manifest_path: the file it came from.
        image_root: the folder that image paths are relative to.
        metadata: the table that prepare read.
    """
    paths, sizes = manifest["image_path"].tolist(), manifest["file_bytes"].to_numpy()
    chunks = [paths[start : start + _CHUNK] for start in range(0, len(paths), _CHUNK)]
    with ThreadPoolExecutor(_THREADS) as pool:
        found = [size for chunk in pool.map(lambda chunk: _sizes(image_root, chunk), chunks) for size in chunk]
    here = pd.Series(found, dtype="int64").to_numpy()
    changed = (here != sizes).nonzero()[0]
    n_missing = int((here < 0).sum())
    return Staleness(
        missing=n_missing,
        resized=len(changed) - n_missing,
        first=paths[changed[0]] if len(changed) else None,
        metadata_changed=_is_newer(metadata, manifest_path) and not _is_as_locked(metadata),
    )


def _sizes(root: Path, paths: Sequence[str]) -> list[int]:
    """Return the size of each file, -1 for one that is not there."""
    return [_size(root, path) for path in paths]


def _size(root: Path, path: str) -> int:
    try:
        return os.stat(f"{root}/{path}").st_size  # noqa: PTH116 - a Path each takes longer than the look itself
    except (OSError, ValueError):
        pass
    try:
        return find(root, PurePosixPath(path)).stat().st_size  # under a name in another Unicode form
    except (OSError, ValueError):
        return -1


def _is_newer(path: Path, than: Path) -> bool:
    try:
        return path.stat().st_mtime > than.stat().st_mtime
    except OSError:
        return False


def _is_as_locked(metadata: Path) -> bool:
    """Tell whether dvc.lock names the table's content as what prepare read: a checkout makes files look new."""
    try:
        lock = yaml.load(
            Path("dvc.lock").read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        )
        locked = {dep["path"]: dep.get("md5") for dep in lock["stages"]["prepare"]["deps"]}
        md5 = hashlib.md5(metadata.read_bytes(), usedforsecurity=False).hexdigest()
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return False
    return locked.get(str(metadata)) == md5
