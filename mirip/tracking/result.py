"""One result, ready to be published: what it holds, what makes it distinct, where it comes from.

It is read from a workspace: the repository, a copy of what one of its revisions knows (see `mirip.tracking.backfill`),
or the output folder of `mirip train`.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel, TypeAdapter, ValidationError

from mirip.errors import DataError, MiripError
from mirip.experiments.git import git
from mirip.files import canonical_json, flatten, md5_file, parse_yaml, read_yaml, sha256_bytes, sha256_file
from mirip.params import Params
from mirip.tracking.dataset import Dataset, dataset_counts
from mirip.tracking.logged_model import Ranker
from mirip.workspace import METRICS, Workspace

MODEL_TAG = "mirip.model"  # DVC's md5 of the model: two runs may hold one

# Params that change neither features, split, model nor any metric but speed: where files are, how fast, what is shown.
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
_SHORT = {"train.learning_rate": "lr", "extract.recipe": "recipe"}
# Metrics without which there is no result, each with a value that it must hold.
_NEEDED = {"extract": "content_digest", "split": "digest", "evaluate": "pairwise_accuracy"}


@dataclass(frozen=True)
class RunRecord:
    """One result, ready to be published.

    Attributes:
        experiment: name of the MLflow experiment, which is created if there is none.
        run_name: name of a new run.
        params: nested or flat; flattened with dots.
        metrics: flat; numbers become metrics, texts become tags, None and what is not finite is left out.
        curves: one row an epoch, with the column `epoch`; every other column becomes a metric by step.
        artifacts: files and folders; those that do not exist are left out.
        tags: further tags.
        key: what makes the result distinct; see `result_key`.
        root: the folder relative to which artifacts keep their places; one from elsewhere is kept by its bare name.
        rename: give a run that exists already `run_name` too.
        made_ms: for a result of the past, when it was made, in milliseconds since 1970. A new run gets this date; a run
            that exists already is completed, and what it holds stays as it is.
        ranker: the trained model, logged once.
        dataset: the images behind the result, logged once.
    """

    experiment: str
    run_name: str
    params: Mapping[str, Any]
    metrics: Mapping[str, Any]
    curves: pd.DataFrame | None
    artifacts: Sequence[Path]
    tags: Mapping[str, str]
    key: str
    root: Path = Path()
    rename: bool = False
    made_ms: int | None = None
    ranker: Ranker | None = None
    dataset: Dataset | None = None

    @property
    def past(self) -> bool:
        """Whether it is a result of the past."""
        return self.made_ms is not None

    def files(self) -> dict[str, Path]:
        """Return the files of the artifacts by their place: as under `root`, else by their bare name."""
        found: dict[str, Path] = {}
        root = self.root.absolute()
        for artifact in (path.absolute() for path in self.artifacts):  # not resolved: DVC may link to its cache
            base = root if artifact.is_relative_to(root) else artifact.parent
            members = sorted(artifact.rglob("*")) if artifact.is_dir() else [artifact]
            found |= {
                path.relative_to(base).as_posix(): path
                for path in members
                if path.is_file() and not path.name.startswith(".")
            }
        return found


def read_result(workspace: Workspace, params: Params, provenance: Mapping[str, str], usual: str = "HEAD") -> RunRecord:
    """Gather what the stages have written.

    Args:
        workspace: where they wrote it.
        params: by which they ran.
        provenance: tags that say where the result comes from; see `provenance_tags`.
        usual: the commit by whose params a new run is named, by what differs from them.

    Raises:
        DataError: a stage has not been run.
    """
    metrics = read_metrics(workspace)
    content = digests(workspace, metrics)
    key = result_key(deciding_params(params), content)
    tags = {
        **provenance,
        "mirip.recipe": params.extract.recipe,
        MODEL_TAG: content["model"],
        "mirip.fingerprint": metrics["extract"].get("fingerprint", "not available"),
        "mirip.hardware": metrics.get("benchmark", {}).get("hardware") or "not available",
    }
    has_model = workspace.model.exists()
    return RunRecord(
        experiment=params.track.experiment,
        run_name=params.track.run_name
        or provenance.get("dvc.experiment")
        or default_name(params, key, committed_params(usual)),
        params=logged_params(params),
        metrics={f"{stage}.{name}": value for stage, scalars in metrics.items() for name, value in scalars.items()},
        curves=_read_curves(workspace),
        artifacts=_artifacts(workspace),
        tags=tags,
        key=key,
        root=workspace.root,
        rename=params.track.run_name is not None,
        ranker=Ranker(workspace.model, metrics["extract"]["dim"])
        if has_model and "dim" in metrics["extract"]
        else None,
        dataset=Dataset(
            Path(params.data.images).name,
            metrics["split"]["digest"],
            str(params.data.metadata),
            dataset_counts(metrics.get("data", {}), metrics["split"]),
        ),
    )


def _read_curves(workspace: Workspace) -> pd.DataFrame | None:
    if not workspace.curves.exists():
        return None
    try:
        curves = pd.read_csv(workspace.curves).astype(float)
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{_shown(workspace, workspace.curves)} is damaged ({reason})", "run `dvc repro`") from None
    if "epoch" not in curves:
        raise DataError(f"{_shown(workspace, workspace.curves)} lacks the column epoch", "run `dvc repro`")
    return curves


def _artifacts(workspace: Workspace) -> list[Path]:
    """Return what a run keeps: params, lock and model, and all of metrics/ but the receipt of the publication."""
    kept = [workspace.params, workspace.lock, workspace.model]
    if not workspace.flat:
        return [*(path for path in sorted(workspace.receipt.parent.iterdir()) if path != workspace.receipt), *kept]
    # The output folder of `mirip train` also holds features, checkpoints and whatever its user put there.
    metrics = [workspace.metrics(name) for name in METRICS]
    return [*metrics, workspace.curves, workspace.scores, *kept]


def result_key(params: Mapping[str, Any], digests: Mapping[str, str]) -> str:
    """Return the 64 hexadecimal digits that name a result: equal params and digests, equal key."""
    return sha256_bytes(canonical_json({"params": params, "digests": digests}).encode())


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


def read_metrics(workspace: Workspace) -> dict[str, dict[str, Any]]:
    """Return the scalars of every stage that has written any, by the name of the metrics file.

    Raises:
        DataError: the features, the split or the evaluation is missing, or a file is damaged.
    """
    metrics: dict[str, dict[str, Any]] = {}
    for name in METRICS:
        path = workspace.metrics(name)
        if not path.is_file():
            continue
        try:
            metrics[name] = dict(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise DataError(f"{_shown(workspace, path)} is damaged ({error})", "run `dvc repro`") from None
    for name, value in _NEEDED.items():
        if value not in metrics.get(name, {}):
            lack = f"lacks {value}" if name in metrics else "is not found"
            shown = _shown(workspace, workspace.metrics(name))
            raise DataError(f"{shown} {lack}, so there is no result to publish", "run `dvc repro evaluate`")
    return metrics


def digests(workspace: Workspace, metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return what names the content of features, split, model and evaluation.

    The model's is DVC's own md5, which dvc.lock knows even where the file itself is not found.

    Raises:
        DataError: neither the model nor its md5 is known.
    """
    return {
        "features": metrics["extract"]["content_digest"],
        "split": metrics["split"]["digest"],
        "model": _model_md5(workspace),
        "evaluation": sha256_file(workspace.metrics("evaluate")),
    }


