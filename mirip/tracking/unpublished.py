"""Results that wait for a server, kept whole: the next run writes over the files that they stand in.

Each is .mirip/unpublished/<key>.tar in the main repository's root, also from a temporary or queued experiment, and
goes once it is published.
"""

import io
import json
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from mirip.errors import DataError
from mirip.files import atomic_path, main_root
from mirip.tracking.artifacts import artifact_files
from mirip.tracking.record import RunRecord
from mirip.tracking.result import read_result

_ORIGIN = "origin.json"  # among the result's files: its tags, and when it was made


def keep(record: RunRecord) -> None:
    """Keep a result until it is published; of one that is kept already, the newer files count.

    Raises:
        OSError: .mirip is not writable or the disk is full.
    """
    origin = json.dumps({"made_ms": int(time.time() * 1000), "tags": dict(record.tags)}).encode()
    with atomic_path(_path(record.key)) as temporary, tarfile.open(temporary, "w", dereference=True) as archive:
        for name, path in artifact_files(record.artifacts, record.root).items():
            archive.add(path, name)
        member = tarfile.TarInfo(_ORIGIN)
        member.size = len(origin)
        archive.addfile(member, io.BytesIO(origin))


def forget(key: str) -> None:
    """Keep the result no longer, if it was kept."""
    _path(key).unlink(missing_ok=True)


def kept_results() -> list[Path]:
    """Return the files of all results that wait, oldest first."""
    return sorted(_path("*").parent.glob("*.tar"), key=lambda path: path.stat().st_mtime_ns)


@contextmanager
def opened(path: Path) -> Iterator[RunRecord]:
    """Yield a kept result as a result of the past; its files are gone afterwards.

    Raises:
        DataError: the file is damaged, or holds no result.
        ParamsError: this version of Mirip does not know its params.
    """
    with tempfile.TemporaryDirectory(prefix="backfill-", dir=main_root() / ".mirip") as name:
        folder = Path(name)
        try:
            with tarfile.open(path) as archive:
                archive.extractall(folder, filter="data")
            origin = json.loads((folder / _ORIGIN).read_bytes())
        except (tarfile.TarError, OSError, ValueError) as error:
            raise DataError(f"it is damaged ({error}): delete the file") from None
        yield replace(read_result(folder, origin["tags"]), made_ms=origin["made_ms"])


def _path(key: str) -> Path:
    return main_root() / ".mirip" / "unpublished" / f"{key}.tar"
