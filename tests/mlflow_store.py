"""An MLflow store as a test looks into it, and a real server."""

import os
import signal
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from local_servers import free_port, wait_for, wait_until_free
from warm_python import commands_folder


def client(uri: str | None = None) -> Any:
    """A client of a store; by default of mlflow.db in the working directory."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=uri or f"sqlite:///{Path.cwd() / 'mlflow.db'}")


def runs(uri: str | None = None) -> list[Any]:
    """All runs of all experiments, oldest first."""
    store = client(uri)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = store.search_runs([e.experiment_id for e in store.search_experiments()])
    return sorted(found, key=lambda run: run.info.start_time)


@contextmanager
def server(folder: Path, port: int | None = None) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A real `mlflow server` on sqlite in `folder`: its address, and its process, which leads a group of its own."""
    port = port or free_port()
    command = [str(commands_folder() / "mlflow"), "server", "--backend-store-uri", f"sqlite:///{folder}/server.db"]
    command += ["--artifacts-destination", str(folder / "artifacts"), "--host", "127.0.0.1", "--port", str(port)]
    # One worker: of four, each would start again.
    environment = {**os.environ, "MLFLOW_WORKERS": "1", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    wait_until_free(port)  # of a server that was killed just before
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            env=environment,
            cwd=folder,
            start_new_session=True,
        )
    uri = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{uri}/health", process, folder / "server.log")
        yield uri, process
    finally:
        kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a server with all its workers, at once."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
