"""What the page is made of, read from the files of a run."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

import mirip
from mirip.data.split import read_splits
from mirip.data.tables import read_csv
from mirip.data.thumbnails import StoredThumbnails
from mirip.errors import DataError
from mirip.files import canonical_json, sha256_bytes, sha256_file
from mirip.params import Params
from mirip.workspace import METRICS, Workspace

_ACCURACY = ("pairwise_accuracy", "ci_low", "ci_high", "margin", "margin_ci_low", "margin_ci_high")
# Tables, each with the columns that are shown; its folder has the name of the stage that writes it.
_TABLES = {
    "train/curves": ("epoch", "train_loss", "val_loss", "train_pairwise_accuracy", "val_pairwise_accuracy"),
    "evaluate/baselines": ("model", *_ACCURACY),
    "evaluate/members": ("member", "weight", "pairwise_accuracy"),
    "evaluate/tier_pairs": ("better", "worse", "n_pairs", "accuracy"),
    "evaluate/reliability": ("confidence", "accuracy", "n_pairs", "low", "high"),
    "evaluate/coverage": ("min_confidence", "coverage", "accuracy"),
    "audit/shortcuts": ("shortcut", *_ACCURACY),
    "audit/columns": ("column", "information", "expected", "share", "p_value"),
    "audit/findings": ("name", "severity", "value", "p_value", "advice"),
    "audit/label_issues": ("id", "tier", "score_percentile", "misordered_share"),
    "audit/outliers": ("id", "tier", "distance"),
    "audit/near_duplicates": ("id", "split", "other_id", "other_split", "cosine"),
}


@dataclass(frozen=True)
class Inputs:
    """What the page is made of.

    Attributes:
        params: of params.yaml.
        metrics: the scalars of metrics/<name>.json by name, see `mirip.workspace.METRICS`.
        curves: metrics/train/curves.csv.
        baselines: metrics/evaluate/baselines.csv; so are `members`, `tier_pairs`, `reliability`, `coverage` tables of
            that folder.
        shortcuts: metrics/audit/shortcuts.csv; so are `columns`, `findings`, `label_issues`, `outliers` and
            `near_duplicates` tables of that folder.
        scores: metrics/scores.csv.
        splits: data/splits.parquet.
        rejected: data/rejected.csv.
        thumbnails: data/thumbnails.parquet.
        model_sha256: of models/best_model.pt.
        code_sha256: of the code that the page was made with.
    """

    params: Params
    metrics: Mapping[str, Mapping[str, Any]]
    curves: pd.DataFrame
    baselines: pd.DataFrame
    members: pd.DataFrame
    tier_pairs: pd.DataFrame
    reliability: pd.DataFrame
    coverage: pd.DataFrame
    shortcuts: pd.DataFrame
    columns: pd.DataFrame
    findings: pd.DataFrame
    label_issues: pd.DataFrame
    outliers: pd.DataFrame
    near_duplicates: pd.DataFrame
    scores: pd.DataFrame
    splits: pd.DataFrame
    rejected: pd.DataFrame
    thumbnails: StoredThumbnails
    model_sha256: str
    code_sha256: str


def read_inputs(workspace: Workspace, params: Params) -> Inputs:
    """Read what the page shows.

    Raises:
        DataError: a file is missing or damaged.
    """
    if not workspace.model.is_file():
        raise DataError(f"{workspace.model} is not found", "run `dvc repro train`")
    splits = read_splits(workspace.splits)
    tables = {}
    for place, columns in _TABLES.items():
        stage, _, name = place.partition("/")
        path = workspace.curves if name == "curves" else workspace.tables(stage) / f"{name}.csv"
        tables[name] = read_csv(path, columns, f"dvc repro {stage}")
    return Inputs(
        params=params,
        metrics={name: _read_scalars(workspace.metrics(name), stage) for name, stage in METRICS.items()},
        **tables,
        scores=read_csv(workspace.scores, ("id", "tier", "score"), "dvc repro evaluate"),
        splits=splits,
        rejected=read_csv(workspace.rejected, ("row", "image_path", "reason"), "dvc repro prepare"),
        thumbnails=StoredThumbnails(workspace.thumbnails),
        model_sha256=sha256_file(workspace.model),
        code_sha256=code_sha256(Path(mirip.__file__).parent),
    )


def code_sha256(package: Path) -> str:
    """Return one sha256 over the Python files of a package, by their names and bytes, wherever its folder is."""
    files = {path.relative_to(package).as_posix(): sha256_file(path) for path in package.rglob("*.py")}
    return sha256_bytes(canonical_json(files).encode())


def _read_scalars(path: Path, stage: str) -> dict[str, Any]:
    try:
        scalars: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} is not found", f"run `dvc repro {stage}`") from None
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error})", f"run `dvc repro --force {stage}`") from None
    return scalars
