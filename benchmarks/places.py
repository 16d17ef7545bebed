"""How often an image's true place lies among the places that it is said to have, on scores out of fold.

Run     python -m benchmarks.places [PROJECT]
Reads   data/splits.parquet, models/out_of_fold.parquet and models/best_model.pt of a project, by default this one
Prints  the share of places that are covered, for lists of one image of each tier, and for lists of twelve images

Of twelve images several have one tier, and the truth does not order these: a place is covered if some order that agrees
with the tiers puts the image there.
"""

import sys
from pathlib import Path

import numpy as np

from mirip.data.split import read_splits
from mirip.data.tables import read_table
from mirip.metrics.places import place_coverage, place_intervals
from mirip.models.checkpoint import load_checkpoint
from mirip.randomness import stream
from mirip.workspace import Workspace

_LISTS, _DRAWS, _IMAGES = 500, 400, 12


def main() -> None:
    """Measure, and print what was found."""
    workspace = Workspace(Path(sys.argv[1]) if len(sys.argv) > 1 else Path())
    temperature = load_checkpoint(workspace.model).temperature
    scored = read_table(workspace.cross_fit, ("image_sha256", "score"), "dvc repro train")
    images = read_splits(workspace.splits).assign(score=scored["score"])
    images = images[(images["split"] == "train") & np.isfinite(images["score"])]
    score, rank = images["score"].to_numpy(), images["tier_rank"].to_numpy()
    by_tier = place_coverage(score, rank, temperature, rng=stream(0, "tiers"), n_lists=_LISTS, n_draws=_DRAWS)
    print(f"one image a tier: {by_tier:.3f} of the places are covered")
    rng, covered, widths = stream(0, "twelve"), [], []
    for _ in range(_LISTS):
        drawn = rng.choice(len(score), _IMAGES, replace=False)
        first, last = place_intervals(score[drawn], temperature, rng=rng, n_draws=_DRAWS)
        best = 1 + (rank[drawn][None, :] > rank[drawn][:, None]).sum(axis=1)
        worst = (rank[drawn][None, :] >= rank[drawn][:, None]).sum(axis=1)
        covered.append((first <= worst) & (best <= last))
        widths.append(last - first + 1)
    print(f"{_IMAGES} images: {np.mean(covered):.3f} are covered, by intervals {np.mean(widths):.1f} places wide")


if __name__ == "__main__":
    main()
