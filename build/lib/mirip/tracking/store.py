"""The MLflow store at work: where it is, made whole, and reached without its noise."""

import logging
import os
import urllib.parse
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mirip.errors import TrackingError
from mirip.tracking.view import missing_view_tags, view_tags
from mirip.workspace import main_root

if TYPE_CHECKING:
    from mlflow import MlflowClient

_LOCK_TIMEOUT_S = 120
_DEFAULT_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # A model's requirements are ours to say, not those of a uv.lock in the working directory.
    "MLFLOW_UV_AUTO_DETECT": "false",
    # MLflow's own 120 s and 7 retries would hold a finished pipeline for many minutes when the server is away.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "6",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
}


def tracking_uri() -> str:
    """Return MLFLOW_TRACKING_URI, else `mlflow.db` in the main repository's root."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{main_root() / 'mlflow.db'}"


def connect(uri: str) -> "MlflowClient":
    """Return a client of a store; a database that is not there is made first."""
    from mlflow import MlflowClient

    if (path := _sqlite_path(uri)) is not None and not path.exists():
        create_database(path)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def store_exists(uri: str) -> bool:
    """Return False for a local database that is not there; whether a server is there only asking it can tell."""
    return (path := _sqlite_path(uri)) is None or path.exists()


def create_database(path: Path) -> None:
    """Make a new store under another name and move it into place, so that nobody ever opens half of one."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        store = SqlAlchemyStore(f"sqlite:///{temporary}", artifact_root().as_uri())  # type: ignore[no-untyped-call]
        store.engine.dispose()
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def find_or_create_experiment(client: "MlflowClient", name: str, uri: str) -> str:
    """Return the id of the experiment of that name, made if it is not there, with the view in which it opens.

    Raises:
        TrackingError: it was deleted.
    """
    found = client.get_experiment_by_name(name)
    if found is None:
        # A server knows where its artifacts belong; a database does not, and would take the working directory.
        location = artifact_root().as_uri() if "://" in uri and not uri.startswith("http") else None
        return client.create_experiment(name, artifact_location=location, tags=view_tags())
    if found.lifecycle_stage == "deleted":
        raise TrackingError(
            f"the MLflow experiment {name!r} is deleted: restore it with `mlflow experiments restore -x "
            f"{found.experiment_id}` or set track.experiment to another name"
        )
    for tag, value in missing_view_tags(found.tags).items():
        client.set_experiment_tag(found.experiment_id, tag, value)
    return str(found.experiment_id)


def artifact_root() -> Path:
    """Return the folder in which runs of a local database keep their files."""
    return main_root() / "mlartifacts"


def _sqlite_path(uri: str) -> Path | None:
    scheme = "sqlite:///"
    return Path(uri.removeprefix(scheme)) if uri.startswith(scheme) else None


def without_password(uri: str) -> str:
    """Return a URI as it may be shown."""
    parts = urllib.parse.urlsplit(uri)
    return uri.replace(f"{parts.netloc}", parts.netloc.rpartition("@")[2], 1) if "@" in parts.netloc else uri


def root_cause(error: BaseException) -> str:
    """Return one line: MLflow wraps `Connection refused` in a paragraph of URLs and retries."""
    while (deeper := error.__cause__ or error.__context__) is not None:
        error = deeper
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else f"{text[:300]}..."


@contextmanager
def exclusive_store(uri: str, failed: str) -> Iterator[None]:
    """Work on a store alone among the processes of this repository, so that nothing is made twice.

    Args:
        uri: of the store.
        failed: begins the error's text, as "the result was not published to".

    Raises:
        TrackingError: the server cannot be reached within about 20 s, or refuses; or others keep the store busy.
    """
    from filelock import FileLock, Timeout

    lock = main_root() / ".mirip" / "track.lock"
    lock.parent.mkdir(exist_ok=True)
    with quiet_mlflow():
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            with FileLock(lock, timeout=_LOCK_TIMEOUT_S):
                yield
                return
        except Timeout:
            reason = f"another process has held {lock} for {_LOCK_TIMEOUT_S} s"
        except (MlflowException, SQLAlchemyError, OSError) as error:
            reason = root_cause(error)
    raise TrackingError(f"{failed} {without_password(uri)}: {reason}")


@contextmanager
def quiet_mlflow() -> Iterator[None]:
    """Keep migration logs, telemetry, emoji and third-party deprecations out of a stage's output."""
    for name, value in _DEFAULT_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow  # noqa: F401  MLflow sets its log levels when imported: ours come after

        levels = {name: logging.getLogger(name).level for name in ("mlflow", "alembic", "urllib3")}
        for name in levels:
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