def default_name(params: Params, key: str, usual: Params | None = None) -> str:
    """Name a run after what was run, what differs from the usual params first; two results never share a name.

    Args:
        params: of the result.
        key: of the result.
        usual: those to differ from; None where none are known.
    """
    train, differs = params.train, "" if usual is None else _differences(params, usual)
    told = differs or f"{params.extract.recipe} {train.loss} lr={train.learning_rate:g} seed={train.seed}"
    return f"{told} {key[:6]}"


def _differences(params: Params, usual: Params) -> str:
    """Say the values that differ and touch the result, each after its param's last name, as "lr=0.0001 dropout=0.3"."""
    now, then = (
        flatten(
            {**found.model_dump(mode="json", exclude=WITHOUT_EFFECT), "recipe": found.recipe.model_dump(mode="json")}
        )
        for found in (params, usual)
    )
    if params.extract.recipe != usual.extract.recipe:  # which says all that differs in it
        now = {name: value for name, value in now.items() if not name.startswith("recipe.")}
    differing = {name: value for name, value in now.items() if value != then.get(name)}
    return " ".join(
        f"{_SHORT.get(name, name.rpartition('.')[2])}={f'{value:g}' if isinstance(value, float) else value}"
        for name, value in differing.items()
    )


def committed_params(revision: str) -> Params | None:
    """Return the params.yaml of a commit; None where there is none, or this version of Mirip does not know it."""
    text = git("show", f"{revision}:./{Workspace().params.as_posix()}")
    try:
        return None if text is None else Params.model_validate(parse_yaml(text))
    except (ValueError, MiripError):
        return None


