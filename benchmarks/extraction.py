"""Extraction side by side: images on disk to embeddings in an HDF5 file, four ways on one machine.

Run     python -m benchmarks.extraction --markdown        (a quarter of an hour on two cores)
Try     python -m benchmarks.extraction --architecture tiny --image-size 28 --images 4 --runs 1

- plain loop: AutoModel in float32; Pillow opens, converts and resizes (bicubic), the values are normalised; one image
  at a time, each row written as it comes.
- batches of 32: the same with 32 images a pass.
- transformers pipeline: `pipeline("image-feature-extraction")` in batches of 32, its image processor set to the same
  size, resampling and normalisation.
- Mirip: `extract_features` with an empty store and no features file.

The backbone has the architecture of dinov2-large and seeded random weights: how long a pass takes does not depend on
the weights' values. The images are made-up photos of 6 megapixels, JPEG. All ways squash them to the same square, use
the same device and as many threads as torch takes by itself, and write float16.

First comes a pass of each way that is not timed: it warms up, brings the files into the page cache, and gives the
embeddings that are compared; a cosine error is the largest over all images, against the plain loop. Then each way
runs --runs times over all images, in an order that is reversed every other run.

Timed is everything from reading the first file to the closed HDF5 file. Loading the backbone is not: the first three
ways find it loaded. Mirip loads it inside its call, so it is loaded once more just before, alone and timed, and that
time is taken off the call's. The row "Mirip, whole call" takes nothing off.
"""

import argparse
import hashlib
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from mirip.features.backbones.backbone import DINOv2FeatureExtractor, hardware, resolve_device
from mirip.features.cache.feature_cache import FeatureCache
from mirip.features.extract.extraction import extract_features
from mirip.models.latency import made_photo
from mirip.params import Recipe
from mirip.progress import Progress

ARCHITECTURES = {
    "large": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "image_size": 518},
    "tiny": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28},
}
PATCH_PX = 14
BATCH = 32
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MIRIP, WHOLE_CALL = "Mirip", "Mirip, whole call"
LIBRARIES = ("torch", "transformers", "pillow", "simplejpeg", "numpy", "h5py")

Way = Callable[[Path], None]  # writes the embeddings of all images to this file


class Result(NamedTuple):
    """One row of the table: seconds of each run, and the largest cosine error of the embeddings."""

    name: str
    seconds: list[float]
    cosine_error: float


def make_backbone(folder: Path, architecture: str, size_px: int) -> Path:
    """Save a Dinov2 with seeded weights and its image processor, in Hugging Face format."""
    from transformers import Dinov2Config, Dinov2Model, ViTImageProcessor

    torch.manual_seed(0)
    Dinov2Model(Dinov2Config(**ARCHITECTURES[architecture], patch_size=PATCH_PX)).save_pretrained(folder)
    ViTImageProcessor(
        size={"height": size_px, "width": size_px}, resample=Image.Resampling.BICUBIC, image_mean=MEAN, image_std=STD
    ).save_pretrained(folder)
    return folder


def make_images(folder: Path, n: int) -> list[Path]:
    """Write `n` JPEG files of 6 megapixels."""
    folder.mkdir()
    paths = [folder / f"{index:04d}.jpg" for index in range(n)]
    with Progress("images", n, "image") as progress:
        for seed, path in enumerate(paths):
            path.write_bytes(made_photo(seed))
            progress.update(1)
    return paths


def plain_way(model: Any, paths: list[Path], size_px: int, batch_size: int) -> Way:
    """Return the loop that one writes first, over batches of `batch_size`."""
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    device = next(model.parameters()).device

    def prepared(path: Path) -> torch.Tensor:
        image = Image.open(path).convert("RGB").resize((size_px, size_px), Image.Resampling.BICUBIC)
        return (torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255 - mean) / std  # (3, S, S)

    def run(out: Path) -> None:
        with h5py.File(out, "w") as file, torch.inference_mode():
            rows = file.create_dataset("features", (len(paths), model.config.hidden_size), "float16")
            for start in range(0, len(paths), batch_size):
                images = torch.stack([prepared(path) for path in paths[start : start + batch_size]])
                pooled = model(pixel_values=images.to(device)).pooler_output
                rows[start : start + len(pooled)] = pooled.cpu().numpy()

    return run


def pipeline_way(model: Any, folder: Path, paths: list[Path]) -> Way:
    """Return the pipeline of transformers."""
    from transformers import AutoImageProcessor, pipeline

    processor = AutoImageProcessor.from_pretrained(folder)
    extract: Any = pipeline(
        "image-feature-extraction", model=model, image_processor=processor, device=next(model.parameters()).device
    )

    def run(out: Path) -> None:
        pooled = extract([str(path) for path in paths], batch_size=BATCH, pool=True, return_tensors=True)
        with h5py.File(out, "w") as file:
            file["features"] = torch.cat(pooled).to(torch.float16).numpy()

    return run


def mirip_way(recipe: Recipe, paths: list[Path], batch_size: int, workers: int, device: str) -> Way:
    """Return Mirip's extraction, which knows nothing of earlier runs."""
    items = [(hashlib.sha256(path.read_bytes()).hexdigest(), path.name) for path in paths]

    def run(out: Path) -> None:
        with tempfile.TemporaryDirectory(dir=out.parent) as store:
            extract_features(
                items,
                image_root=paths[0].parent,
                recipe=recipe,
                path=out,
                store_root=Path(store),
                batch_size=batch_size,
                workers=workers,
                device=device,
                visible=False,
            )

    return run


