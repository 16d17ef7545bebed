"""Show the result on one page that needs no network.

Reads   metrics/*.json, metrics/train/, metrics/evaluate/, metrics/audit/, metrics/scores.csv, data/splits.parquet,
        data/rejected.csv, data/thumbnails.parquet, models/best_model.pt, and of .mirip/judged/ how many models have
        been judged on this test split so far
Writes  metrics/report.html          (kept by DVC, never in Git: it shows people's pictures)
Run     python -m stages.report      (or `dvc repro report`)
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

import mirip
from mirip.data.split import read_splits, split_digest
from mirip.data.tables import read_table
from mirip.errors import DataError
from mirip.files import canonical_json, sha256_bytes, sha256_file, write_text
from mirip.models.evaluation_count import models_evaluated
from mirip.params import Params, load_params
from mirip.report.page import Inputs, render
from stages import run

METRICS = Path("metrics")
DATA = Path("data")
MODEL = Path("models/best_model.pt")
PAGE = Path("metrics/report.html")

STAGES = {
    "data": "prepare",
    "split": "split",
    "extract": "extract",
    "train": "train",
    "evaluate": "evaluate",
    "audit": "audit",
    "benchmark": "benchmark",
}


# Tables by what is shown of them; the folder bears the name of the stage that writes it.
_ACCURACY = ("pairwise_accuracy", "ci_low", "ci_high", "margin", "margin_ci_low", "margin_ci_high")
TABLES = {
    "train/curves": ("epoch", "train_loss", "val_loss", "train_pairwise_accuracy", "val_pairwise_accuracy"),
    "evaluate/baselines": ("model", *_ACCURACY),
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
CODE = (Path(mirip.__file__).parent, Path(__file__).parent)


def code_sha256(folders: Sequence[Path]) -> str:
    """Return one sha256 over the Python files of some folders, by their names and bytes, wherever the folders lie."""
    files = {
        f"{folder.name}/{path.relative_to(folder).as_posix()}": sha256_file(path)
        for folder in folders
        for path in folder.rglob("*.py")
    }
    return sha256_bytes(canonical_json(files).encode())


def read_scalars(name: str) -> dict[str, Any]:
    """Read metrics/<name>.json.

    Raises:
        DataError: the file is missing or is not JSON.
    """
    path = METRICS / f"{name}.json"
    try:
        scalars: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} is not found: run `dvc repro {STAGES[name]}`") from None
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}): run `dvc repro --force {STAGES[name]}`") from None
    return scalars


def read_csv(path: Path, columns: tuple[str, ...], stage: str) -> pd.DataFrame:
    """Read a table that `stage` wrote; a tier named NA or null stays a name.

    Raises:
        DataError: the file is missing, damaged, or lacks a column.
    """
    texts = dict.fromkeys(
        ("tier", "better", "worse", "model", "shortcut", "column", "image_path", "name", "id", "other_id"), str
    )
    try:
        table = pd.read_csv(path, dtype=texts, keep_default_na=False, na_values=[""])
    except FileNotFoundError:
        raise DataError(f"{path} is not found: run `dvc repro {stage}`") from None
    except ValueError as error:
        raise DataError(f"{path} is damaged ({' '.join(str(error).split())}): run `dvc repro {stage}`") from None
    if lacking := [name for name in columns if name not in table]:
        raise DataError(f"{path} lacks the columns {', '.join(lacking)}: run `dvc repro {stage}`")
    return table


def gather(params: Params) -> Inputs:
    """Read what the page shows.

    Raises:
        DataError: a file is missing or damaged.
    """
    if not MODEL.is_file():
        raise DataError(f"{MODEL} is not found: run `dvc repro train`")
    splits = read_splits(DATA / "splits.parquet")
    return Inputs(
        params=params,
        metrics={name: read_scalars(name) for name in STAGES},
        **{
            Path(name).name: read_csv(METRICS / f"{name}.csv", columns, Path(name).parent.name)
            for name, columns in TABLES.items()
        },
        scores=read_csv(METRICS / "scores.csv", ("id", "tier", "score"), "evaluate"),
        splits=splits,
        rejected=read_csv(DATA / "rejected.csv", ("row", "image_path", "reason"), "prepare"),
        thumbnails=read_table(DATA / "thumbnails.parquet", ("image_sha256", "jpeg"), "dvc repro prepare"),
        model_sha256=sha256_file(MODEL),
        code_sha256=code_sha256(CODE),
        models_evaluated=models_evaluated(split_digest(splits)),
    )


def main() -> None:
    """Write the page."""
    write_text(PAGE, render(gather(load_params())))
    print(f"report: {PAGE}")


if __name__ == "__main__":
    run(main)
