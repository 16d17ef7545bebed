"""Results published to MLflow, once per distinct result. The only file that imports mlflow.

A run is found again by the tag `mirip.key`, a hash of params and of the digests of what was made, and is updated
rather than duplicated: a value that already stands is not logged again, a new one is a new point of its history.

Names in MLflow: params are flattened by section (`train.learning_rate`); scalars bear the stage's name
(`evaluate.pairwise_accuracy`), and the two that runs are compared by stand beside them under their plain names
(`val_pairwise_accuracy`, `pairwise_accuracy`); curves are `curve/<column>` by epoch; texts (`evaluate.verdict`) are
tags.
"""

import logging
import math
import os
import re
import subprocess
import time
import urllib.parse
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from mirip.errors import TrackingError
from mirip.files import canonical_json, main_root, sha256_bytes, sha256_file

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

T = TypeVar("T")

KEY_TAG = "mirip.key"
ARTIFACTS_TAG = "mirip.artifacts"
HEADLINES = {"train.val_pairwise_accuracy": "val_pairwise_accuracy", "evaluate.pairwise_accuracy": "pairwise_accuracy"}

_LOCK_TIMEOUT_S = 120
_MAX_PARAM_CHARS = 6000
_BATCH = {"metrics": 1000, "params": 100, "tags": 100}  # MLflow's limits for one request
_DEFAULT_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # MLflow's own 120 s and 7 retries would hold a finished pipeline for many minutes when the server is away.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "6",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
}


@dataclass(frozen=True)
class RunRecord:
    """One result, ready to be published.

    Args:
        experiment: name of the MLflow experiment; made if it is not there.
        run_name: name of a new run.
        params: nested or flat; flattened with dots.
        metrics: flat; numbers become metrics, texts become tags, None and what is not finite is left out.
        curves: one row an epoch, with the column `epoch`; every other column becomes a metric by step.
        artifacts: files and folders; those that do not exist are left out.
        tags: further tags.
        key: what makes the result distinct; see `result_key`.
        rename: give a run that is already there `run_name` too.
    """

    experiment: str
    run_name: str
    params: Mapping[str, Any]
    metrics: Mapping[str, Any]
    curves: "pd.DataFrame | None"
    artifacts: Sequence[Path]
    tags: Mapping[str, str]
    key: str
    rename: bool = False


@dataclass(frozen=True)
class Published:
    """Where a result stands now, and whether it stood there before."""

    run_id: str
    run_name: str
    uri: str
    status: Literal["new", "updated", "unchanged"]


def publish(record: RunRecord) -> Published:
    """Create the run of `record.key`, or bring it up to date.

    Processes of one repository publish one after the other, so that a key never gets two runs.

    Raises:
        TrackingError: the server cannot be reached within about 20 s, or refuses the result.
    """
    from filelock import FileLock, Timeout

    uri = tracking_uri()
    lock = main_root() / ".mirip" / "track.lock"
    lock.parent.mkdir(exist_ok=True)
    with _quiet_mlflow():
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            with FileLock(lock, timeout=_LOCK_TIMEOUT_S):
                return _publish(record, uri)
        except Timeout:
            reason = f"another process has held {lock} for {_LOCK_TIMEOUT_S} s"
        except (MlflowException, SQLAlchemyError, OSError) as error:
            reason = _root_cause(error)
    raise TrackingError(f"the result was not published to {_without_password(uri)}: {reason}")


def log_training_run(
    *,
    experiment: str,
    run_name: str | None,
    params: Mapping[str, Any],
    metrics: Mapping[str, Any],
    curves: "pd.DataFrame | None",
    artifacts: Sequence[Path],
    tags: Mapping[str, str] | None = None,
) -> Published:
    """Publish a training off the pipeline; the same params, curves and artifacts are the same run.

    Raises:
        TrackingError: see `publish`.
    """
    digests = {
        "artifacts": _artifacts_digest(artifacts),
        "curves": "" if curves is None else curves.to_csv(index=False),
    }
    key = result_key(params, digests)
    name = run_name or f"train {key[:7]}"
    return publish(
        RunRecord(
            experiment,
            name,
            params,
            metrics,
            curves,
            artifacts,
            {**provenance_tags(), **(tags or {})},
            key,
            rename=run_name is not None,
        )
    )


def result_key(params: Mapping[str, Any], digests: Mapping[str, str]) -> str:
    """Return the 64 hexadecimal digits that name a result: equal params and digests, equal key."""
    return sha256_bytes(canonical_json({"params": params, "digests": digests}).encode())


