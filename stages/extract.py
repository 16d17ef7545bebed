"""Pass every image that is new through the frozen backbone into the feature cache.

Reads   data/manifest.parquet, the images, the active recipe and its backbone
Writes  features/<recipe>.h5, metrics/extract.json
Run     python -m stages.extract        (or `dvc repro extract`)

Rows that were ever computed come from .mirip/store/; Ctrl-C or a crash loses at most a batch.
Prints at last, e.g.: extract: 400 rows, 12 computed, 388 reused
"""

from mirip.features.extract import extract
from mirip.params import load_params
from mirip.workspace import Workspace
from stages import run


def main() -> None:
    """Extract as params.yaml says."""
    print(extract(Workspace(), load_params()).line)


if __name__ == "__main__":
    run(main)
