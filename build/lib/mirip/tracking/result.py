"""The result that the stages left in a folder, as one MLflow run would hold it.

A folder is the repository, or a copy of what one of its revisions knows (see `mirip.tracking.history`).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from mirip.errors import DataError
from mirip.files import md5_file, read_yaml, sha256_file
from mirip.params import Params, load_params
from mirip.tracking.dataset import Dataset, split_counts
from mirip.tracking.logged_model import Ranker
from mirip.tracking.record import RunRecord, result_key

PARAMS = Path("params.yaml")
LOCK = Path("dvc.lock")
METRICS = Path("metrics")
CURVES = Path("metrics/train/curves.csv")
EVALUATION = Path("metrics/evaluate.json")
RECEIPT = Path("metrics/track.json")
MODEL = Path("models/best_model.pt")

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


def read_result(root: Path, provenance: Mapping[str, str]) -> RunRecord:
    """Gather what the stages have written under `root`.

    Args:
        root: the folder that holds params.yaml and metrics/.
        provenance: tags that say where the result comes from; see `mirip.tracking.record.provenance_tags`.

    Raises:
        DataError: a stage has not been run.
        ParamsError: params.yaml is missing or invalid.
    """
    params = load_params(root / PARAMS)
    metrics = read_metrics(root)
    key = result_key(deciding_params(params), digests(root, metrics))
    tags = {
        **provenance,
        "mirip.recipe": params.extract.recipe,
        "mirip.fingerprint": metrics["extract"]["fingerprint"],
        "mirip.hardware": metrics.get("benchmark", {}).get("hardware") or "not available",
    }
    shown = (path for path in sorted((root / METRICS).iterdir()) if path != root / RECEIPT)
    return RunRecord(
        experiment=params.track.experiment,
        run_name=params.track.run_name or provenance.get("dvc.experiment") or default_name(params, key),
        params=logged_params(params),
        metrics={f"{stage}.{name}": value for stage, scalars in metrics.items() for name, value in scalars.items()},
        curves=pd.read_csv(root / CURVES) if (root / CURVES).exists() else None,
        artifacts=[*shown, *(root / path for path in (PARAMS, LOCK, MODEL))],
        tags=tags,
        key=key,
        root=root,
        rename=params.track.run_name is not None,
        ranker=Ranker(root / MODEL, metrics["extract"]["dim"]) if (root / MODEL).exists() else None,
        dataset=Dataset(
            params.data.images.name,
            metrics["split"]["digest"],
            str(params.data.metadata),
            split_counts(metrics.get("data", {}), metrics["split"]),
        ),
    )


def logged_params(params: Params) -> dict[str, Any]:
    """Return the params that a run shows: all but those of other recipes and of the page."""
    values = params.model_dump(mode="json", exclude={"recipes", "report", "track"})
    return {**values, "recipe": params.recipe.model_dump(mode="json")}


def deciding_params(params: Params) -> dict[str, Any]:
    """Return the params that a result depends on, without those that have their default.

    So a param that a later version of Mirip adds, with what was done before as its default, makes no new result.
    """
    values = params.model_dump(mode="json", exclude=WITHOUT_EFFECT, exclude_defaults=True)
    recipe = params.recipe.model_dump(mode="json", exclude={"backbone"}, exclude_defaults=True)
    return {**values, "recipe": recipe}


def read_metrics(root: Path) -> dict[str, dict[str, Any]]:
    """Return the scalars of every stage that has written any, by the stage's name.

    Raises:
        DataError: the features, the split or the evaluation is not there, or a file is damaged.
    """
    written = (path for path in sorted((root / METRICS).glob("*.json")) if path.name != RECEIPT.name)
    metrics: dict[str, dict[str, Any]] = {}
    for path in written:
        try:
            metrics[path.stem] = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DataError(f"{METRICS / path.name} is damaged ({error}): run `dvc repro`") from None
    for stage, name in {"extract": "content_digest", "split": "digest", "evaluate": "pairwise_accuracy"}.items():
        if name not in metrics.get(stage, {}):
            lack = f"lacks {name}" if stage in metrics else "is not found"
            raise DataError(f"metrics/{stage}.json {lack}, so there is no result to publish: run `dvc repro evaluate`")
    return metrics


def digests(root: Path, metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return what names the content of features, split, model and evaluation.

    The model's is DVC's own md5, which dvc.lock knows even where the file itself is not found.

    Raises:
        DataError: neither the model nor its md5 is there.
    """
    return {
        "features": metrics["extract"]["content_digest"],
        "split": metrics["split"]["digest"],
        "model": _model_md5(root),
        "evaluation": sha256_file(root / EVALUATION),
    }


def default_name(params: Params, key: str) -> str:
    """Name a run after what was run: two results never share a name."""
    train = params.train
    return f"{params.extract.recipe} {train.loss} lr={train.learning_rate:g} seed={train.seed} {key[:6]}"


def read_lock(root: Path) -> dict[str, Any]:
    """Return what dvc.lock says of each stage; nothing where there is none."""
    stages: dict[str, Any] = read_yaml(root / LOCK).get("stages", {})
    return stages


def locked_outs(root: Path) -> dict[str, str]:
    """Return path and md5 of every single file that dvc.lock names as an output."""
    outs = (out for stage in read_lock(root).values() for out in stage.get("outs", ()))
    return {out["path"]: out["md5"] for out in outs if not out["md5"].endswith(".dir")}


def _model_md5(root: Path) -> str:
    if (root / MODEL).exists():
        return md5_file(root / MODEL)
    if md5 := locked_outs(root).get(MODEL.as_posix()):
        return md5
    raise DataError(f"{MODEL} is not found, so there is no result to publish: run `dvc repro evaluate`")
