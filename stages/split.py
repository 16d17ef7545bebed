"""Put whole groups into train, val and test, with the same share of each tier in each.

Reads   data/manifest.parquet
Writes  data/splits.parquet        the split and the public id of every image, in the manifest's order
        metrics/split.json         images and groups of each split, the largest tier drift, a digest
Run     python -m stages.split     (or `dvc repro split`)
"""

from mirip.data.split import split
from mirip.params import load_params
from mirip.workspace import Workspace
from stages import run


def main() -> None:
    """Split as params.yaml says."""
    print(f"split: {split(Workspace(), load_params()).summary()}")


if __name__ == "__main__":
    run(main)  # split: 476 train, 60 val, 60 test; largest tier drift 0.1 points
