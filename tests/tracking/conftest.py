"""A folder with an empty MLflow store, and a real server on another."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_servers import free_port, wait_for
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
    log, port = folder / "server.log", free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'server.db'}", "--artifacts-destination", "artifacts"]
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, cwd=folder, stdout=stream, stderr=stream, env=os.environ.copy(), start_new_session=True
        )
    uri = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{uri}/health", process, log)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        yield uri
    finally:
        os.killpg(process.pid, 15)
        process.wait(timeout=30)


@pytest.fixture
def unused_port() -> int:
    """A port on which nobody listens."""
    return free_port()
