"""The whole pipeline with the architecture of dinov2-large at 756 x 756, on a few images of the sample.

Run     python -m benchmarks.true_architecture [--images 60] [--json FILE]     (some five minutes on two cores)
Prints  a line a stage, and a verdict

A clone of this repository in a temporary folder gets a backbone with seeded random weights and a recipe that is
`dinov2-large` but for where its weights are. `dvc repro` runs there from the first stage to the last. Then every
feature has to be a finite number, 1,024 a row, and some rows that are extracted again have to have the same bits.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.true_backbone import make_backbone
from mirip.features.backbones.backbone import hardware, resolve_device
from mirip.features.cache.rows import read_rows
from mirip.files import write_json

ROOT = Path(__file__).parents[1]
RECIPE = "true-architecture"
STAGES = ("prepare", "split", "extract", "train", "evaluate", "audit", "benchmark", "report")


def main() -> None:
    """Run the pipeline in a clone, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        found = measured(Path(name) / "clone", options.images)
    for stage, seconds in found["seconds"].items():
        print(f"{stage:10} {seconds:8.1f} s")
    print(f"{found['rows']} rows of {found['dim']} on {found['hardware']}: all finite, the same bits once more")
    if options.json:
        write_json(options.json, found)


def measured(clone: Path, n_images: int) -> dict[str, Any]:
    """Run the stages in a clone; return seconds by stage, rows, width and hardware."""
    run("git", "clone", "-q", str(ROOT), str(clone), at=ROOT)
    backbone = make_backbone(clone / "models/backbones/true", "large", 756)
    params = yaml.safe_load((clone / "params.yaml").read_text(encoding="utf-8"))
    recipe = params["recipes"]["dinov2-large"]
    del recipe["revision"]
    params["recipes"][RECIPE] = recipe | {"backbone": str(backbone)}
    params["extract"]["recipe"] = RECIPE
    params["sample"] |= {"n_images": n_images, "n_artists": max(n_images * 2 // 3, 12)}
    params["split"]["max_tier_drift"] = 30.0  # of so few images
    params["benchmark"] |= {"pair_runs": 2, "batch_size": 2}  # on a CPU, a pair takes seconds
    (clone / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    seconds = {}
    for stage in ("data/dvc.yaml:sample", *STAGES):
        start = time.monotonic()
        run(sys.executable, "-m", "dvc", "repro", "--single-item", stage, at=clone)
        seconds[stage.rpartition(":")[2]] = time.monotonic() - start
    rows = read_rows(clone / f"features/{RECIPE}.h5")
    values = np.asarray(rows.features)
    if values.shape[1] != 1024 or not np.isfinite(values).all():
        raise SystemExit(f"the features have the shape {values.shape}, finite: {np.isfinite(values).all()}")
    run(sys.executable, "-m", "mirip.cli.main", "cache", "verify", "--rows", "2", at=clone)  # else exit code 1
    return {
        "rows": len(values),
        "dim": values.shape[1],
        "hardware": hardware(resolve_device("auto")),
        "seconds": seconds,
    }


def run(*command: str, at: Path) -> str:
    """Run a command and return what it printed; end with its last lines where it fails."""
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1", "PYTHONPATH": str(at)}
    result = subprocess.run(command, cwd=at, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        raise SystemExit(f"{' '.join(command)} failed: {(result.stdout + result.stderr)[-2000:]}")
    return result.stdout


if __name__ == "__main__":
    main()
