"""Publish the result to MLflow, once per distinct result.

Reads   params.yaml, metrics/*.json, metrics/train/curves.csv, models/best_model.pt
Writes  one MLflow run: in mlflow.db of the main repository's root, or where MLFLOW_TRACKING_URI says;
        metrics/track.json, its key: not in Git, so that a fresh clone publishes into its own store
Run     python -m stages.track          (or `dvc repro track`)

A server that is away is a warning, not a lost result: it is kept in .mirip/unpublished/, whatever is run next, until
`mirip track --backfill` publishes it there.
"""

import sys
from pathlib import Path

from mirip.errors import TrackingError
from mirip.files import write_json
from mirip.params import load_params
from mirip.tracking.publishing import publish
from mirip.tracking.record import RunRecord, provenance_tags
from mirip.tracking.result import RECEIPT, read_result
from mirip.tracking.store import tracking_uri
from mirip.tracking.unpublished import keep
from stages import run


def main() -> None:
    """Publish as params.yaml says."""
    enabled = load_params().track.enabled
    record = read_result(Path(), provenance_tags())
    write_json(RECEIPT, {"key": record.key, "published": enabled and _publish(record)})
    if not enabled:
        print("track: off (track.enabled is false): nothing was published")


def _publish(record: RunRecord) -> bool:
    try:
        published = publish(record)
    except TrackingError as error:
        keep(record, tracking_uri())
        print(f"warning: {error}; it is kept until `mirip track --backfill` publishes it there", file=sys.stderr)
        return False
    print(f"track: {published}")
    return True


if __name__ == "__main__":
    run(main)
