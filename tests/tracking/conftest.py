"""A folder with an empty MLflow store, and a real server on another."""

from collections.abc import Iterator
from pathlib import Path

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
