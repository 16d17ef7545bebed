"""Files of a run: uploaded once, and again when their bytes change."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mirip.files import canonical_json, sha256_bytes, sha256_file

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

ARTIFACTS_TAG = "mirip.artifacts"


def log_artifacts(client: "MlflowClient", run: "Run", artifacts: Sequence[Path]) -> str | None:
    """Upload the files unless the run holds these very bytes; return their digest if they were uploaded."""
    digest = artifacts_digest(artifacts)
    if run.data.tags.get(ARTIFACTS_TAG) == digest:
        return None
    for name, path in _artifact_files(artifacts).items():
        folder = Path(name).parent.as_posix()
        client.log_artifact(run.info.run_id, str(path), artifact_path=None if folder == "." else folder)
    return digest


def artifacts_digest(artifacts: Sequence[Path]) -> str:
    """Return a digest of the files' places and bytes."""
    files = _artifact_files(artifacts)
    return sha256_bytes(canonical_json({name: sha256_file(path) for name, path in files.items()}).encode())


def _artifact_files(artifacts: Sequence[Path]) -> dict[str, Path]:
    """Return the files by their place among the artifacts: as under the working directory, else by their bare name."""
    files: dict[str, Path] = {}
    for artifact in artifacts:
        base = Path.cwd() if artifact.resolve().is_relative_to(Path.cwd()) else artifact.resolve().parent
        members = sorted(artifact.rglob("*")) if artifact.is_dir() else [artifact]
        files |= {
            path.resolve().relative_to(base).as_posix(): path
            for path in members
            if path.is_file() and not path.name.startswith(".")
        }
    return files
