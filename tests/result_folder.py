"""A folder as the stages leave it, with plausible contents: what report and track read."""

import functools
import io
import json
import math
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock
from PIL import Image, ImageDraw

from mirip.data.split import public_ids, split_digest
from mirip.data.tables import write_table
from mirip.files import sha256_bytes
from mirip.metrics.calibration import tier_probabilities
from mirip.models.evaluator import Evaluator

PROJECT = Path(__file__).parents[1]
TIERS = ("S", "A", "B", "C")
SHARES = (0.1, 0.25, 0.4, 0.25)


def write_result_folder(root: Path, *, n_images: int = 600, seed: int = 0) -> Path:
    """Write params.yaml, data/, metrics/ and models/ into `root` and return it."""
    rng = np.random.default_rng(seed)
    for folder in ("data", "models", "metrics/train", "metrics/evaluate", "metrics/audit"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    shutil.copy(PROJECT / "params.yaml", root / "params.yaml")
    (root / "models" / "best_model.pt").write_bytes(b"weights" + bytes([seed]))

    splits = _splits(n_images, rng)
    write_table(root / "data" / "splits.parquet", splits)
    test = splits[splits["split"] == "test"].reset_index(drop=True)
    jpegs = [_drawing(rng) for _ in range(40)]
    thumbnails = pd.DataFrame(
        {"image_sha256": splits["image_sha256"], "jpeg": [jpegs[place % 40] for place in range(n_images)]}
    ).sort_values("image_sha256")
    write_table(root / "data" / "thumbnails.parquet", thumbnails)
    rejected = [
        (17, "img_0017.jpg", "truncated: the file ends after 20480 bytes"),
        (44, "img_0044.jpg", "not an image: it begins with text"),
        (91, "../secret.png", "outside the image folder"),
        (130, "img_0130.png", "missing"),
        (131, "img_0131.png", "unknown tier D; known are S, A, B, C"),
    ]
    _csv(root / "data/rejected.csv", pd.DataFrame(rejected, columns=["row", "image_path", "reason"]))

    rank = test["tier_rank"].to_numpy(int)
    scores = rank + rng.normal(0, 1.6, len(test))
    baselines = {"knn": rank + rng.normal(0, 3.2, len(test)), "ridge": scores + rng.normal(0, 0.9, len(test))}
    evaluation = Evaluator(n_bootstrap=200).evaluate(
        scores,
        rank,
        tiers=TIERS,
        group_id=test["group_id"].to_numpy(),
        context=test["context"].to_numpy(),
        temperature=1.7,
        baselines=baselines,
        tier_probability=tier_probabilities(scores, 1.0, [-1.0, 0.5, 2.0]),
    )
    _json(root / "metrics/evaluate.json", evaluation.metrics)
    members = {"member": ["head", "ridge"], "weight": [0.4, 0.6], "pairwise_accuracy": [0.7, 0.71]}
    _csv(root / "metrics/evaluate/members.csv", pd.DataFrame(members))
    for name in ("baselines", "tier_pairs", "reliability", "coverage"):
        table = evaluation.baseline_table if name == "baselines" else getattr(evaluation, name)
        _csv(root / f"metrics/evaluate/{name}.csv", table)
    public = pd.DataFrame(
        {
            "id": public_ids(test),
            "group": [f"{group:016x}" for group in test["group_id"]],
            "tier": test["tier"],
            "tier_rank": rank,
            "score": scores,
        }
    )
    _csv(root / "metrics/scores.csv", public)

    epoch = np.arange(1, 29)
    curves = pd.DataFrame(
        {
            "epoch": epoch,
            "train_loss": 0.28 + 0.42 * np.exp(-epoch / 9),
            "val_loss": 0.6 + 0.1 * np.exp(-epoch / 4) + 0.0002 * (epoch - 12) ** 2,
            "train_pairwise_accuracy": 0.93 - 0.38 * np.exp(-epoch / 9),
            "val_pairwise_accuracy": 0.71 - 0.16 * np.exp(-epoch / 4) - 0.0001 * (epoch - 18) ** 2,
            "learning_rate": 1e-4 * (1 + np.cos(np.pi * epoch / 100)) / 2,
        }
    )
    _csv(root / "metrics/train/curves.csv", curves)
    _json(
        root / "metrics/train.json",
        {"val_pairwise_accuracy": 0.708, "best_epoch": 18, "epochs": 28, "temperature": 1.7},
    )
    _json(
        root / "metrics/data.json",
        {
            "n_rows": n_images + len(rejected),
            "n_images": n_images,
            "n_rejected": len(rejected),
            "n_groups": int(splits["group_id"].nunique()),
            "n_duplicates": 1,
            "n_near_duplicates": 1,
            "converted_sideways_exif": 1,
            "converted_cmyk": 1,
            "converted_alpha": 1,
            "converted_icc": 0,
        },
    )
    _json(root / "metrics/split.json", {"max_tier_drift": 1.9, "digest": split_digest(splits)})
    digest = sha256_bytes(b"features")
    fingerprint = sha256_bytes(b"recipe")
    extract = {"rows": n_images, "dim": 1024, "fingerprint": fingerprint, "content_digest": digest}
    _json(root / "metrics/extract.json", extract)
    _audit(root, splits, evaluation.metrics["pairwise_accuracy"])
    _json(
        root / "metrics/benchmark.json",
        {
            "pair_latency_ms_p50": 412.3,
            "pair_latency_ms_p95": 440.1,
            "pair_latency_ms_p99": 451.9,
            "pair_latency_from_file_ms_p50": 583.0,
            "pair_latency_cached_ms_p50": 0.83,
            "images_per_second": 4.8,
            "peak_memory_gib_batch_32": None,
            "train_seconds_10k": 24.4,
            "device": "cpu",
            "hardware": "Intel Xeon, 2 cores",
            "pair_latency_verdict": "not_measured",
            "memory_verdict": "not_measured",
            "train_verdict": "met",
        },
    )
    return root


@functools.cache
def migrated_database() -> bytes:
    """Return an MLflow store whose tables exist: making them takes seconds, copying them does not.

    It is made once for all workers of a run of the tests.
    """
    folder = Path(os.environ["MIRIP_TEST_SHARED"])
    path = folder / "migrated.db"
    with FileLock(folder / "migrated.lock"):
        if not path.exists():
            from mirip.tracking.store import create_database, quiet_mlflow

            with tempfile.TemporaryDirectory(dir=folder) as made, quiet_mlflow():
                create_database(Path(made) / "mlflow.db")
                (Path(made) / "mlflow.db").rename(path)
        return path.read_bytes()


def edit_json(path: Path, **changes: object) -> None:
    """Change values of a metrics file."""
    _json(path, json.loads(path.read_text()) | changes)


def _splits(n_images: int, rng: np.random.Generator) -> pd.DataFrame:
    tier = rng.choice(TIERS, n_images, p=SHARES)
    group = np.sort(rng.integers(0, n_images * 2 // 3, n_images))
    side_of_group = rng.choice(["train", "val", "test"], group.max() + 1, p=[0.8, 0.1, 0.1])
    paths = [f"images/drawing_{index:04d}.jpg" for index in range(n_images)]
    return pd.DataFrame(
        {
            "image_path": paths,
            "image_sha256": [sha256_bytes(path.encode()) for path in paths],
            "tier": tier,
            "tier_rank": np.array([len(TIERS) - 1 - TIERS.index(name) for name in tier], np.int8),
            "group_id": group.astype(np.int64),
            "context": rng.choice(["design", "painting", "sculpture"], n_images),
            "split": side_of_group[group],
        }
    )


def _audit(root: Path, splits: pd.DataFrame, accuracy: object) -> None:
    best = 0.572
    margin = float(str(accuracy)) - best
    ids = public_ids(splits)
    named = splits[["tier", "split"]].assign(id=ids)
    _json(
        root / "metrics/audit.json",
        {
            "best_shortcut": "department",
            "best_shortcut_accuracy": best,
            "margin_over_shortcut": margin,
            "margin_over_shortcut_ci_low": margin - 0.09,
            "margin_over_shortcut_ci_high": margin + 0.08,
            "out_of_fold_verdict": "met",
            "out_of_fold_accuracy": 0.667,
            "out_of_fold_accuracy_ci_low": 0.631,
            "out_of_fold_accuracy_ci_high": 0.702,
            "n_images": len(splits),
            "n_groups": int(splits["group_id"].nunique()),
            "n_effective_images": 0.83 * len(splits),
            "n_pairs": 31415,
            "n_folds": 5,
            "n_findings": 1,
            "n_findings_info": 0,
            "n_findings_warning": 1,
            "n_findings_critical": 0,
            "n_near_duplicates": 1,
            "columns_left_out": "artist",
        },
    )
    rows = [("department", best, 0.49, 0.65), ("file size", 0.541, 0.46, 0.62), ("brightness", 0.507, 0.43, 0.58)]
    shortcuts = pd.DataFrame(rows, columns=["shortcut", "pairwise_accuracy", "ci_low", "ci_high"])
    margins = 0.667 - shortcuts["pairwise_accuracy"]
    shortcuts = shortcuts.assign(margin=margins, margin_ci_low=margins - 0.05, margin_ci_high=margins + 0.05)
    _csv(root / "metrics/audit/shortcuts.csv", shortcuts.assign(p_value=[0.0005, 0.21, 1.0]))
    told = [("department", 0.41, 0.01, 0.34, 0.0005), ("file_bytes", 0.02, 0.021, -0.001, 1.0)]
    columns = ["column", "information", "expected", "share", "p_value"]
    _csv(root / "metrics/audit/columns.csv", pd.DataFrame(told, columns=columns))
    finding = (
        "tier told by: department",
        "warning",
        0.34,
        0.0005,
        "the tier mix differs with department: collect similar artworks in it",
    )
    columns = ["name", "severity", "value", "p_value", "advice"]
    _csv(root / "metrics/audit/findings.csv", pd.DataFrame([finding], columns=columns))
    label_issues = named[["id", "tier"]].head(50)
    share = np.linspace(0.93, 0.55, len(label_issues))
    _csv(
        root / "metrics/audit/label_issues.csv",
        label_issues.assign(fold=0, score_percentile=100 * share - 2, misordered_share=share),
    )
    outliers = named[["id", "tier"]].tail(20)
    _csv(root / "metrics/audit/outliers.csv", outliers.assign(distance=np.linspace(9.4, 3.1, len(outliers))))
    test, other = named[named["split"] == "test"].head(1), named[named["split"] == "train"].head(1)
    pair = (test["id"].item(), "test", other["id"].item(), "train", 0.998, 0.21)
    columns = ["id", "split", "other_id", "other_split", "cosine", "relative_distance"]
    _csv(root / "metrics/audit/near_duplicates.csv", pd.DataFrame([pair], columns=columns))


def _drawing(rng: np.random.Generator) -> bytes:
    """Return a small still life: table, solids, shade."""
    width, height = (160, 120) if rng.random() < 0.6 else (114, 160)
    image = Image.new("RGB", (width, height), (236, 232, 222))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, height * 0.6, width, height), fill=(214, 207, 192))
    for _ in range(3):
        x, size = rng.uniform(10, width - 60), rng.uniform(25, 55)
        base, shade = height * rng.uniform(0.65, 0.9), int(rng.uniform(60, 190))
        draw.ellipse((x, base - 6, x + size * 1.4, base + 6), fill=(150, 144, 132))
        fill = (shade, shade, min(shade + 8, 255))
        if rng.random() < 0.5:
            draw.ellipse((x, base - size, x + size, base), fill=fill, outline=(40, 40, 44))
        else:
            draw.rectangle((x, base - size, x + size * 0.8, base), fill=fill, outline=(40, 40, 44))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=80)
    return stream.getvalue()


def _csv(path: Path, table: pd.DataFrame) -> None:
    path.write_text(table.to_csv(index=False, float_format="%.6g", lineterminator="\n"))


def _json(path: Path, values: dict[str, object]) -> None:
    finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
    path.write_text(json.dumps(finite, indent=2) + "\n")
