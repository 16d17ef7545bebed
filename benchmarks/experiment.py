"""An experiment on the head, stage by stage: `dvc exp run -S train.dropout=...` on cached features.

Run     python -m benchmarks.experiment --json docs/benchmarks/experiment.json             (a quarter of an hour)
Try     python -m benchmarks.experiment --images 200 --runs 1
Show    python -m benchmarks.experiment --show docs/benchmarks/experiment.json

It clones the repository's last commit into a temporary folder, where 10,000 small images and their features are made:
1,024 numbers an image, from 24 latent values of which the tier is a nonlinear function, three images an artist. The
features are imported, `dvc repro` runs once, and its results are committed. Then an experiment runs with a dropout that
was not tried before, --runs times, and once with one that was: nothing is to be computed.

"in the experiment" is the time from the start of a stage to that of the next: the stage, and what DVC does after it.
"alone" is `python -m stages.<name>`, median of the runs. The difference, and what comes before the first stage, is DVC.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks.cloned_pipeline import ClonedPipeline
from mirip.data.manifest import read_manifest
from mirip.features.backbones.backbone import hardware
from mirip.files import write_json

STAGES = ("train", "evaluate", "audit", "report", "track")
SHARES = {"S": 0.04, "A": 0.37, "B": 0.49, "C": 0.1}
DIM, LATENT = 1024, 24
RECIPE = "made"


def made_features(n: int) -> tuple[NDArray[np.float32], list[str]]:
    """Make features (n, 1024) and a tier for each."""
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(n, LATENT))
    features = np.tanh(latent @ rng.normal(size=(LATENT, DIM)) / LATENT**0.5) + 0.3 * rng.normal(size=(n, DIM))
    quality = latent[:, 0] + np.abs(latent[:, 1]) + latent[:, 2] * latent[:, 3] + 0.5 * rng.normal(size=n)
    place = np.argsort(np.argsort(-quality)) / n
    tiers = np.array(list(SHARES))[np.searchsorted(np.cumsum(list(SHARES.values())), place, side="right").clip(0, 3)]
    return features.astype(np.float32), list(tiers)


def make_project(root: Path, n: int) -> ClonedPipeline:
    """Make a clone with images and imported features, run everything once, and commit."""
    project = ClonedPipeline(root)
    images = root / "made"
    images.mkdir()
    features, tiers = made_features(n)
    names = [f"{number:06d}.png" for number in range(n)]
    rng = np.random.default_rng(1)
    for name in names:
        Image.fromarray(rng.integers(0, 256, size=(32, 32, 3), dtype=np.uint8)).save(images / name)
    artists = [str(number // 3) for number in range(n)]
    table = pd.DataFrame({"image_path": names, "tier": tiers, "artist": artists})
    table.to_csv(root / "made.csv", index=False)
    data = {"images": "made", "metadata": "made.csv", "group": ["artist"], "context": []}
    recipes = {RECIPE: {"backbone": "import:made-features-v1"}}
    project.set_params({"data": data, "recipes": recipes, "extract": {"recipe": RECIPE}})
    with (root / ".gitignore").open("a") as ignored:
        ignored.write("/made/\n/vectors.npz\n")
    project.run_dvc("repro", "prepare")
    row_of = dict(zip(names, features, strict=True))
    manifest = read_manifest(root / "data" / "manifest.parquet")
    paths = manifest["image_path"].to_numpy().astype(str)
    np.savez(root / "vectors.npz", image_path=paths, features=np.stack([row_of[path] for path in paths]))
    project.run(sys.executable, "-m", "mirip.cli.main", "cache", "import", "vectors.npz", "--recipe", RECIPE)
    project.run_dvc("repro")
    project.commit("Results")
    return project


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run everything in a temporary folder; return what the JSON holds."""
    with tempfile.TemporaryDirectory() as folder:
        project = make_project(Path(folder) / "project", options.images)
        load = os.getloadavg()[0]
        runs = []
        for number in range(options.runs):
            dropout = f"train.dropout={0.2 + number / 100:.2f}"
            runs.append(project.run_dvc("exp", "run", "-S", dropout))
        nothing, stages = project.run_dvc("exp", "run", "-S", dropout)
        if stages:
            raise SystemExit(f"the same experiment again ran {', '.join(stages)}")
        alone: dict[str, list[float]] = {stage: [] for stage in STAGES}
        for _ in range(options.runs):
            for stage in STAGES:
                start = time.monotonic()
                project.run(sys.executable, "-m", f"stages.{stage}")
                alone[stage].append(time.monotonic() - start)
    return {
        "benchmark": "experiment",
        "hardware": hardware(torch.device("cuda" if torch.cuda.is_available() else "cpu")),
        "cores": os.cpu_count(),
        "load_average": load,
        "torch": torch.__version__,
        "images": options.images,
        "dim": DIM,
        "runs": options.runs,
        "experiment_seconds": [seconds for seconds, _ in runs],
        "stage_seconds_in_the_experiment": {stage: [found.get(stage) for _, found in runs] for stage in STAGES},
        "stage_seconds_alone": alone,
        "seconds_where_nothing_runs": nothing,
    }


def table(result: dict[str, Any]) -> str:
    """Return the Markdown table of a JSON, and the line below it."""
    lines = ["| stage | in the experiment | alone |", "| --- | ---: | ---: |"]
    inside, alone = result["stage_seconds_in_the_experiment"], result["stage_seconds_alone"]
    sums = [0.0, 0.0]
    for stage in inside:
        cells = [statistics.median(values) for values in (inside[stage], alone[stage])]
        sums = [total + cell for total, cell in zip(sums, cells, strict=True)]
        lines.append(f"| {stage} | {cells[0]:.1f} | {cells[1]:.1f} |")
    whole = statistics.median(result["experiment_seconds"])
    lines.append(f"| DVC, before the first stage | {whole - sums[0]:.1f} | |")
    lines.append(f"| `dvc exp run` | {whole:.1f} | {sums[1]:.1f} |")
    return "\n".join(lines) + (
        f"\n\n{result['hardware']}, {result['cores']} cores, load average {result['load_average']:.1f}, torch "
        f"{result['torch']}. {result['images']:,} images of {result['dim']:,} features, median seconds of "
        f"{result['runs']} runs. Where nothing has to run, the command takes "
        f"{result['seconds_where_nothing_runs']:.1f} s."
    )


def main() -> None:
    """Measure, write the JSON and print the table."""
    parser = argparse.ArgumentParser(description="Time an experiment on the head, stage by stage.")
    parser.add_argument("--images", type=int, default=10_000, help="(default 10,000)")
    parser.add_argument("--runs", type=int, default=3, help="experiments that are timed (default 3)")
    parser.add_argument("--json", type=Path, help="write the measurement here")
    parser.add_argument("--show", type=Path, help="print the table of this JSON, and run nothing")
    options = parser.parse_args()
    if options.show:
        print(table(json.loads(options.show.read_text())))
        return
    result = measure(options)
    if options.json:
        write_json(options.json, result)
    print(table(result))


if __name__ == "__main__":
    main()
