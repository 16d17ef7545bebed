"""Is the manifest still that of the data? Files are looked at, never read."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import yaml

from mirip.data.image_source import ImageSource


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


def look_for_changes(manifest: pd.DataFrame, manifest_path: Path, images: ImageSource, metadata: Path) -> Staleness:
    """Compare a manifest with the files that it was made of, by their sizes and times alone.

    A file that was changed and kept its size is not found here: extraction, which reads it, finds it.

    Args:
        manifest: with the columns image_path and file_bytes.
        manifest_path: the file it came from.
        images: what image paths are relative to.
        metadata: the table that prepare read.
    """
    paths, sizes = manifest["image_path"].tolist(), manifest["file_bytes"].to_numpy()
    here = pd.Series(images.sizes(paths), dtype="int64").to_numpy()
    changed = (here != sizes).nonzero()[0]
    n_missing = int((here < 0).sum())
    return Staleness(
        missing=n_missing,
        resized=len(changed) - n_missing,
        first=paths[changed[0]] if len(changed) else None,
        metadata_changed=_is_newer(metadata, manifest_path) and not _is_as_locked(metadata),
    )


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
