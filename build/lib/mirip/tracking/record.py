"""One result, ready to be published: what it holds, what makes it distinct, where it comes from."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mirip.experiments.git import git
from mirip.files import canonical_json, sha256_bytes
from mirip.tracking.dataset import Dataset
from mirip.tracking.logged_model import Ranker

if TYPE_CHECKING:
    import pandas as pd


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
        root: the folder relative to which artifacts keep their places; one from elsewhere is kept by its bare name.
        rename: give a run that is already there `run_name` too.
        made_ms: for a result of the past, when it was made, in milliseconds since 1970. A new run is dated so; a run
            that is already there is completed, and what it holds stays as it is.
        ranker: the trained model, logged once.
        dataset: the works behind the result, logged once.
    """

    experiment: str
    run_name: str
    params: Mapping[str, Any]
    metrics: Mapping[str, Any]
    curves: "pd.DataFrame | None"
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


def result_key(params: Mapping[str, Any], digests: Mapping[str, str]) -> str:
    """Return the 64 hexadecimal digits that name a result: equal params and digests, equal key."""
    return sha256_bytes(canonical_json({"params": params, "digests": digests}).encode())


def provenance_tags() -> dict[str, str]:
    """Return what Git and DVC know of the code at work: commit, dirty, experiment, baseline; as far as there is any.

    Results (metrics/ and dvc.lock) do not make the code dirty.
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
