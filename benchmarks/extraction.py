"""Extraction side by side: images on disk to embeddings in an HDF5 file, by Mirip and by what one would use instead.

Run     python -m benchmarks.extraction --json docs/benchmarks/extraction_224.json
        (also with --image-size 756 --images 2 --batch-size 1)
Show    python -m benchmarks.extraction --show docs/benchmarks/extraction_224.json         (the JSON's Markdown table)
Try     python -m benchmarks.extraction --architecture tiny --image-size 28 --images 4 --runs 1

The ways (benchmarks/extraction_peers.py): transformers in batches, one image at a time and as its pipeline; timm; ONNX
Runtime; OpenVINO; Mirip. Those that can compute in bfloat16 do it too. timm, onnxscript, onnxruntime and openvino are
no dependencies of Mirip. What is missing is skipped with a line. To have them, in an environment of their own:

    uv venv peers && uv pip install --python peers/bin/python -r requirements.txt timm onnxscript onnxruntime openvino
    peers/bin/python -m benchmarks.extraction

The backbone has the architecture of dinov2-large and seeded random weights: how long a pass takes does not depend on
the weights' values. The images are made-up photos of 6 megapixels, JPEG. All ways squash them to the same square, use
batches of the same size (but for the one that takes one image at a time) and as many threads as there are cores.

Each way runs in a process of its own. A first pass over all images is not timed: it warms up, and its embeddings are
compared with those of transformers in float32. Where a cosine distance is above 0.01, the way computes another function
and is not timed. Then it runs --runs times, each time twice: from prepared pixels to embeddings ("forward"), and from
files to the closed HDF5 file ("files"). "cosine error" is the largest cosine distance over the images, "relative
difference" the largest difference of a number relative to the largest number of its embedding. Loading the backbone is
not timed, but for Mirip's "files": its call loads the backbone itself.

On a machine that others use too, seconds of wall time say more about the others than about the way. So the JSON also
holds the seconds of processor time that all threads of the process took, and the load average before each way.
"""

import argparse
import importlib.util
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.extraction_peers import NEEDS, WAYS, Pipeline
from benchmarks.true_backbone import ARCHITECTURES, PATCH_PX, make_backbone
from mirip.features.backbones.backbone import hardware
from mirip.files import write_json
from mirip.models.latency import made_photo

LIBRARIES = ("torch", "transformers", "timm", "onnxruntime", "openvino", "pillow", "simplejpeg", "numpy", "h5py")
MAX_DISTANCE = 0.01
REFERENCE = "stock-float32"
_MEASURED = ("forward", "files")


def make_images(folder: Path, n: int) -> list[Path]:
    """Write `n` JPEG files of 6 megapixels."""
    folder.mkdir()
    paths = [folder / f"{index:04d}.jpg" for index in range(n)]
    for seed, path in enumerate(paths):
        path.write_bytes(made_photo(seed))
    return paths


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds of wall and of processor time that a call takes."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


