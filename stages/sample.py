"""Draw the embedded sample: still lifes by made-up artists, and a backbone of random weights.

    python -m stages.sample

Reads   params.yaml: sample (seed, n_images, n_artists)
Writes  data/sample/images/, data/sample/metadata.csv
        data/sample/truth.json       the skill behind each work, the best possible ranker, the planted files;
                                     no other stage reads it
        models/backbones/sample/     a Dinov2 in Hugging Face format; its weights are random

The drawings depend on the section `sample` alone, the backbone on nothing at all.
"""

import os
from pathlib import Path

from mirip.params import load_params
from mirip.sample.backbone import write_backbone
from mirip.sample.dataset import atomic_folder, write_dataset
from mirip.sample.planted import PLANTED
from stages import run

DATASET = Path("data/sample")
BACKBONE = Path("models/backbones/sample")
# Beyond a few processes the pool takes longer to start than it saves.
MAX_WORKERS = 4


def main() -> None:
    """Write both folders, each whole or not at all."""
    params = load_params().sample
    # Each drawing process has a core to itself; threads inside numpy would only fight over it.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    workers = min(MAX_WORKERS, os.cpu_count() or 1)
    with atomic_folder(DATASET) as dataset, atomic_folder(BACKBONE) as backbone:
        works = write_dataset(dataset, params.seed, params.n_images, params.n_artists, workers=workers)
        size_mb = write_backbone(backbone) / 1e6
    n_artists = len({work.artist for work in works})
    print(f"sample: {len(works)} works by {n_artists} artists, {len(PLANTED)} planted files, backbone {size_mb:.0f} MB")


if __name__ == "__main__":
    run(main)
