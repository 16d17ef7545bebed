"""Results published to MLflow, once per distinct result.

A run is found again by the tag `mirip.key`, a hash of params and of the digests of what was made, and is updated
rather than duplicated: a value that the run has already is not logged again, a new one is a new point of its history.

Names in MLflow: params are flattened by section (`train.learning_rate`); scalars begin with the stage's name
(`evaluate.pairwise_accuracy`), and the two that runs are compared by are also logged under their plain names
(`val_pairwise_accuracy`, `pairwise_accuracy`); curves are `curve/<column>` by epoch; texts (`evaluate.verdict`) are
tags.
"""

import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from mirip.errors import TrackingError
from mirip.files import canonical_json, flatten, sha256_bytes, sha256_file, write_json
from mirip.params import Params
from mirip.tracking.dataset import log_dataset
from mirip.tracking.experiment import find_or_create_experiment
from mirip.tracking.lengths import MAX_KEY_CHARS, MAX_PARAM_CHARS, MAX_TAG_CHARS, fitted, run_name
from mirip.tracking.logged_model import log_ranker
from mirip.tracking.result import RunRecord, provenance_tags, read_result
from mirip.tracking.runs_of_key import RunsOfKey
from mirip.tracking.store import connect, exclusive_store, is_own_store, is_unavailable, tracking_uri, without_password
from mirip.tracking.unpublished import forget, keep
from mirip.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

T = TypeVar("T")

ARTIFACTS_TAG = "mirip.artifacts"
HEADLINES = {"train.val_pairwise_accuracy": "val_pairwise_accuracy", "evaluate.pairwise_accuracy": "pairwise_accuracy"}

_ROUNDS = 5  # how often to begin again where other clones publish the same result
_PAUSE_S = 2
_WAIT_S = 15  # for another clone to complete its run: more than a request takes that is answered at its second try
_BATCH = {"metrics": 1000, "params": 100, "tags": 100}  # MLflow's limits for one request


@dataclass(frozen=True)
class Published:
    """Where a result is now, and whether it was there before."""

    run_id: str
    run_name: str
    uri: str
    status: Literal["new", "updated", "unchanged"]

    def __str__(self) -> str:
        return f"run {self.run_name} in {self.uri} ({self.status})"


@dataclass(frozen=True)
class Tracked:
    """What the stage `track` did.

    Attributes:
        published: the run; None where tracking is off or the server is unavailable.
        warning: why there is no run, and what to do; empty where nothing is wrong.
    """

    published: Published | None
    warning: str = ""

    def summary(self) -> str:
        """Say in one line where the result is; empty where there is a warning instead."""
        if self.published is not None:
            return str(self.published)
        return "" if self.warning else "off (track.enabled is false): nothing was published"


def track(workspace: Workspace, params: Params) -> Tracked:
    """Publish the result of a workspace as params say, and write the receipt of a pipeline's result.

    A server that is unavailable loses nothing. A pipeline's result is kept until `mirip track --backfill` publishes it,
    since the next run overwrites its files. In the output folder of `mirip train` the files simply stay.

    Raises:
        DataError: a stage has not been run.
    """
    record = read_result(workspace, params, provenance_tags())
    tracked = _tracked(workspace, record) if params.track.enabled else Tracked(None)
    if not workspace.flat:
        write_json(workspace.receipt, {"key": record.key, "published": tracked.published is not None})
    return tracked


def _tracked(workspace: Workspace, record: RunRecord) -> Tracked:
    try:
        return Tracked(publish(record))
    except TrackingError as error:
        if workspace.flat:
            advice = f"the results in {workspace.root} are complete: run the same command again to publish them"
        else:
            keep(record, tracking_uri())
            advice = "the result is kept until `mirip track --backfill` publishes it"
        return Tracked(None, f"{error}; {advice}")


def publish(record: RunRecord) -> Published:
    """Create the run of `record.key`, or bring it up to date; a result that was kept for this store no longer is.

    Processes of one repository publish one after the other. Several clones may publish one result to one server at the
    same time: see `mirip.tracking.runs_of_key` for how it still gets one run.

    Raises:
        TrackingError: the server cannot be reached within about 20 s, or refuses the result.
    """
    uri = tracking_uri()
    with exclusive_store(uri, "the result was not published to"):
        published = _publish(record, uri)
    forget(record.key, uri)
    return published


@dataclass
class _Changes:
    """What a run lacks."""

    metrics: "list[Metric]" = field(default_factory=list)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.metrics or self.params or self.tags)


def _publish(record: RunRecord, uri: str) -> Published:
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    last = 1 if is_own_store(uri) else _ROUNDS
    for number in range(1, last + 1):
        try:
            if (published := _publish_once(record, uri)) is not None:
                return published
        except (MlflowException, SQLAlchemyError) as error:
            # A clone that publishes the same may have removed our run, or be creating the tables at this moment.
            if number == last or is_unavailable(error):
                raise
            time.sleep(_PAUSE_S)
    raise TrackingError("other clones publish this result at this moment", "publish it again when they are done")