def differences(rows: NDArray[np.float32], expected: NDArray[np.float32]) -> tuple[float, float]:
    """Return the largest cosine distance, and the largest difference relative to a row's largest number."""
    ours, theirs = rows.astype(np.float64), expected.astype(np.float64)
    cosine = (ours * theirs).sum(axis=1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    relative = np.abs(ours - theirs).max(axis=1) / np.abs(theirs).max(axis=1)
    return max(float((1 - cosine).max()), 0.0), float(relative.max())


def measure_way(options: argparse.Namespace, folder: Path, name: str, dtype: str) -> dict[str, Any]:
    """Run one way, in the process that was started for it; return its row of the JSON."""
    torch.set_num_threads(os.cpu_count() or 1)
    load = os.getloadavg()[0]
    way = WAYS[name](folder / "backbone", dtype, options.image_size, options.batch_size, options.workers)
    paths = sorted((folder / "images").iterdir())
    prepared = [way.prepared(path) for path in paths]
    batches = [torch.stack(prepared[i : i + way.batch_size]) for i in range(0, len(prepared), way.batch_size)]

    def forward() -> NDArray[np.float32]:
        return np.concatenate([way.embedded(batch) for batch in batches])

    rows = forward()
    np.save(folder / f"{name}-{dtype}.npy", rows)
    cosine_error, relative = differences(rows, np.load(folder / f"{REFERENCE}.npy"))
    row: dict[str, Any] = {
        "way": way.name,
        "dtype": dtype,
        "cosine_error": cosine_error,
        "relative_difference": relative,
        "load_average": load,
    }
    if cosine_error > MAX_DISTANCE:
        return row | {"note": "computes another function: not timed"}
    out = folder / f"{name}-{dtype}.h5"
    calls: dict[str, Callable[[], object]] = {"forward": forward, "files": lambda: way.extract(paths, out)}
    if isinstance(way, Pipeline):
        del calls["forward"]  # its pass is that of the same model in batches
    for kind in calls:
        row |= {f"{kind}_seconds": [], f"{kind}_cpu_seconds": []}
    for _ in range(options.runs):
        for kind, call in calls.items():
            wall, cpu = timed(call)
            row[f"{kind}_seconds"].append(wall)
            row[f"{kind}_cpu_seconds"].append(cpu)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB on Linux, bytes on macOS
    return row | {"peak_memory_gib": peak / (2**30 if sys.platform == "darwin" else 2**20)}


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run all ways one after another; return what the JSON holds."""
    make_backbone(folder / "backbone", options.architecture, options.image_size)
    make_images(folder / "images", options.images)
    rows, skipped = [], []
    for name in ["stock", *(name for name in options.ways if name != "stock")]:
        if missing := [module for module in NEEDS.get(name, ()) if importlib.util.find_spec(module) is None]:
            skipped.append(f"{WAYS[name].name}: {' and '.join(missing)} not installed")
            print(f"skipped {skipped[-1]} (the docstring says how)", file=sys.stderr)
            continue
        for dtype in WAYS[name].dtypes:
            print(f"{WAYS[name].name}, {dtype}", file=sys.stderr, flush=True)
            rows.append(_in_a_process(folder, f"{name}-{dtype}"))
    reference = np.load(folder / f"{REFERENCE}.npy").astype(np.float64)
    unit = reference / np.linalg.norm(reference, axis=1, keepdims=True)
    between = (1 - unit @ unit.T)[~np.eye(len(unit), dtype=bool)].min()
    return {
        "benchmark": "extraction",
        "hardware": hardware(torch.device("cpu")),
        "cores": os.cpu_count(),
        "libraries": {name: _version(name) for name in LIBRARIES},
        **{name: getattr(options, name) for name in ("architecture", "image_size", "images", "batch_size", "workers")},
        "smallest_distance_between_images": float(between),
        "skipped": skipped,
        "rows": rows,
    }


def _in_a_process(folder: Path, job: str) -> dict[str, Any]:
    """Run this script's command again for one way; a way that fails does not end the others."""
    environment = os.environ | {
        "DVC_ROOT": str(folder)
    }  # what extraction notes in .mirip/ stays out of this repository
    command = [sys.executable, "-m", "benchmarks.extraction", *sys.argv[1:], "--job", job, "--folder", str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    result = folder / f"{job}.json"
    if result.is_file():
        found: dict[str, Any] = json.loads(result.read_text())
        return found
    if job == REFERENCE:
        raise SystemExit(done.stderr)
    name, dtype = job.split("-")
    reason = next(reversed(done.stderr.strip().splitlines()), "") or f"ended with {done.returncode}"
    print(f"{job} failed: {done.stderr[-2000:]}", file=sys.stderr)
    return {"way": WAYS[name].name, "dtype": dtype, "note": f"failed: {reason[:160]}"}


def _run_job(options: argparse.Namespace) -> None:
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    folder, (name, dtype) = Path(options.folder), options.job.split("-")
    if name in ("onnxruntime", "openvino") and not (folder / "backbone" / "model.onnx").is_file():
        # in a process of its own too: what the export needs is no part of the way's memory
        code = "import sys; from pathlib import Path; from benchmarks.extraction_peers import export_to_onnx as e; "
        code += "e(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))"
        arguments = [str(folder / "backbone"), str(options.batch_size), str(options.image_size)]
        subprocess.run([sys.executable, "-c", code, *arguments], check=True, stdout=sys.stderr)
    if options.job == REFERENCE:  # it is compared with itself, once it is there
        way = WAYS[name](folder / "backbone", dtype, options.image_size, options.batch_size, options.workers)
        images = [way.prepared(path) for path in sorted((folder / "images").iterdir())]
        size = way.batch_size
        rows = [way.embedded(torch.stack(images[i : i + size])) for i in range(0, len(images), size)]
        np.save(folder / f"{REFERENCE}.npy", np.concatenate(rows))
    (folder / f"{options.job}.json").write_text(json.dumps(measure_way(options, folder, name, dtype)))


def table(result: dict[str, Any]) -> str:
    """Return the Markdown table of a JSON, and the line below it."""
    n = result["images"]
    head = "| way | computes in | forward, images/s | files, images/s | processor seconds an image, forward | files |"
    lines = [
        f"{head} times the first, forward | cosine error | relative difference | peak memory |",
        "| --- | --- |" + " ---: |" * 8,
    ]
    first = np.median(result["rows"][0]["forward_cpu_seconds"])
    for row in result["rows"]:
        if "note" in row:
            lines.append(f"| {row['way']} | {row['dtype']} | {row['note']} |" + " |" * 7)
            continue
        cells = [row["way"], row["dtype"], *(_rates(row.get(f"{kind}_seconds"), n) for kind in _MEASURED)]
        cpu = {kind: row.get(f"{kind}_cpu_seconds") for kind in _MEASURED}
        cells += [f"{np.median(values) / n:.2f}" if values else "" for values in cpu.values()]
        cells.append(f"{first / np.median(cpu['forward']):.2f}" if cpu["forward"] else "")
        cells += [
            f"{row['cosine_error']:.1e}",
            f"{row['relative_difference']:.1e}",
            f"{row['peak_memory_gib']:.1f} GiB",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    loads = [row["load_average"] for row in result["rows"] if "load_average" in row]
    libraries = ", ".join(f"{name} {found}" for name, found in result["libraries"].items() if found)
    note = (
        f"{result['hardware']}, {result['cores']} cores, load average {min(loads):.1f} to {max(loads):.1f}. "
        f"dinov2-{result['architecture']} at {result['image_size']} px, {result['images']} images of 6 megapixels, "
        f"batches of {result['batch_size']}. Rates: median (slowest to fastest). Smallest cosine distance between two "
        f"images: {result['smallest_distance_between_images']:.1e}. {libraries}."
    )
    return "\n".join([*lines, "", note, *(f"Skipped: {line}." for line in result["skipped"])])


def _rates(seconds: list[float] | None, n: int) -> str:
    if not seconds:
        return ""
    rate = n / float(np.median(seconds))
    digits = 1 if rate >= 10 else 2 if rate >= 1 else 3
    middle, low, high = (f"{n / taken:.{digits}f}" for taken in (float(np.median(seconds)), max(seconds), min(seconds)))
    return f"{middle} ({low} to {high})"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def parsed_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Time extraction by Mirip and by its peers, side by side.")
    parser.add_argument("--images", type=int, default=16, help="images of 6 megapixels (default 16)")
    parser.add_argument("--runs", type=int, default=3, help="timed runs of each way (default 3)")
    parser.add_argument(
        "--image-size", type=int, default=224, help="side of the square, a multiple of 14 (default 224)"
    )
    parser.add_argument("--architecture", choices=list(ARCHITECTURES), default="large", help="(default large)")
    parser.add_argument("--batch-size", type=int, default=4, help="images in a pass (default 4)")
    parser.add_argument("--workers", type=int, default=2, help="Mirip's threads that decode (default 2)")
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS), help="(default: all)")
    parser.add_argument("--json", type=Path, help="write the measurement here")
    parser.add_argument("--show", type=Path, help="print the table of this JSON, and measure nothing")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.image_size % PATCH_PX or options.images < 2 or options.runs < 1:
        parser.error(f"give an image size that is a multiple of {PATCH_PX}, 2 or more images and 1 or more runs")
    if options.images % options.batch_size:
        parser.error("give as many images as fill whole batches: ONNX has one shape")
    return options


def main() -> None:
    """Measure in a temporary folder, write the JSON and print the table."""
    options = parsed_options()
    if options.job:
        _run_job(options)
        return
    if options.show:
        print(table(json.loads(options.show.read_text())))
        return
    with tempfile.TemporaryDirectory() as folder:
        result = measure(options, Path(folder))
    if options.json:
        write_json(options.json, result)
    print(table(result))


if __name__ == "__main__":
    main()
