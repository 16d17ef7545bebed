"""Files of a run: uploaded once, and again when their bytes change."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mirip.files import canonical_json, sha256_bytes, sha256_file
from mirip.tracking.record import RunRecord

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

ARTIFACTS_TAG = "mirip.artifacts"


def log_artifacts(client: "MlflowClient", run: "Run", record: RunRecord) -> str | None:
    """Upload the files unless the run holds these very bytes; return their digest if they were uploaded.

    Of a result of the past, only files that the run lacks are uploaded.
    """
    files = artifact_files(record.artifacts, record.root)
    digest = _digest(files)
    if run.data.tags.get(ARTIFACTS_TAG) == digest:
        return None
    if record.past and ARTIFACTS_TAG in run.data.tags:
        present = set(_present(client, run.info.run_id))
        files = {name: path for name, path in files.items() if name not in present}
    for name, path in files.items():
        folder = Path(name).parent.as_posix()
        client.log_artifact(run.info.run_id, str(path), artifact_path=None if folder == "." else folder)
    return digest if files else None


def artifacts_digest(artifacts: Sequence[Path]) -> str:
    """Return a digest of the files' places and bytes."""
    return _digest(artifact_files(artifacts, Path()))


def _digest(files: Mapping[str, Path]) -> str:
    return sha256_bytes(canonical_json({name: sha256_file(path) for name, path in files.items()}).encode())


def artifact_files(artifacts: Sequence[Path], root: Path) -> dict[str, Path]:
    """Return the files by their place among the artifacts: as under `root`, else by their bare name."""
    files: dict[str, Path] = {}
    for artifact in (path.absolute() for path in artifacts):  # not resolved: DVC may link to its cache
        base = root.absolute() if artifact.is_relative_to(root.absolute()) else artifact.parent
        members = sorted(artifact.rglob("*")) if artifact.is_dir() else [artifact]
        files |= {
            path.relative_to(base).as_posix(): path
            for path in members
            if path.is_file() and not path.name.startswith(".")
        }
    return files


def _present(client: "MlflowClient", run_id: str, folder: str | None = None) -> Iterator[str]:
    for entry in client.list_artifacts(run_id, folder):
        if entry.is_dir:
            yield from _present(client, run_id, entry.path)
        else:
            yield entry.path