class LockedOut(BaseModel):
    """What dvc.lock says of an output; of one that is not a file of this machine, it has no md5."""

    path: str
    md5: str | None = None


class LockedStage(BaseModel):
    """What dvc.lock says of a stage: params by the name of their file, and outputs."""

    params: dict[str, dict[str, Any]] = {}
    outs: list[LockedOut] = []


def read_lock(workspace: Workspace) -> dict[str, LockedStage]:
    """Return what dvc.lock says of each stage; nothing where there is no such file.

    Raises:
        DataError: it is damaged.
    """
    stages = read_yaml(workspace.lock).get("stages") or {}
    try:
        return TypeAdapter(dict[str, LockedStage]).validate_python(stages)
    except ValidationError as error:
        where = ".".join(str(part) for part in ("stages", *error.errors()[0]["loc"]))
        raise DataError(
            f"{workspace.lock.name} is damaged: {where}: {error.errors()[0]['msg']}", "restore it from Git"
        ) from None


def locked_outs(workspace: Workspace) -> dict[str, str]:
    """Return path and md5 of every single file that dvc.lock names as an output, paths relative to the root.

    Raises:
        DataError: as `read_lock`.
    """
    outs = (out for stage in read_lock(workspace).values() for out in stage.outs)
    return {out.path: out.md5 for out in outs if out.md5 is not None and not out.md5.endswith(".dir")}


def _model_md5(workspace: Workspace) -> str:
    if workspace.model.exists():
        return md5_file(workspace.model)
    if md5 := locked_outs(workspace).get(workspace.model.relative_to(workspace.root).as_posix()):
        return md5
    shown = _shown(workspace, workspace.model)
    raise DataError(f"{shown} is not found, so there is no result to publish", "run `dvc repro evaluate`")


def _shown(workspace: Workspace, path: Path) -> Path:
    """Return a path as a message shows it: the copy of a revision is in a folder that nobody knows."""
    return path if workspace.flat else path.relative_to(workspace.root)


def provenance_tags() -> dict[str, str]:
    """Return what Git and DVC know of the code that runs: commit, dirty, experiment, baseline, each where known.

    Changes of results (metrics/ and dvc.lock) do not make the code dirty.
    """
    tags = {
        name: os.environ[variable]
        for name, variable in {"dvc.experiment": "DVC_EXP_NAME", "dvc.baseline": "DVC_EXP_BASELINE_REV"}.items()
        if os.environ.get(variable)
    }
    if commit := (git("rev-parse", "--verify", "HEAD") or "").strip():
        changes = git(
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
