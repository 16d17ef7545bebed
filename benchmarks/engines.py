"""The engines of extraction side by side: the local one, and Ray with one and two actors on this machine.

Run     python -m benchmarks.engines [--markdown]         (a quarter of an hour on two cores)
Try     python -m benchmarks.engines --architecture tiny --image-size 28 --images 24 --few 8 --runs 1
Prints  JSON with the hardware's name

The backbone has the architecture of dinov2-small and seeded random weights; the images are made-up photos of 6
megapixels, JPEG. Each call of `extract_features` begins with an empty store and no features file, in a process of its
own, which has imported what the local engine needs. Timed is the whole call, once with few images and once with all.
The difference gives the rate, and what is left of the time for few images is the start: loading the backbone, and with
Ray starting Ray, its processes and their imports, and ending them. Each way runs --runs times in turn; the table gives
medians. All ways have to give the same bytes. The load before the first call says how quiet the machine was.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.extraction import make_images
from mirip.features.backbones.backbone import hardware
from mirip.files import sha256_file
from mirip.params import Recipe
from mirip.wording import counted

ARCHITECTURES = {
    "small": {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "image_size": 518},
    "tiny": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28},
}


def main() -> None:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", choices=ARCHITECTURES, default="small")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--images", type=int, default=320)
    parser.add_argument("--few", type=int, default=32)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--actors", type=int, nargs="+", default=[1, 2], help="of Ray, a way each")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--once", help=argparse.SUPPRESS)  # one call, in this process: its settings as JSON
    options = parser.parse_args()
    if options.once:
        print(json.dumps(once(**json.loads(options.once))))
        return
    os.environ.pop("RAY_ADDRESS", None)
    with tempfile.TemporaryDirectory() as name:
        found = measure(Path(name), options)
    print(markdown(found) if options.markdown else json.dumps(found, indent=2))


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Time every way, and check that all give the same bytes."""
    make_backbone(folder / "backbone", options.architecture)
    paths = make_images(folder / "images", options.images)
    items = [(sha256_file(path), path.name) for path in paths]
    settings: dict[str, dict[str, Any]] = {"local": {"engine": "local"}}
    settings |= {f"Ray, {counted(n, 'actor')}": {"engine": "ray", "actors": n} for n in options.actors}
    seconds: dict[str, dict[int, list[float]]] = {way: {options.few: [], options.images: []} for way in settings}
    load_before = os.getloadavg()[0]
    digests: set[tuple[int, str]] = set()
    for run in range(options.runs):
        for way in list(settings)[:: -1 if run % 2 else 1]:
            for n in (options.few, options.images):
                given = {"folder": str(folder), "items": items[:n], "image_size": options.image_size, **settings[way]}
                ended = call(given)
                seconds[way][n].append(ended["seconds"])
                digests.add((n, ended["digest"]))
    if len(digests) > 2:
        raise RuntimeError("the engines gave different bytes")
    ways = {way: summary(seconds[way], options.few, options.images) for way in settings}
    for way in ways:
        more_s = 1 / ways[way]["images_per_second"] - 1 / ways["local"]["images_per_second"]
        ways[way]["more_ms_an_image"] = round(1000 * more_s, 1)
    return {
        "hardware": f"{hardware(torch.device('cpu'))}, {os.cpu_count()} cores",
        "backbone": f"dinov2-{options.architecture} at {options.image_size} px",
        "load_before": round(load_before, 1),
        "images": options.images,
        "libraries": {name: version(name) for name in ("ray", "torch", "pyarrow")},
        "same_bytes": True,
        "ways": ways,
    }


def summary(seconds: dict[int, list[float]], few: int, many: int) -> dict[str, Any]:
    """Return the rate and the start of a way, from what few images took and what many took."""
    short, long = median(seconds[few]), median(seconds[many])
    rate = (many - few) / max(long - short, 1e-9)
    return {
        "images_per_second": round(rate, 2),
        "start_seconds": round(short - few / rate, 1),
        "whole_call_seconds": [round(one, 1) for one in seconds[many]],
    }


def call(given: dict[str, Any]) -> dict[str, Any]:
    """Extract once in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.engines", "--once", json.dumps(given)]
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    answer: dict[str, Any] = json.loads(said.splitlines()[-1])
    return answer


def once(folder: str, items: list[list[str]], image_size: int, **engine: Any) -> dict[str, Any]:
    """Extract into an empty folder; return how long that took and the digest of the features."""
    from mirip.features.extract import local  # noqa: F401 - imports are not what is timed
    from mirip.features.extract.extraction import extract_features

    with tempfile.TemporaryDirectory() as scratch:
        start = time.perf_counter()
        ended = extract_features(
            [(sha256, name) for sha256, name in items],
            image_root=Path(folder) / "images",
            recipe=Recipe(backbone=str(Path(folder) / "backbone"), image_size=image_size),
            path=Path(scratch) / "features.h5",
            store_root=Path(scratch) / "store",
            device="cpu",
            visible=False,
            remember=False,
            **engine,
        )
        return {"seconds": time.perf_counter() - start, "digest": ended.content_digest}


def make_backbone(folder: Path, architecture: str) -> None:
    """Save a Dinov2 with seeded weights."""
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    Dinov2Model(Dinov2Config(**ARCHITECTURES[architecture], patch_size=14)).save_pretrained(folder)


def markdown(found: dict[str, Any]) -> str:
    """Return the table of docs/benchmarks.md."""
    lines = [
        "| engine | images/s | more than local, ms an image | start, s | whole call, s |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for way, values in found["ways"].items():
        whole = ", ".join(map(str, values["whole_call_seconds"]))
        cells = [way, values["images_per_second"], values["more_ms_an_image"], values["start_seconds"], whole]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    libraries = ", ".join(f"{name} {number}" for name, number in found["libraries"].items())
    task = f"{found['backbone']}, {found['images']} images of 6 megapixels, bfloat16"
    note = f"{found['hardware']}. {task}. {libraries}. Load before: {found['load_before']}."
    return "\n".join([*lines, "", note])


if __name__ == "__main__":
    main()
