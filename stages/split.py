"""Stage split: put whole groups on the train, val and test splits, with the same share of each tier.

    python -m stages.split              (or: dvc repro split)

Reads data/manifest.parquet. Writes

    data/splits.parquet        the side of every image, in the manifest's order
    metrics/split.json         images and groups a side, the largest tier drift, and a digest that names the split
"""

from pathlib import Path
from typing import Any

import pandas as pd

from mirip.data.folds import SPLIT_NAMES
from mirip.data.manifest import read_manifest
from mirip.data.split import DataSplitter, check_disjoint, split_digest, tier_drift
from mirip.data.tables import write_table
from mirip.files import write_json
from mirip.params import load_params
from stages import run

MANIFEST = Path("data/manifest.parquet")
SPLITS = Path("data/splits.parquet")
METRICS = Path("metrics/split.json")


def figures(splits: pd.DataFrame) -> dict[str, Any]:
    """Return images and groups a side, the largest tier drift in percentage points, and the digest."""
    sides = {side: splits[splits["split"] == side] for side in SPLIT_NAMES}
    return {
        **{f"n_{side}": len(rows) for side, rows in sides.items()},
        **{f"n_groups_{side}": int(rows["group_id"].nunique()) for side, rows in sides.items()},
        "max_tier_drift": round(tier_drift(splits), 6),
        "digest": split_digest(splits),
    }


def main() -> None:
    """Run the stage."""
    params = load_params()
    section = params.split
    manifest = read_manifest(MANIFEST)
    splitter = DataSplitter(section.train, section.val, section.test, section.seed, section.max_tier_drift)
    splits = splitter.split(manifest)
    check_disjoint(splits, manifest, params.prepare.near_duplicate_bits)
    write_table(SPLITS, splits)
    result = figures(splits)
    write_json(METRICS, result)
    sizes = ", ".join(f"{result[f'n_{side}']} {side}" for side in SPLIT_NAMES)
    print(f"split: {sizes}; largest tier drift {result['max_tier_drift']:.1f} points")


if __name__ == "__main__":
    run(main)
