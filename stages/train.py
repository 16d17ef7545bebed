"""Train the projector and the score head on cached features.

Reads   data/splits.parquet, features/<recipe>.h5
Writes  models/best_model.pt, metrics/train.json, metrics/train/curves.csv
Run     python -m stages.train          (or `dvc repro train`)

An interrupted training goes on where it stopped: its checkpoints stand in .mirip/checkpoints/ until it ends.
"""

import shutil
import time
from contextlib import suppress
from pathlib import Path

from filelock import FileLock

from mirip.data.split import read_splits
from mirip.data.tables import write_csv
from mirip.features.cache.feature_cache import FeatureCache
from mirip.files import write_json
from mirip.models.checkpoint import save_checkpoint
from mirip.models.trainer import Trainer
from mirip.models.training import ranking_data, train_ranker, training_key, training_summary
from mirip.params import load_params
from mirip.workspace import main_root
from stages import run

SPLITS = Path("data/splits.parquet")
MODEL = Path("models/best_model.pt")
METRICS = Path("metrics/train.json")
CURVES = Path("metrics/train/curves.csv")


def remove_stale(folder: Path, max_age_s: float = 30 * 24 * 3600) -> None:
    """Remove checkpoints of interrupted trainings that nobody took up again."""
    for path in folder.glob("*/"):
        with suppress(FileNotFoundError):  # another training may just have ended
            if time.time() - path.stat().st_mtime > max_age_s:
                shutil.rmtree(path, ignore_errors=True)


def main() -> None:
    """Train as params.yaml says."""
    params = load_params()
    splits = read_splits(SPLITS)
    cache = FeatureCache.open(params.features_path, params.recipe)
    key = training_key(params.train, ranking_data(splits, cache, "train"), ranking_data(splits, cache, "val"))
    interrupted = main_root() / ".mirip" / "checkpoints"
    interrupted.mkdir(parents=True, exist_ok=True)
    remove_stale(interrupted)
    start = time.monotonic()
    with FileLock(interrupted / f"{key[:16]}.lock"):  # the same training may be queued twice
        trainer = Trainer(params.train, checkpoint_dir=interrupted / key[:16], keep_checkpoints=False)
        checkpoint, result = train_ranker(splits, cache, trainer, tiers=params.data.tiers, resume=True, verbose=True)
        save_checkpoint(MODEL, checkpoint)
        shutil.rmtree(interrupted / key[:16], ignore_errors=True)
    write_csv(CURVES, result.curves)
    write_json(METRICS, training_summary(checkpoint, result))
    print(
        f"train: {len(result.curves)} epochs in {time.monotonic() - start:.1f} s, "
        f"best {result.best_epoch} with val_pairwise_accuracy {result.val_pairwise_accuracy:.3f}"
    )


if __name__ == "__main__":
    run(main)
