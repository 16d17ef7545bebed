"""Train the projector and the score head on cached features.

Reads   data/splits.parquet, features/<recipe>.h5
Writes  models/best_model.pt, metrics/train.json, metrics/train/curves.csv
Run     python -m stages.train          (or `dvc repro train`)

An interrupted training goes on where it stopped: its checkpoints stand in .mirip/checkpoints/ until it ends.
"""

import shutil
import time
from pathlib import Path

import pandas as pd

from mirip.data.split import read_splits, split_digest
from mirip.features.cache import FeatureCache
from mirip.files import main_root, write_json, write_text
from mirip.models.checkpoint import save_checkpoint
from mirip.models.training import train_ranker, training_key, training_summary
from mirip.params import load_params
from stages import run

SPLITS = Path("data/splits.parquet")
MODEL = Path("models/best_model.pt")
METRICS = Path("metrics/train.json")
CURVES = Path("metrics/train/curves.csv")


def curves_csv(curves: pd.DataFrame) -> str:
    """Return the learning curves as CSV, six significant digits."""
    return curves.to_csv(index=False, float_format="%.6g", lineterminator="\n")


def main() -> None:
    """Train as params.yaml says."""
    params = load_params()
    splits = read_splits(SPLITS)
    cache = FeatureCache.open(params.features_path, params.recipe)
    key = training_key(params.train, cache.fingerprint, cache.content_digest, split_digest(splits))
    checkpoint_dir = main_root() / ".mirip" / "checkpoints" / key[:16]
    start = time.monotonic()
    checkpoint, result = train_ranker(
        splits,
        cache,
        config=params.train,
        tiers=params.data.tiers,
        checkpoint_dir=checkpoint_dir,
        resume=True,
        verbose=True,
    )
    save_checkpoint(MODEL, checkpoint)
    write_text(CURVES, curves_csv(result.curves))
    write_json(METRICS, training_summary(checkpoint, result))
    shutil.rmtree(checkpoint_dir, ignore_errors=True)
    print(
        f"train: {len(result.curves)} epochs in {time.monotonic() - start:.1f} s, "
        f"best {result.best_epoch} with val_pairwise_accuracy {result.val_pairwise_accuracy:.3f}"
    )


if __name__ == "__main__":
    run(main)
