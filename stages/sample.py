"""Draw the embedded sample: still lifes by made-up artists, and a backbone of random weights.

Reads   params.yaml: sample (seed, n_images, n_artists)
Writes  data/sample/images/, data/sample/metadata.csv
        data/sample/truth.json       the skill behind each artwork, the best possible ranker, the planted files;
                                     no other stage reads it
        models/backbones/sample/     a Dinov2 in Hugging Face format; its weights are random
Run     python -m stages.sample      (or `dvc repro data/dvc.yaml:sample`)

The drawings depend on the section `sample` alone, the backbone on nothing at all.
"""

from mirip.params import load_params
from mirip.sample.dataset import sample
from mirip.workspace import Workspace
from stages import run


def main() -> None:
    """Draw as params.yaml says."""
    print(f"sample: {sample(Workspace(), load_params()).summary()}")


if __name__ == "__main__":
    run(main)  # sample: 600 artworks by 398 artists, 12 planted files, backbone 53 MB
