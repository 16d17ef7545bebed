"""Train projector, score head and linear members on cached features; weigh and calibrate them out of fold.

Reads   data/splits.parquet, features/<recipe>.h5
Writes  models/best_model.pt, models/out_of_fold.parquet, metrics/train.json, metrics/train/curves.csv
Run     python -m stages.train          (or `dvc repro train`)

An interrupted training goes on where it stopped: its checkpoints are in .mirip/checkpoints/ until it ends.
"""

import time

from mirip.models.training import train
from mirip.params import load_params
from mirip.workspace import Workspace
from stages import run


def main() -> None:
    """Train as params.yaml says."""
    start = time.monotonic()
    found = train(Workspace(), load_params())
    print(f"train: {found.summary()}, in {time.monotonic() - start:.1f} s")


if __name__ == "__main__":
    run(main)
