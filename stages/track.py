"""Publish the result to MLflow, once per distinct result.

Reads   params.yaml, metrics/*.json, metrics/train/curves.csv, models/best_model.pt
Writes  one MLflow run: in mlflow.db of the main repository's root, or where MLFLOW_TRACKING_URI says;
        metrics/track.json, its key: not in Git, so that a fresh clone publishes into its own store
Run     python -m stages.track          (or `dvc repro track`)

A server that is away is a warning, not a lost result: the files stand, and the same command publishes them later.
"""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from mirip.errors import DataError, TrackingError
from mirip.files import sha256_file, write_json
from mirip.params import Params, load_params
from mirip.tracking.publishing import publish
from mirip.tracking.record import RunRecord, provenance_tags, result_key
from stages import run

METRICS = Path("metrics")
CURVES = Path("metrics/train/curves.csv")
MODEL = Path("models/best_model.pt")
EVALUATION = Path("metrics/evaluate.json")
RECEIPT = Path("metrics/track.json")
OTHER_ARTIFACTS = (Path("params.yaml"), Path("dvc.lock"), MODEL)


# What changes neither features, split, model nor figures but those of speed: where files lie, how fast, how shown.
WITHOUT_EFFECT: dict[str, Any] = {
    "recipes": True,
    "report": True,
    "track": True,
    "sample": True,
    "benchmark": True,
    "data": {"images", "metadata"},
    "prepare": {"thumbnail_px", "max_image_pixels"},
    "extract": {"batch_size", "workers", "device"},
    "train": {"save_every_n_epochs", "device"},
}


def logged_params(params: Params) -> dict[str, Any]:
    """Return the params that a run shows: all but those of other recipes and of the page."""
    values = params.model_dump(mode="json", exclude={"recipes", "report", "track"})
    return {**values, "recipe": params.recipe.model_dump(mode="json")}


def deciding_params(params: Params) -> dict[str, Any]:
    """Return the params that a result depends on."""
    values = params.model_dump(mode="json", exclude=WITHOUT_EFFECT)
    return {**values, "recipe": params.recipe.model_dump(mode="json", exclude={"backbone"})}


def read_metrics(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the scalars of every stage that has written any, by the stage's name."""
    written = (path for path in sorted(folder.glob("*.json")) if path != RECEIPT)
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in written}


def digests(metrics: Mapping[str, Mapping[str, Any]], model: Path, evaluation: Path) -> dict[str, str]:
    """Return what names the content of features, split, model and evaluation.

    Raises:
        DataError: a stage has not been run.
    """
    for path in (METRICS / "extract.json", METRICS / "split.json", model, evaluation):
        if not path.exists():
            raise DataError(f"{path} is not here, so there is no result to publish: run `dvc repro evaluate`")
    return {
        "features": metrics["extract"]["content_digest"],
        "split": metrics["split"]["digest"],
        "model": sha256_file(model),
        "evaluation": sha256_file(evaluation),
    }


def default_name(params: Params, key: str) -> str:
    """Name a run after what was run: two results never share a name."""
    train = params.train
    return f"{params.extract.recipe} {train.loss} lr={train.learning_rate:g} seed={train.seed} {key[:6]}"


def build_record(params: Params) -> RunRecord:
    """Gather what the stages have written.

    Raises:
        DataError: a stage has not been run.
    """
    metrics = read_metrics(METRICS)
    key = result_key(deciding_params(params), digests(metrics, MODEL, EVALUATION))
    tags = {
        **provenance_tags(),
        "mirip.recipe": params.extract.recipe,
        "mirip.fingerprint": metrics["extract"]["fingerprint"],
        "mirip.hardware": metrics.get("benchmark", {}).get("hardware") or "not available",
    }
    return RunRecord(
        experiment=params.track.experiment,
        run_name=params.track.run_name or os.environ.get("DVC_EXP_NAME") or default_name(params, key),
        params=logged_params(params),
        metrics={f"{stage}.{name}": value for stage, scalars in metrics.items() for name, value in scalars.items()},
        curves=pd.read_csv(CURVES) if CURVES.exists() else None,
        artifacts=[*(path for path in sorted(METRICS.iterdir()) if path != RECEIPT), *OTHER_ARTIFACTS],
        tags=tags,
        key=key,
        rename=params.track.run_name is not None,
    )


def main() -> None:
    """Publish as params.yaml says."""
    params = load_params()
    record = build_record(params)
    write_json(RECEIPT, {"key": record.key, "published": params.track.enabled and _publish(record)})
    if not params.track.enabled:
        print("track: off (track.enabled is false): nothing was published")


def _publish(record: RunRecord) -> bool:
    try:
        published = publish(record)
    except TrackingError as error:
        later = "`dvc repro --single-item --force track` or `python -m stages.track`"
        print(f"warning: {error}; every result stands: publish it later with {later}", file=sys.stderr)
        return False
    print(f"track: run {published.run_name} in {published.uri} ({published.status})")
    return True


if __name__ == "__main__":
    run(main)
