"""Results that wait for a server, kept whole, since the next run overwrites their files.

Each is .mirip/unpublished/<key>-<store>.tar in the main repository's root, also from a temporary or queued experiment.
It is deleted once the result is published to the store that it was meant for.
"""

import io
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel

from mirip.errors import DataError
from mirip.files import atomic_path, sha256_bytes
from mirip.params import load_params
from mirip.tracking.result import RunRecord, read_result
from mirip.workspace import Workspace, private_folder

_ORIGIN = "origin.json"  # among the result's files


class _Origin(BaseModel):
    """The tags of a result, and when it was made, in milliseconds since 1970."""

    made_ms: int
    tags: dict[str, str]


def keep(record: RunRecord, uri: str) -> None:
    """Keep a result until it is published to the store at `uri`, in place of what was kept of it before.

    Raises:
        OSError: .mirip is not writable or the disk is full.
    """
    origin = _Origin(made_ms=int(time.time() * 1000), tags=dict(record.tags)).model_dump_json().encode()
    with atomic_path(_path(record.key, uri)) as temporary, tarfile.open(temporary, "w", dereference=True) as archive:
        for name, path in record.files().items():
            archive.add(path, name)
        member = tarfile.TarInfo(_ORIGIN)
        member.size = len(origin)
        archive.addfile(member, io.BytesIO(origin))


def forget(key: str, uri: str) -> None:
    """Delete what was kept of a result for the store at `uri`, if anything was."""
    _path(key, uri).unlink(missing_ok=True)


def kept_results() -> list[Path]:
    """Return the files of all results that wait, oldest first."""
    return sorted(private_folder().unpublished.glob("*.tar"), key=lambda path: path.stat().st_mtime_ns)


@contextmanager
def opened(path: Path) -> Iterator[RunRecord]:
    """Yield a kept result as a result of the past; its files are gone afterwards.

    Raises:
        DataError: the file is damaged, or holds no result.
        ParamsError: this version of Mirip does not know its params.
    """
    with tempfile.TemporaryDirectory(prefix="backfill-", dir=private_folder().root) as name:
        folder = Path(name)
        try:
            with tarfile.open(path) as archive:
                archive.extractall(folder, filter="data")
            origin = _Origin.model_validate_json((folder / _ORIGIN).read_bytes())
        except (tarfile.TarError, OSError, ValueError) as error:
            raise DataError(f"it is damaged ({str(error).splitlines()[0]})", "delete the file") from None
        workspace = Workspace(folder)
        yield replace(read_result(workspace, load_params(workspace.params), origin.tags), made_ms=origin.made_ms)


def _path(key: str, uri: str) -> Path:
    return private_folder().unpublished / f"{key}-{sha256_bytes(uri.encode())[:8]}.tar"
