"""The whole pipeline on the sample with the true architecture: dinov2-large at 768 asked for, 756 seen, random weights.

Run     python -m benchmarks.true_architecture [--json docs/benchmarks/true_architecture.json]
Try     python -m benchmarks.true_architecture --architecture tiny --image-size 28
Show    python -m benchmarks.true_architecture --show docs/benchmarks/true_architecture.json

It clones the repository's last commit into a temporary folder, writes a backbone folder in Hugging Face format there
and a recipe that points at it, draws a sample of 65 images (four are to be rejected, one is another's copy) and runs
`dvc repro`. Then it checks that each of the 60 contents has a row of finite features, that some rows come out with the
same bits when they are extracted again, and prints how long each stage took and how much memory the largest process
had. The values of the features mean nothing: the weights are random.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.cloned_pipeline import ROOT, ClonedPipeline
from benchmarks.true_backbone import ARCHITECTURES, make_backbone
from mirip.data.manifest import first_paths, read_manifest
from mirip.features.backbones.backbone import hardware
from mirip.features.cache.feature_cache import FeatureCache
from mirip.features.extract.extraction import extract_features
from mirip.files import write_json
from mirip.params import load_params

RECIPE = "true"
SMALL = {  # what takes long and is no part of the question
    "data": {"max_rejected_fraction": 0.1},
    "split": {"max_tier_drift": 30.0},
    "benchmark": {"pair_runs": 3, "batch_size": 1, "train_rows": 200, "train_epochs": 2},
}


def make_project(root: Path, options: argparse.Namespace) -> ClonedPipeline:
    """Make a clone in `root` with a recipe of the true architecture."""
    project = ClonedPipeline(root)
    backbone = make_backbone(root / "models" / "backbones" / RECIPE, options.architecture, options.image_size)
    recipe = {"backbone": str(backbone.relative_to(root)), "image_size": options.image_size}
    sample = {"n_images": options.images, "n_artists": max(options.images * 2 // 3, 20)}
    extract = {"recipe": RECIPE, "batch_size": options.batch_size}
    project.set_params({**SMALL, "recipes": {RECIPE: recipe}, "extract": extract, "sample": sample})
    project.commit("The true architecture")
    return project


def check(root: Path, again: int) -> dict[str, Any]:
    """Check the features file, and some rows by a second extraction.

    Raises:
        AssertionError: a row is missing, not finite, or has other bits the second time.
    """
    os.chdir(root)
    params = load_params()
    items = dict(first_paths(read_manifest(Path("data/manifest.parquet"))))
    cache = FeatureCache.open(Path("features") / f"{RECIPE}.h5", params.recipe)
    rows = cache.rows(list(items))
    assert len(rows) == len(items), "an image has no row"
    assert np.isfinite(rows).all(), "a feature is not finite"
    some = list(items.items())[:again]
    with tempfile.TemporaryDirectory() as folder:
        extract_features(
            some,
            image_root=params.data.images,
            recipe=params.recipe,
            path=Path(folder) / "again.h5",
            store_root=Path(folder) / "store",
            batch_size=params.extract.batch_size,
            visible=False,
            remember=False,
        )
        second = FeatureCache.open(Path(folder) / "again.h5").rows([key for key, _ in some])
    assert second.tobytes() == rows[:again].tobytes(), "a second extraction gave other bits"
    return {"rows": len(rows), "dim": rows.shape[1], "rows_extracted_again_with_equal_bits": again}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run everything in a temporary folder; return what the JSON holds."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "project"
        project = make_project(root, options)
        os.environ |= project.environment
        load = os.getloadavg()[0]
        whole, seconds = project.run_dvc("repro")
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        found = check(root, options.again)
        os.chdir(ROOT)
    return {
        "benchmark": "true_architecture",
        "hardware": hardware(torch.device("cuda" if torch.cuda.is_available() else "cpu")),
        "cores": os.cpu_count(),
        "load_average": load,
        "torch": torch.__version__,
        "architecture": options.architecture,
        "image_size": options.image_size,
        "images": options.images,
        "batch_size": options.batch_size,
        **found,
        "stage_seconds": seconds,
        "seconds": whole,
        "processor_seconds": usage.ru_utime + usage.ru_stime,
        "largest_process_gib": usage.ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20),
    }


def table(result: dict[str, Any]) -> str:
    """Return the Markdown table of a JSON, and the line below it."""
    lines = ["| stage | seconds |", "| --- | ---: |"]
    lines += [f"| {name} | {taken:.1f} |" for name, taken in result["stage_seconds"].items()]
    lines.append(f"| `dvc repro` | {result['seconds']:.1f} |")
    return "\n".join(lines) + (
        f"\n\n{result['hardware']}, {result['cores']} cores, load average {result['load_average']:.1f}, torch "
        f"{result['torch']}. dinov2-{result['architecture']}, {result['image_size']} px asked for, "
        f"{result['rows']} rows of {result['dim']:,}, batches of {result['batch_size']}. All processes took "
        f"{result['processor_seconds']:.0f} s of processor time, the largest had "
        f"{result['largest_process_gib']:.1f} GiB. {result['rows_extracted_again_with_equal_bits']} rows were "
        "extracted again and had the same bits."
    )


def main() -> None:
    """Measure, write the JSON and print the table."""
    parser = argparse.ArgumentParser(description="Run the pipeline with the true architecture.")
    parser.add_argument("--images", type=int, default=65, help="images of the sample, 40 or more (default 65)")
    parser.add_argument("--image-size", type=int, default=768, help="asked for by the recipe (default 768)")
    parser.add_argument("--architecture", choices=list(ARCHITECTURES), default="large", help="(default large)")
    parser.add_argument("--batch-size", type=int, default=1, help="images in a pass (default 1)")
    parser.add_argument("--again", type=int, default=3, help="rows that are extracted twice (default 3)")
    parser.add_argument("--json", type=Path, help="write the measurement here")
    parser.add_argument("--show", type=Path, help="print the table of this JSON, and run nothing")
    options = parser.parse_args()
    if options.show:
        print(table(json.loads(options.show.read_text())))
        return
    path = options.json.resolve() if options.json else None
    result = measure(options)
    if path:
        write_json(path, result)
    print(table(result))


if __name__ == "__main__":
    main()