def _publish_once(record: RunRecord, uri: str) -> Published | None:
    """Complete the run of a result and remove its copies; None where another clone's run turned out to be the one."""
    client = connect(uri)
    experiment_id = find_or_create_experiment(client, record.experiment, uri)
    runs = RunsOfKey(client, experiment_id, record.key)
    run, found = runs.take(record.run_name, record.made_ms, wait_s=0 if is_own_store(uri) else _WAIT_S)
    changes = _missing(client, run, record)
    _log(client, run.info.run_id, changes)
    if artifacts := _log_artifacts(client, run, record):
        client.set_tag(run.info.run_id, ARTIFACTS_TAG, artifacts)
    new_dataset = record.dataset is not None and log_dataset(client, run, record.dataset)
    new_model = record.ranker is not None and log_ranker(client, run, record.ranker)
    name = run_name(record.run_name)
    renamed = record.rename and run.info.run_name != name
    if renamed:
        client.update_run(run.info.run_id, name=name)
    complete = run.info.status == "FINISHED"
    if not complete:
        ended = max(record.made_ms, run.info.start_time) if record.made_ms is not None else None
        client.set_terminated(run.info.run_id, "FINISHED", end_time=ended)
    if runs.settle().info.run_id != run.info.run_id:
        return None
    same = complete and not (changes or artifacts or new_dataset or new_model or renamed)
    return Published(
        run_id=run.info.run_id,
        run_name=name if renamed else run.info.run_name,
        uri=without_password(uri),
        status="new" if not found else "unchanged" if same else "updated",
    )


def _missing(client: "MlflowClient", run: "Run", record: RunRecord) -> _Changes:
    changes = _Changes()
    now_ms = record.made_ms or int(time.time() * 1000)
    # What a run is given first has the run's own time: two clones that complete one run write the same points.
    first_ms = run.info.start_time
    texts, numbers = _texts_and_numbers(record.metrics)
    for name, value in numbers.items():
        if name not in run.data.metrics or (run.data.metrics[name] != value and not record.past):
            known = name in run.data.metrics
            step = 1 + max(m.step for m in _history(client, run, name)) if known else 0
            changes.metrics.append(_metric(name, value, now_ms if known else first_ms, step))
    if record.curves is not None:
        changes.metrics += _missing_points(client, run, record.curves, first_ms)
    params = {_name(key): _text(value) for key, value in flatten(record.params).items()}
    changes.params = {key: value for key, value in params.items() if key not in run.data.params}
    tags = {_name(key): fitted(value, MAX_TAG_CHARS) for key, value in {**record.tags, **texts}.items()}
    changes.tags = {
        key: value
        for key, value in tags.items()
        if key not in run.data.tags or (run.data.tags[key] != value and not record.past)
    }
    return changes


def _missing_points(client: "MlflowClient", run: "Run", curves: "pd.DataFrame", time_ms: int) -> "list[Metric]":
    points = []
    for column in curves.columns.drop("epoch"):
        name = fitted(f"curve/{_name(column)}", MAX_KEY_CHARS)
        known = {(m.step, m.value) for m in _history(client, run, name)} if name in run.data.metrics else set()
        points += [
            _metric(name, value, time_ms, step)
            for step, value in zip(
                curves["epoch"].astype(int).tolist(), curves[column].astype(float).tolist(), strict=True
            )
            if math.isfinite(value) and (step, value) not in known
        ]
    return points


def _history(client: "MlflowClient", run: "Run", name: str) -> "list[Metric]":
    return list(client.get_metric_history(run.info.run_id, name))


def _metric(name: str, value: float, now_ms: int, step: int) -> "Metric":
    from mlflow.entities import Metric

    return Metric(name, value, now_ms, step)


def _texts_and_numbers(metrics: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, float]]:
    texts = {_name(key): value for key, value in metrics.items() if isinstance(value, str) and value}
    numbers = {
        _name(key): float(value)
        for key, value in metrics.items()
        if isinstance(value, int | float) and math.isfinite(value)
    }
    return texts, numbers | {plain: numbers[full] for full, plain in HEADLINES.items() if full in numbers}


def _log(client: "MlflowClient", run_id: str, changes: _Changes) -> None:
    from mlflow.entities import Param, RunTag

    for metrics in _chunks(changes.metrics, _BATCH["metrics"]):
        client.log_batch(run_id, metrics=metrics)
    for params in _chunks([Param(*item) for item in changes.params.items()], _BATCH["params"]):
        client.log_batch(run_id, params=params)
    for tags in _chunks([RunTag(*item) for item in changes.tags.items()], _BATCH["tags"]):
        client.log_batch(run_id, tags=tags)


def _log_artifacts(client: "MlflowClient", run: "Run", record: RunRecord) -> str | None:
    """Upload the files unless the run has these very bytes; return their digest if they were uploaded.

    Of a result of the past, only files that the run lacks are uploaded.
    """
    files = record.files()
    digest = sha256_bytes(canonical_json({name: sha256_file(path) for name, path in files.items()}).encode())
    if run.data.tags.get(ARTIFACTS_TAG) == digest:
        return None
    if record.past and ARTIFACTS_TAG in run.data.tags:
        present = set(_present(client, run.info.run_id))
        files = {name: path for name, path in files.items() if name not in present}
    for name, path in files.items():
        folder = Path(name).parent.as_posix()
        client.log_artifact(run.info.run_id, str(path), artifact_path=None if folder == "." else folder)
    return digest if files else None


def _present(client: "MlflowClient", run_id: str, folder: str | None = None) -> Iterator[str]:
    """Yield the places of all files that a run has."""
    for entry in client.list_artifacts(run_id, folder):
        if entry.is_dir:
            yield from _present(client, run_id, entry.path)
        else:
            yield entry.path


def _chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _name(key: str) -> str:
    """Return `key` as short as MLflow wants it, with what it forbids in names replaced by an underscore."""
    return fitted(re.sub(r"[^\w.\- ]", "_", key), MAX_KEY_CHARS)


def _text(value: Any) -> str:
    text = "null" if value is None else canonical_json(value) if isinstance(value, bool | list | tuple) else str(value)
    return fitted(text, MAX_PARAM_CHARS)
