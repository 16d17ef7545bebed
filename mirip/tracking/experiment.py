"""The MLflow experiment that runs are in, and how the MLflow UI first shows it: ordered by the metric to choose by.

MLflow keeps a shared view as an experiment's tag `mlflow.sharedViewState.<key>`, and opens it for
`?viewStateShareKey=<key>`; the tag `mlflow.experiment.primaryMetric.name` decides which metric its charts begin with.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mirip.errors import TrackingError
from mirip.files import canonical_json
from mirip.tracking.lengths import experiment_name
from mirip.tracking.store import artifact_root, connect, tracking_uri, used_store, without_password

if TYPE_CHECKING:
    from mlflow import MlflowClient

KEY = "mirip"
CHOSEN_BY = "val_pairwise_accuracy"
NOTE = (
    "Compare runs, and choose, by val_pairwise_accuracy. pairwise_accuracy is measured on the test split, for the run "
    "that was chosen: if runs are chosen by it, it looks better than it is."
)
COLUMNS = (
    "metrics.`val_pairwise_accuracy`",
    "metrics.`pairwise_accuracy`",
    "metrics.`evaluate.pairwise_accuracy_ci_low`",
    "metrics.`evaluate.pairwise_accuracy_ci_high`",
    "tags.`evaluate.verdict`",
    "tags.`mirip.recipe`",
    "params.`train.loss`",
    "params.`train.learning_rate`",
    "params.`train.pair_balance`",
    "params.`train.dropout`",
    "params.`train.seed`",
)


def find_or_create_experiment(client: "MlflowClient", name: str, uri: str) -> str:
    """Return the id of the experiment of that name, created if there is none, with the view in which it opens.

    Raises:
        TrackingError: it was deleted.
        MlflowException: the server refuses it.
    """
    from mlflow.exceptions import MlflowException

    name = experiment_name(name)
    found = client.get_experiment_by_name(name)
    if found is None:
        # A server knows where its artifacts belong; a database does not, and would take the working directory.
        location = artifact_root().as_uri() if "://" in uri and not uri.startswith("http") else None
        try:
            return client.create_experiment(name, artifact_location=location, tags=view_tags())
        except MlflowException:  # another clone has just made it, or the answer to our first request was lost
            if (found := client.get_experiment_by_name(name)) is None:
                raise
    if found.lifecycle_stage == "deleted":
        raise TrackingError(
            f"the MLflow experiment {name!r} is deleted",
            f"restore it with `mlflow experiments restore -x {found.experiment_id}` or set track.experiment to another "
            "name",
        )
    for tag, value in missing_view_tags(found.tags).items():
        client.set_experiment_tag(found.experiment_id, tag, value)
    return str(found.experiment_id)


def view_tags() -> dict[str, str]:
    """Return the tags of an experiment that make its view."""
    state = {
        "orderByKey": COLUMNS[0],
        "orderByAsc": False,
        "selectedColumns": list(COLUMNS),
    }
    return {
        "mlflow.experimentKind": "custom_model_development",  # else its menu is that of language models
        "mlflow.experiment.primaryMetric.name": CHOSEN_BY,
        "mlflow.experiment.primaryMetric.greaterIsBetter": "True",
        "mlflow.note.content": NOTE,
        f"mlflow.sharedViewState.{KEY}": canonical_json(state),
    }


def missing_view_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tags that an experiment lacks; a note or a metric that its user chose is not changed."""
    own_view = f"mlflow.sharedViewState.{KEY}"
    return {
        name: value
        for name, value in view_tags().items()
        if name not in tags or (name == own_view and tags[name] != value)
    }


def open_ui(experiment: str, port: int) -> None:
    """Print where runs are compared, and run `mlflow ui` until it is stopped; of a server only the address is printed.

    Raises:
        TrackingError: the experiment is deleted, or the store cannot be used.
    """
    uri = tracking_uri()
    with used_store(uri, "no runs can be shown of"):
        experiment_id = find_or_create_experiment(connect(uri), experiment, uri)
    if uri.startswith("http"):
        print(f"compare runs at {comparison_url(without_password(uri), experiment_id)}")
        return
    print(f"compare runs at {comparison_url(f'http://127.0.0.1:{port}', experiment_id)}", flush=True)
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri, "--port", str(port)]
    if os.name == "nt":  # where execv ends this process at once, and the shell goes on while the server runs
        sys.exit(subprocess.call(command))
    os.execv(sys.executable, command)


def comparison_url(server: str, experiment_id: str) -> str:
    """Return the address at which a server shows an experiment's runs in our view, as those of models.

    At this page MLflow asks the address alone, not the experiment's kind, and else takes it for one of language models.
    """
    view = f"workflowType=machine_learning&viewStateShareKey={KEY}"
    return f"{server.rstrip('/')}/#/experiments/{experiment_id}/runs?{view}"
