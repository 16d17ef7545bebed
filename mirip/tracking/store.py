"""The MLflow store: where it is, how it is created whole, and how it is used without its noise."""

import logging
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mirip.errors import TrackingError
from mirip.locks import LockTimeout, locked_file
from mirip.workspace import main_root, private_folder

if TYPE_CHECKING:
    from mlflow import MlflowClient

_LOCK_TIMEOUT_S = 120
_DEFAULT_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # We name a model's requirements: MLflow must not take those of a uv.lock in the working directory.
    "MLFLOW_UV_AUTO_DETECT": "false",
    # MLflow's own 120 s and 7 retries would hold up a finished pipeline for minutes when the server is unavailable.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "6",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
}


# The package of each module that MLflow imports for a kind of store, where it has another name.
_PACKAGES = {
    "MySQLdb": "mysqlclient",
    "azure": "azure-storage-blob",
    "google": "google-cloud-storage",
    "psycopg": "'psycopg[binary]'",
    "psycopg2": "psycopg2-binary",
}


def tracking_uri() -> str:
    """Return MLFLOW_TRACKING_URI, else `mlflow.db` in the main repository's root."""
    return os.environ.get("MLFLOW_TRACKING_URI") or _own_uri()


def is_own_store(uri: str) -> bool:
    """Return whether a store is the main repository's, which other clones do not write to."""
    return uri == _own_uri()


def _own_uri() -> str:
    return f"sqlite:///{(main_root() / 'mlflow.db').as_posix()}"


def connect(uri: str) -> "MlflowClient":
    """Return a client of a store; a database that does not exist is created first.

    Raises:
        TrackingError: MLflow knows no such kind of store, or the address is none.
        MlflowException: it knows the kind, and refuses it.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    if (path := _sqlite_path(uri)) is not None and not path.exists():
        create_database(path)
    try:
        return MlflowClient(tracking_uri=uri, registry_uri=uri)
    except (MlflowException, ValueError) as error:
        if isinstance(error, MlflowException) and "unsupported URI" not in str(error):
            raise
        raise TrackingError(
            f"{without_password(uri)} is not the address of an MLflow store",
            "set MLFLOW_TRACKING_URI to one such as http://host:5000, sqlite:////path/mlflow.db or "
            "postgresql://user@host/name",
        ) from None


def answers(uri: str) -> bool:
    """Return whether a store can be reached and used at all."""
    try:
        with used_store(uri, "asked"):
            connect(uri).search_experiments(max_results=1)
    except TrackingError:
        return False
    return True


def is_unavailable(error: BaseException) -> bool:
    """Return whether an error means that a store cannot be reached, rather than that it refuses something."""
    from requests import RequestException
    from sqlalchemy.exc import OperationalError

    return any(isinstance(cause, RequestException | OperationalError) for cause in _causes(error))


def store_exists(uri: str) -> bool:
    """Return False for a local database that does not exist; a server is only known to be there once it answers."""
    return (path := _sqlite_path(uri)) is None or path.exists()


def create_database(path: Path) -> None:
    """Create a store under another name and move it into place, so that nobody ever opens half of one."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        store = SqlAlchemyStore(f"sqlite:///{temporary.as_posix()}", artifact_root().as_uri())  # type: ignore[no-untyped-call]
        store.engine.dispose()
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def artifact_root() -> Path:
    """Return the folder in which runs of a local database keep their files."""
    return main_root() / "mlartifacts"


def _sqlite_path(uri: str) -> Path | None:
    scheme = "sqlite:///"
    return Path(uri.removeprefix(scheme)) if uri.startswith(scheme) else None


def without_password(uri: str) -> str:
    """Return a URI as it may be shown."""
    return re.sub("(?<=://)[^/]*@", "", uri, count=1)


def root_cause(error: BaseException) -> str:
    """Return one line: MLflow wraps `Connection refused` in a paragraph of URLs and retries."""
    *_, root = _causes(error)
    text = " ".join(str(root).split())
    return text if len(text) <= 300 else f"{text[:300]}..."


@contextmanager
def exclusive_store(uri: str, failed: str) -> Iterator[None]:
    """Use a store alone among the processes of this repository, so that nothing is created twice.

    Args:
        uri: of the store.
        failed: how the error begins, such as "the result was not published to".

    Raises:
        TrackingError: see `used_store`; or others keep the store busy.
    """
    lock = private_folder().tracking_lock
    with used_store(uri, failed):
        try:
            with locked_file(lock, timeout_s=_LOCK_TIMEOUT_S):
                yield
                return
        except LockTimeout:
            reason = f"another process has held {lock} for {_LOCK_TIMEOUT_S} s"
    raise TrackingError(f"{failed} {without_password(uri)}: {reason}")


@contextmanager
def used_store(uri: str, failed: str) -> Iterator[None]:
    """Use a store without MLflow's noise; what it cannot do is an error of one line.

    Args:
        uri: of the store.
        failed: how the error begins, such as "the result was not published to".

    Raises:
        TrackingError: the server cannot be reached within about 20 s, or refuses; a package that it needs is missing.
    """
    advice = ""
    with quiet_mlflow():
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
            return
        except (MlflowException, SQLAlchemyError, OSError, ImportError) as error:
            reason = root_cause(error)
            if (package := _missing_package(error)) is not None:
                advice = f"install it into this environment with `pip install {package}`"
    raise TrackingError(f"{failed} {without_password(uri)}: {reason}", advice)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, what it was raised from, and so on to the first."""
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__ or found.__context__


def _missing_package(error: BaseException) -> str | None:
    """Return the package that lacks, if that is behind an error: a database's driver, or a client of a file store."""
    for cause in _causes(error):
        if isinstance(cause, ImportError) and cause.name:
            module = cause.name.partition(".")[0]
            return _PACKAGES.get(module, module)
    return None


@contextmanager
def quiet_mlflow() -> Iterator[None]:
    """Keep migration logs, telemetry, emoji and third-party deprecations out of a stage's output."""
    for name, value in _DEFAULT_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow  # noqa: F401  MLflow sets its log levels when imported, so it is imported before we set ours

        levels = {name: logging.getLogger(name).level for name in ("mlflow", "alembic", "urllib3")}
        for name in levels:
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
