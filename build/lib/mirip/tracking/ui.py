"""The MLflow UI, opened where runs are compared."""

import os
import sys

from mirip.tracking.store import connect, find_or_create_experiment, quiet_mlflow, tracking_uri, without_password
from mirip.tracking.view import KEY


def comparison_url(server: str, experiment_id: str) -> str:
    """Return the address at which a server shows an experiment's runs in our view."""
    return f"{server.rstrip('/')}/#/experiments/{experiment_id}/runs?viewStateShareKey={KEY}"


def open_ui(experiment: str, port: int) -> None:
    """Print where runs are compared, and become `mlflow ui`; of a server elsewhere only the address is printed.

    Raises:
        TrackingError: the experiment is deleted.
    """
    uri = tracking_uri()
    with quiet_mlflow():
        experiment_id = find_or_create_experiment(connect(uri), experiment, uri)
    if uri.startswith("http"):
        print(f"compare runs at {comparison_url(without_password(uri), experiment_id)}")
        return
    print(f"compare runs at {comparison_url(f'http://127.0.0.1:{port}', experiment_id)}", flush=True)
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri, "--port", str(port)]
    os.execv(sys.executable, command)
