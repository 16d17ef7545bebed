"""Look once at every image that the metadata lists, and keep what can be used.

Reads   data.metadata (the table), the images below data.images
Writes  data/manifest.parquet      one row an accepted image: path, hashes, size, statistics, tier, group, context
        data/rejected.csv          row, image_path and reason of the others
        data/thumbnails.parquet    a small JPEG of each distinct image
        metrics/data.json          counts
Run     python -m stages.prepare   (or `dvc repro prepare`)

Where more than `data.max_rejected_fraction` of the rows are rejected, the stage writes rejected.csv and fails.
"""

from mirip.data.manifest import prepare
from mirip.params import load_params
from mirip.workspace import Workspace
from stages import run


def main() -> None:
    """Prepare as params.yaml says."""
    workspace = Workspace()
    prepared = prepare(workspace, load_params())
    for notice in prepared.notices:
        print(f"prepare: note: {notice}")
    print(f"prepare: {prepared.summary()} ({workspace.rejected})")


if __name__ == "__main__":
    run(main)  # prepare: 596 images in 397 groups, 4 rejected (data/rejected.csv)
