"""Stage prepare: look once at every image that the metadata lists, and keep what can be used.

    python -m stages.prepare            (or: dvc repro prepare)

Reads the metadata table (`data.metadata`) and the images below `data.images`. Writes

    data/manifest.parquet      one row an accepted image: path, hashes, size, statistics, tier, group, context
    data/rejected.csv          row, image_path and reason of the others
    data/thumbnails.parquet    a small JPEG of each distinct image
    metrics/data.json          counts

and fails, after writing rejected.csv, where more than `data.max_rejected_fraction` of the rows were rejected.
"""

from pathlib import Path

from mirip.data.manifest import check_usable, prepare_images, write_manifest
from mirip.data.tables import write_csv, write_table
from mirip.files import write_json
from mirip.params import load_params
from stages import run

MANIFEST = Path("data/manifest.parquet")
REJECTED = Path("data/rejected.csv")
THUMBNAILS = Path("data/thumbnails.parquet")
METRICS = Path("metrics/data.json")


def main() -> None:
    """Run the stage."""
    params = load_params()
    prepared = prepare_images(params.data, params.prepare)
    write_csv(REJECTED, prepared.rejected)
    check_usable(prepared, params.data.max_rejected_fraction, listed_in=REJECTED)
    write_manifest(MANIFEST, prepared.manifest)
    write_table(THUMBNAILS, prepared.thumbnails)
    write_json(METRICS, prepared.counts)
    counts = prepared.counts
    print(
        f"prepare: {counts['n_images']} images in {counts['n_groups']} groups, {counts['n_rejected']} rejected "
        f"({REJECTED})"
    )


if __name__ == "__main__":
    run(main)
