"""Publish the result to MLflow, once per distinct result.

Reads   params.yaml, metrics/*.json, metrics/train/curves.csv, models/best_model.pt
Writes  one MLflow run: in mlflow.db of the main repository's root, or where MLFLOW_TRACKING_URI says;
        metrics/track.json, its key: not in Git, so that a fresh clone publishes into its own store
Run     python -m stages.track          (or `dvc repro track`)

A server that is unavailable is a warning, not a lost result: it is kept in .mirip/unpublished/, whatever is run next,
until `mirip track --backfill` publishes it there.
"""

import sys

from mirip.params import load_params
from mirip.tracking.publishing import track
from mirip.workspace import Workspace
from stages import run


def main() -> None:
    """Publish as params.yaml says."""
    tracked = track(Workspace(), load_params())
    if tracked.warning:
        print(f"warning: {tracked.warning}", file=sys.stderr)
    else:
        print(f"track: {tracked.summary()}")


if __name__ == "__main__":
    run(main)