def tracking_uri() -> str:
    """Return MLFLOW_TRACKING_URI, else `mlflow.db` in the main repository's root."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{main_root() / 'mlflow.db'}"


def provenance_tags() -> dict[str, str]:
    """Return what Git and DVC know of the code at work: commit, dirty, experiment, baseline; as far as there is any.

    Results (metrics/ and dvc.lock) do not make the code dirty.
    """
    tags = {
        name: os.environ[variable]
        for name, variable in {"dvc.experiment": "DVC_EXP_NAME", "dvc.baseline": "DVC_EXP_BASELINE_REV"}.items()
        if os.environ.get(variable)
    }
    if commit := _git("rev-parse", "--verify", "HEAD"):
        changes = _git(
            "status",
            "--porcelain",
            "--untracked-files=no",
            "--",
            ":/",
            ":(top,exclude)metrics",
            ":(top,exclude)dvc.lock",
        )
        tags |= {"git.commit": commit, "git.dirty": str(bool(changes)).lower(), "mlflow.source.git.commit": commit}
    return tags


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one, keys joined with dots."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


@dataclass
class _Changes:
    """What a run lacks."""

    metrics: "list[Metric]" = field(default_factory=list)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.metrics or self.params or self.tags)


def _publish(record: RunRecord, uri: str) -> Published:
    client = _client(uri)
    experiment_id = _experiment_id(client, record.experiment, uri)
    found = client.search_runs([experiment_id], filter_string=f"tags.`{KEY_TAG}` = '{record.key}'", max_results=1)
    run = found[0] if found else client.create_run(experiment_id, run_name=record.run_name, tags={KEY_TAG: record.key})
    changes = _missing(client, run, record)
    _log(client, run.info.run_id, changes)
    if artifacts := _log_artifacts(client, run, record.artifacts):
        client.set_tag(run.info.run_id, ARTIFACTS_TAG, artifacts)
    renamed = record.rename and run.info.run_name != record.run_name
    if renamed:
        client.update_run(run.info.run_id, name=record.run_name)
    complete = run.info.status == "FINISHED"
    if not complete:
        client.set_terminated(run.info.run_id, "FINISHED")
    stood = bool(found) and complete and not (changes or artifacts or renamed)
    return Published(
        run_id=run.info.run_id,
        run_name=record.run_name if renamed else run.info.run_name,
        uri=_without_password(uri),
        status="new" if not found else "unchanged" if stood else "updated",
    )


def _client(uri: str) -> "MlflowClient":
    from mlflow import MlflowClient

    if (path := _sqlite_path(uri)) is not None and not path.exists():
        _create_database(path)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _create_database(path: Path) -> None:
    """Make a new store under another name and move it into place, so that nobody ever opens half of one."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        store = SqlAlchemyStore(f"sqlite:///{temporary}", _artifact_root().as_uri())  # type: ignore[no-untyped-call]
        store.engine.dispose()
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _experiment_id(client: "MlflowClient", name: str, uri: str) -> str:
    found = client.get_experiment_by_name(name)
    if found is None:
        # A server knows where its artifacts belong; a database does not, and would take the working directory.
        location = _artifact_root().as_uri() if "://" in uri and not uri.startswith("http") else None
        return client.create_experiment(name, artifact_location=location)
    if found.lifecycle_stage == "deleted":
        raise TrackingError(
            f"the MLflow experiment {name!r} is deleted: restore it with `mlflow experiments restore -x "
            f"{found.experiment_id}` or set track.experiment to another name"
        )
    return str(found.experiment_id)


def _missing(client: "MlflowClient", run: "Run", record: RunRecord) -> _Changes:
    changes = _Changes()
    now_ms = int(time.time() * 1000)
    texts, numbers = _texts_and_numbers(record.metrics)
    for name, value in numbers.items():
        if run.data.metrics.get(name) != value:
            step = 1 + max(m.step for m in _history(client, run, name)) if name in run.data.metrics else 0
            changes.metrics.append(_metric(name, value, now_ms, step))
    if record.curves is not None:
        changes.metrics += _missing_points(client, run, record.curves, now_ms)
    params = {_name(key): _text(value) for key, value in flatten(record.params).items()}
    changes.params = {key: value for key, value in params.items() if key not in run.data.params}
    tags = {**record.tags, **texts}
    changes.tags = {key: value for key, value in tags.items() if run.data.tags.get(key) != value}
    return changes


def _missing_points(client: "MlflowClient", run: "Run", curves: "pd.DataFrame", now_ms: int) -> "list[Metric]":
    points = []
    for column in curves.columns.drop("epoch"):
        name = f"curve/{_name(column)}"
        known = {(m.step, m.value) for m in _history(client, run, name)} if name in run.data.metrics else set()
        points += [
            _metric(name, value, now_ms, step)
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


def _log_artifacts(client: "MlflowClient", run: "Run", artifacts: Sequence[Path]) -> str | None:
    """Upload the files unless the run holds these very bytes; return their digest if they were uploaded."""
    digest = _artifacts_digest(artifacts)
    if run.data.tags.get(ARTIFACTS_TAG) == digest:
        return None
    for name, path in _artifact_files(artifacts).items():
        folder = Path(name).parent.as_posix()
        client.log_artifact(run.info.run_id, str(path), artifact_path=None if folder == "." else folder)
    return digest


def _artifacts_digest(artifacts: Sequence[Path]) -> str:
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


def _artifact_root() -> Path:
    return main_root() / "mlartifacts"


def _sqlite_path(uri: str) -> Path | None:
    scheme = "sqlite:///"
    return Path(uri.removeprefix(scheme)) if uri.startswith(scheme) else None


def _without_password(uri: str) -> str:
    parts = urllib.parse.urlsplit(uri)
    return uri.replace(f"{parts.netloc}", parts.netloc.rpartition("@")[2], 1) if "@" in parts.netloc else uri


def _root_cause(error: BaseException) -> str:
    """Return one line: MLflow wraps `Connection refused` in a paragraph of URLs and retries."""
    while (deeper := error.__cause__ or error.__context__) is not None:
        error = deeper
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else f"{text[:300]}..."


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _name(key: str) -> str:
    """Return `key` with what MLflow forbids in names replaced by an underscore."""
    return re.sub(r"[^\w.\- ]", "_", key)


def _text(value: Any) -> str:
    text = "null" if value is None else canonical_json(value) if isinstance(value, bool | list | tuple) else str(value)
    return text if len(text) <= _MAX_PARAM_CHARS else f"{text[: _MAX_PARAM_CHARS - 3]}..."


@contextmanager
def _quiet_mlflow() -> Iterator[None]:
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
