"""Judge the trained model on the test split, next to what simpler models reach there.

Reads   data/splits.parquet, features/<recipe>.h5, models/best_model.pt
Writes  metrics/evaluate.json, metrics/evaluate/*.csv, metrics/scores.csv
Run     python -m stages.evaluate          (or `dvc repro evaluate`)

metrics/scores.csv goes into Git so that anyone can recompute every figure; what would name a person or a file
(path, group, context) stands there as a hash. How many models have been judged on this test split is counted in
.mirip/judged/ and printed.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mirip.data.split import read_splits, split_digest
from mirip.data.tables import write_csv
from mirip.features.cache.feature_cache import FeatureCache
from mirip.files import write_json
from mirip.models.evaluation import (
    baseline_scores,
    images_in_test_split,
    judge,
    load_trained_model,
    public_scores,
    seed_scores,
)
from mirip.models.evaluation_count import count_evaluated
from mirip.models.evaluator import Evaluation
from mirip.params import load_params
from stages import run

SPLITS = Path("data/splits.parquet")
MODEL = Path("models/best_model.pt")
METRICS = Path("metrics/evaluate.json")
TABLES = Path("metrics/evaluate")
SCORES = Path("metrics/scores.csv")


def tables_of(evaluation: Evaluation, test: pd.DataFrame, scores: NDArray[np.float64]) -> dict[str, pd.DataFrame]:
    """Return the tables of metrics/evaluate/ by file name; scores_by_tier holds neither ids nor their order."""
    by_tier = pd.DataFrame({"tier": test["tier"].to_numpy(), "rank": -test["tier_rank"].to_numpy(), "score": scores})
    return {
        "tier_pairs": evaluation.tier_pairs,
        "gaps": evaluation.gaps,
        "reliability": evaluation.reliability,
        "coverage": evaluation.coverage,
        "baselines": evaluation.baseline_table,
        "scores_by_tier": by_tier.sort_values(["rank", "score"], kind="stable")[["tier", "score"]],
    }


def write_tables(folder: Path, tables: Mapping[str, pd.DataFrame]) -> None:
    """Write each table as CSV, six significant digits, and remove tables that another version left in the folder."""
    for name, table in tables.items():
        write_csv(folder / f"{name}.csv", table)
    for stale in folder.glob("*.csv"):
        if stale.stem not in tables:
            stale.unlink()


def main() -> None:
    """Evaluate as params.yaml says."""
    params = load_params()
    splits = read_splits(SPLITS)
    cache = FeatureCache.open(params.features_path, params.recipe)
    model, trained = load_trained_model(MODEL, splits, cache, params.data.tiers)
    test = images_in_test_split(splits)
    test_x = cache.rows(test["image_sha256"].tolist())
    baselines = baseline_scores(splits, cache, test_x, trained.train_params)
    evaluation, scores = judge(model, test, cache, params.evaluate, baselines)
    write_tables(TABLES, tables_of(evaluation, test, scores))
    write_csv(SCORES, public_scores(test, scores, seed_scores(model, test_x)), digits=9)
    write_json(METRICS, evaluation.metrics)
    for line in evaluation.summary().splitlines():
        print(f"evaluate: {line}")
    if words := count_evaluated(split_digest(splits), MODEL, float(evaluation.metrics["pairwise_accuracy"])):
        print(f"evaluate: {words}")


if __name__ == "__main__":
    run(main)