def embeddings_of(path: Path, images: list[Path]) -> NDArray[np.float64]:
    """Read what a way wrote, (N, D), in the order of the images and scaled to length 1."""
    with h5py.File(path) as file:
        by_content = "image_sha256" in file
        rows = file["features"][:]
    if by_content:
        rows = FeatureCache.open(path).rows([hashlib.sha256(image.read_bytes()).hexdigest() for image in images])
    rows = rows.astype(np.float64)
    unit: NDArray[np.float64] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def timed(call: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measure(options: argparse.Namespace, folder: Path) -> tuple[list[Result], float]:
    """Run all ways; return their rows, and the smallest cosine distance between two images."""
    from transformers import AutoModel

    device = resolve_device(options.device)
    backbone = make_backbone(folder / "backbone", options.architecture, options.image_size)
    paths = make_images(folder / "images", options.images)
    recipe = Recipe(
        backbone=str(backbone), image_size=options.image_size, fit="squash", compute_dtype=options.compute_dtype
    )
    model = AutoModel.from_pretrained(backbone, dtype=torch.float32).eval().to(device)
    ways: dict[str, Way] = {
        "plain loop": plain_way(model, paths, options.image_size, 1),
        f"batches of {BATCH}": plain_way(model, paths, options.image_size, BATCH),
        "transformers pipeline": pipeline_way(model, backbone, paths),
        MIRIP: mirip_way(recipe, paths, options.batch_size, options.workers, options.device),
    }
    seconds: dict[str, list[float]] = {name: [] for name in [*ways, WHOLE_CALL]}
    embeddings = {}
    out = folder / "features.h5"
    with Progress("benchmark", len(ways) * (1 + options.runs) * len(paths), "image") as progress:
        for run in range(-1, options.runs):
            for name in list(ways)[:: -1 if run % 2 else 1]:
                out.unlink(missing_ok=True)
                loading_s = (
                    timed(DINOv2FeatureExtractor.from_recipe(recipe, options.device).load) if name == MIRIP else 0.0
                )
                whole_s = timed(partial(ways[name], out))
                if run < 0:  # the pass that is not timed
                    embeddings[name] = embeddings_of(out, paths)
                else:
                    seconds[name].append(whole_s - loading_s)
                    seconds[WHOLE_CALL] += [whole_s] if name == MIRIP else []
                progress.update(len(paths), name)
    embeddings[WHOLE_CALL] = embeddings[MIRIP]
    plain = embeddings["plain loop"]
    errors = {name: float((1 - (plain * rows).sum(axis=1)).max()) for name, rows in embeddings.items()}
    between = (1 - plain @ plain.T)[~np.eye(len(plain), dtype=bool)].min()
    return [Result(name, taken, errors[name]) for name, taken in seconds.items()], float(between)


def table(results: list[Result], n_images: int, *, markdown: bool) -> str:
    """Return the table as text for people or in Markdown."""
    runs = len(results[0].seconds)
    head = ["way", *(f"run {index + 1}" for index in range(runs)), "median images/s", "times plain", "cosine error"]
    plain = float(np.median(results[0].seconds))
    body = [
        [
            result.name,
            *(f"{n_images / taken:.2f}" for taken in result.seconds),
            f"{n_images / float(np.median(result.seconds)):.2f}",
            f"{plain / float(np.median(result.seconds)):.2f}",
            f"{result.cosine_error:.1e}" if result.cosine_error > 1e-12 else "0",
        ]
        for result in results
    ]
    if markdown:
        lines = [head, ["---"] + ["---:"] * (len(head) - 1), *body]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)
    widths = [max(len(line[column]) for line in [head, *body]) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.rjust(width) if column else cell.ljust(width) for column, (cell, width) in enumerate(pairs))
        for pairs in (list(zip(line, widths, strict=True)) for line in [head, *body])
    )


def parsed_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Time extraction four ways, side by side.")
    parser.add_argument("--images", type=int, default=64, help="images of 6 megapixels, 2 or more (default 64)")
    parser.add_argument("--runs", type=int, default=3, help="timed runs of each way (default 3)")
    parser.add_argument(
        "--image-size", type=int, default=224, help="side of the square, a multiple of 14 (default 224)"
    )
    parser.add_argument("--architecture", choices=list(ARCHITECTURES), default="large", help="(default large)")
    parser.add_argument(
        "--compute-dtype", choices=["float32", "bfloat16"], default="bfloat16", help="of Mirip's recipe"
    )
    parser.add_argument("--batch-size", type=int, default=4, help="Mirip's images in a pass (default 4)")
    parser.add_argument("--workers", type=int, default=2, help="Mirip's threads that decode (default 2)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda, for all ways")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    options = parser.parse_args()
    if options.image_size % PATCH_PX or options.images < 2 or options.runs < 1:
        parser.error(f"give an image size that is a multiple of {PATCH_PX}, 2 or more images and 1 or more runs")
    return options


def main() -> None:
    """Measure in a temporary folder and print the table."""
    from transformers.utils import logging

    options = parsed_options()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DVC_ROOT"] = folder  # what extraction notes in .mirip/ stays out of this repository
        results, between = measure(options, Path(folder))
    print(table(results, options.images, markdown=options.markdown))
    print(
        f"\n{hardware(resolve_device(options.device))}, {os.cpu_count()} cores. dinov2-{options.architecture} at "
        f"{options.image_size} px, {options.images} images of 6 megapixels. Mirip: {options.compute_dtype}, batches "
        f"of {options.batch_size}, {options.workers} workers. Smallest cosine distance between two images: "
        f"{between:.1e}. {', '.join(f'{name} {version(name)}' for name in LIBRARIES)}."
    )


if __name__ == "__main__":
    main()
