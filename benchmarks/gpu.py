"""What a GPU makes of dinov2-large at 756 x 756 in bfloat16: ceilings, rates, latency, memory, errors, stable bits.

Run     python -m benchmarks.gpu --json docs/benchmarks/gpu.json             (under 8 minutes on an H200)
Show    python -m benchmarks.gpu --show docs/benchmarks/gpu.json             (the Markdown tables of a JSON)
Try     python -m benchmarks.gpu --small                                     (a tiny backbone, on a CPU too)

It needs torch, transformers, h5py, numpy, pillow, pandas, pyarrow and scikit-learn, and of Mirip's other dependencies
pydantic, PyYAML, simplejpeg and xxhash. Where the machine reaches no package registry, carry those along as wheels:

    pip download --only-binary :all: -d wheels pydantic pyyaml simplejpeg xxhash                       (before)
    pip install --no-index --find-links wheels --target carried pydantic pyyaml simplejpeg xxhash      (there)
    PYTHONPATH=carried python -m benchmarks.gpu --json docs/benchmarks/gpu.json

The weights are random: time does not depend on them. Pixels are random too. Each path's embeddings are compared with
those of transformers in float32 before it is timed; where the cosine distance is above 0.01 it is not. Each timing is
warmed up and synchronised, and comes as median, fastest and slowest. The JSON is written after each part, and a part
that would begin after --limit-seconds is left out with a note.
"""

import argparse
import concurrent.futures
import hashlib
import json
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.true_backbone import ARCHITECTURES, flop_of_image, make_backbone
from mirip.features.backbones.backbone import DINOv2FeatureExtractor, hardware, resolve_device
from mirip.features.extract.extraction import extract_features
from mirip.files import write_json
from mirip.models.latency import made_photo, pair_latencies, time_calls, training_seconds
from mirip.models.ranking import PairwiseRankingModel
from mirip.params import Recipe, TrainParams

MAX_DISTANCE = 0.01
DISTINCT_PHOTOS = 32  # decoding takes as long whether or not its pixels were seen before

Embed = Callable[[torch.Tensor], torch.Tensor]  # uint8 pixels (B, 3, S, S) -> (B, D) float32


class Sizes(NamedTuple):
    """How much is measured."""

    architecture: str
    size_px: int
    matmul: int
    copy_bytes: int
    batches: tuple[int, ...]
    runs: int
    pair_runs: int
    memory_batch: int
    photos: int
    photo_px: tuple[int, int]
    extraction_batch: int
    train_rows: int
    train_epochs: int


WHOLE = Sizes("large", 756, 8192, 2**30, (1, 2, 8, 32, 64), 5, 200, 32, 2000, (4000, 3000), 32, 10_000, 100)
SMALL = Sizes("tiny", 28, 256, 2**20, (1, 2), 2, 3, 2, 4, (60, 40), 2, 200, 2)


class Bench:
    """The backbone on the device, and what all parts share."""

    def __init__(self, folder: Path, sizes: Sizes, device: torch.device, *, compiled: bool) -> None:
        self.folder, self.sizes, self.device, self.compiled = folder, sizes, device, compiled
        self.backbone = make_backbone(folder / "backbone", sizes.architecture, sizes.size_px)
        # 768 is what a recipe asks for; 756 is what it comes to
        self.recipe = Recipe(backbone=str(self.backbone), image_size=sizes.size_px + 12 * (sizes.size_px == 756))
        self.extractor = DINOv2FeatureExtractor.from_recipe(self.recipe, str(device))
        self.extractor.load()
        self.width = ARCHITECTURES[sizes.architecture]["hidden_size"]

    def pixels(self, n: int, seed: int = 0) -> torch.Tensor:
        """Draw n images of noise on the device, uint8 (n, 3, S, S)."""
        generator = torch.Generator().manual_seed(seed)
        shape = (n, 3, self.sizes.size_px, self.sizes.size_px)
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator).to(self.device)

    def stock(self, dtype: torch.dtype) -> Embed:
        """Return the model of transformers with SDPA."""
        from transformers import AutoModel

        found = AutoModel.from_pretrained(self.backbone, dtype=dtype, attn_implementation="sdpa")
        model: Any = found.eval().to(self.device)
        transform = self.extractor.transform
        mean, std = (torch.tensor(part, device=self.device)[:, None, None] for part in (transform.mean, transform.std))

        def embed(pixels: torch.Tensor) -> torch.Tensor:
            with torch.inference_mode():
                values = (pixels.float() / 255 - mean) / std
                pooled: torch.Tensor = model(pixel_values=values.to(dtype)).pooler_output
            return pooled.float()

        return embed

    def compiled_path(self) -> Embed:
        """Return our path with its blocks compiled; all blocks share one compiled function."""
        extractor = DINOv2FeatureExtractor.from_recipe(self.recipe, str(self.device))
        for block in extractor.load().blocks:  # type: ignore[union-attr]
            block.compile(dynamic=False)
        torch._dynamo.config.cache_size_limit = 64  # as many shapes as batches, times blocks
        return extractor

    def reference(self, n: int) -> torch.Tensor:
        """Return what transformers in float32 makes of `pixels(n)`, (n, D), on the CPU."""
        path = self.folder / f"reference_{n}.pt"
        if not path.is_file():
            torch.save(self.stock(torch.float32)(self.pixels(n)).cpu(), path)
        loaded: torch.Tensor = torch.load(path)
        return loaded


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Return median, fastest and slowest."""
    return {"median": float(np.median(seconds)), "fastest": min(seconds), "slowest": max(seconds)}


def seconds_of(call: Callable[[], object], runs: int, device: torch.device) -> list[float]:
    """Time a call, warmed up and synchronised."""
    return [float(value) / 1000 for value in time_calls(call, runs, device)]


def differences(rows: torch.Tensor, expected: torch.Tensor) -> dict[str, float]:
    """Return the largest cosine distance, and the largest difference relative to a row's largest number."""
    ours, theirs = rows.double().cpu(), expected.double().cpu()
    distance = 1 - torch.cosine_similarity(ours, theirs)
    relative = (ours - theirs).abs().amax(dim=1) / theirs.abs().amax(dim=1)
    return {"cosine_error": max(float(distance.max()), 0.0), "relative_difference": float(relative.max())}


def ceilings(bench: Bench) -> dict[str, Any]:
    """1. A large bfloat16 product in TFLOP/s, and a copy within the device in TB/s, read and write counted."""
    n, device = bench.sizes.matmul, bench.device
    a, b = (torch.randn(n, n, device=device).to(torch.bfloat16) for _ in range(2))
    product = spread([2 * n**3 / taken / 1e12 for taken in seconds_of(lambda: a @ b, 4 * bench.sizes.runs, device)])
    source = torch.empty(bench.sizes.copy_bytes, dtype=torch.uint8, device=device).fill_(1)
    target = torch.empty_like(source)
    copies = seconds_of(lambda: target.copy_(source), 4 * bench.sizes.runs, device)
    copy = spread([2 * bench.sizes.copy_bytes / taken / 1e12 for taken in copies])
    # of rates the fastest is the largest
    return {
        "matmul_tflop_per_s": product | {"fastest": product["slowest"], "slowest": product["fastest"]},
        "copy_tb_per_s": copy | {"fastest": copy["slowest"], "slowest": copy["fastest"]},
    }


def rates(bench: Bench, matmul_tflop_per_s: float, deadline: float) -> list[dict[str, Any]]:
    """2. Images per second and share of the matmul ceiling, of each way at each batch size until the deadline."""
    flop = flop_of_image(bench.sizes.architecture, bench.sizes.size_px)
    ways: dict[str, Callable[[], Embed]] = {
        "transformers, float32": lambda: bench.stock(torch.float32),
        "transformers, bfloat16, SDPA": lambda: bench.stock(torch.bfloat16),
        "Mirip, bfloat16": lambda: bench.extractor,
    }
    if bench.compiled:
        ways["Mirip, bfloat16, compiled"] = bench.compiled_path
    expected = bench.reference(2)
    rows: list[dict[str, Any]] = []
    for name, make in ways.items():
        try:
            embed = make()
            found = differences(embed(bench.pixels(2)), expected)
        except Exception as error:  # of a compiler that is missing, say: the others are measured
            rows.append({"way": name, "note": f"failed: {' '.join(str(error).split())[:160]}"})
            continue
        if found["cosine_error"] > MAX_DISTANCE:
            rows.append({"way": name, **found, "note": "computes another function: not timed"})
            continue
        for batch in bench.sizes.batches:
            if time.monotonic() > deadline:  # compiling takes a while for each shape
                rows.append({"way": name, "note": f"left out for time from batch {batch} on"})
                break
            pixels = bench.pixels(batch)
            taken = spread(seconds_of(lambda: embed(pixels), bench.sizes.runs, bench.device))  # noqa: B023 - run at once
            per_s = batch / taken["median"]
            share = per_s * flop / 1e12 / matmul_tflop_per_s
            rows.append(
                {
                    "way": name,
                    **found,
                    "batch": batch,
                    "seconds": taken,
                    "images_per_s": per_s,
                    "share_of_matmul": share,
                }
            )
    return rows


def latency(bench: Bench) -> dict[str, Any]:
    """3. Two decoded images of 6 megapixels to two scores, in milliseconds."""
    model = PairwiseRankingModel(bench.extractor, feature_dim=bench.width).to(bench.device).eval()
    runs = bench.sizes.pair_runs
    found = pair_latencies(model, runs)["pixels"]
    return {"runs": runs} | {f"p{q}_ms": float(np.percentile(found, q)) for q in (50, 95, 99)}


def memory(bench: Bench) -> dict[str, Any]:
    """4. The peak of device memory in a batch, weights included; None on a CPU."""
    batch = bench.sizes.memory_batch
    pixels = bench.pixels(batch)
    if bench.device.type != "cuda":
        bench.extractor(pixels)
        return {"batch": batch, "peak_gib": None}
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    bench.extractor(pixels)
    return {"batch": batch, "peak_gib": torch.cuda.max_memory_allocated() / 2**30}


def extraction(bench: Bench) -> dict[str, Any]:
    """5. JPEGs on disk to HDF5, beside the bare forward pass, and how busy the device is."""
    sizes, cores = bench.sizes, os.cpu_count() or 1
    items = write_photos(bench.folder / "images", sizes.photos, sizes.photo_px)
    pixels = bench.pixels(sizes.extraction_batch)
    forward = spread(seconds_of(lambda: bench.extractor(pixels), sizes.runs, bench.device))["median"]
    bare = sizes.extraction_batch / forward

    def run(number: int) -> float:
        start = time.perf_counter()
        extract_features(
            items,
            image_root=bench.folder / "images",
            recipe=bench.recipe,
            path=bench.folder / f"features_{number}.h5",
            store_root=bench.folder / f"store_{number}",
            batch_size=sizes.extraction_batch,
            workers=cores,
            device=str(bench.device),
            visible=False,
            remember=False,
        )
        return time.perf_counter() - start

    with DeviceLoad(bench.device) as load:
        taken = run(0)
    per_s = sizes.photos / taken
    return {
        "photos": sizes.photos,
        "photo_px": list(sizes.photo_px),
        "batch": sizes.extraction_batch,
        "workers": cores,
        "seconds": taken,
        "images_per_s": per_s,
        "images_per_s_of_bare_forward": bare,
        "share_of_bare_forward": per_s / bare,
        "device_busy_share": load.share,
    }


def stable_bits(bench: Bench) -> list[dict[str, Any]]:
    """6. One image in batches of one shape: with other company, and in other places; also as float16."""
    batch = max(bench.sizes.batches[-1] // 2, 2)
    first = bench.pixels(batch)
    expected = bench.extractor(first)[0]
    others = bench.pixels(batch, seed=1)
    others[0] = first[0]
    alone = torch.zeros_like(first)
    alone[0] = first[0]
    found = {
        "the same batch again": bench.extractor(first)[0],
        "with other company": bench.extractor(others)[0],
        "alone, the batch padded with black": bench.extractor(alone)[0],
    }
    for place in sorted({1, batch // 2, batch - 1}):
        found[f"in place {place} of {batch}"] = bench.extractor(first.roll(place, dims=0))[place]
    return [
        {
            "case": case,
            "equal": torch.equal(row, expected),
            "equal_as_float16": torch.equal(row.half(), expected.half()),
            "largest_difference": float((row - expected).abs().max()),
            "largest_difference_as_float16": float((row.half().float() - expected.half().float()).abs().max()),
            "cosine_distance": max(float(1 - torch.cosine_similarity(row.double(), expected.double(), dim=0)), 0.0),
        }
        for case, row in found.items()
    ]


def errors(bench: Bench) -> dict[str, Any]:
    """7. Our bfloat16 and float32 paths against transformers in float32."""
    n = max(bench.sizes.batches[-1] // 8, 2)
    expected = bench.reference(n)
    exact = DINOv2FeatureExtractor.from_recipe(
        bench.recipe.model_copy(update={"compute_dtype": "float32"}), str(bench.device)
    )
    rows = {"bfloat16": bench.extractor(bench.pixels(n)), "float32": exact(bench.pixels(n))}
    unit = torch.nn.functional.normalize(expected.double(), dim=1)
    between = 1 - unit @ unit.T + 2 * torch.eye(n)
    return {
        "images": n,
        **{name: differences(found, expected) for name, found in rows.items()},
        "smallest_distance_between_images": float(between.min()),
    }


def training(bench: Bench) -> dict[str, Any]:
    """8. The head on cached rows, early stopping off."""
    sizes = bench.sizes
    config = TrainParams(images_per_step=1024, device=bench.device.type)
    seconds = training_seconds(config, sizes.train_rows, 1024, sizes.train_epochs)
    return {"rows": sizes.train_rows, "dim": 1024, "epochs": sizes.train_epochs, "seconds": seconds}


class DeviceLoad:
    """Sample how busy a GPU is, by nvidia-smi; `share` is None where that cannot be asked."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._values, self._over = device, [], threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    _values: list[float]

    @property
    def share(self) -> float | None:
        """The mean of all samples, of 1."""
        return float(np.mean(self._values)) / 100 if self._values else None

    def _sample(self) -> None:
        command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
        while self._device.type == "cuda" and not self._over.wait(0.25):
            with suppress(OSError, ValueError, IndexError, subprocess.SubprocessError):
                answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=5)
                self._values.append(float(answer.stdout.split()[0]))

    def __enter__(self) -> "DeviceLoad":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def write_photos(folder: Path, n: int, size_px: tuple[int, int]) -> list[tuple[str, str]]:
    """Write n JPEG files of different bytes; return sha256 and name of each."""
    folder.mkdir()
    distinct = min(n, DISTINCT_PHOTOS)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        photos = list(pool.map(lambda seed: made_photo(seed, *size_px), range(distinct)))
    items = []
    for number in range(n):
        note = f"{number:08d}".encode()
        photo = photos[number % distinct]
        # a comment right behind the start of the image: other bytes, the same pixels
        data = photo[:2] + b"\xff\xfe" + (2 + len(note)).to_bytes(2, "big") + note + photo[2:]
        name = f"{number:06d}.jpg"
        (folder / name).write_bytes(data)
        items.append((hashlib.sha256(data).hexdigest(), name))
    return items


def measure(bench: Bench, json_path: Path | None, limit_s: float) -> dict[str, Any]:
    """Run all parts in order; return what the JSON holds."""
    start = time.monotonic()
    sizes = bench.sizes
    result: dict[str, Any] = {
        "benchmark": "gpu",
        "hardware": hardware(bench.device),
        "device": bench.device.type,
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "torch": torch.__version__,
        "transformers": version("transformers"),
        "cudnn": torch.backends.cudnn.version() if bench.device.type == "cuda" else None,
        "note": "" if bench.device.type == "cuda" else "Measured on a CPU: it says nothing of a GPU",
        "architecture": f"dinov2-{sizes.architecture}, random weights",
        "size_px": sizes.size_px,
        "gflop_an_image": flop_of_image(sizes.architecture, sizes.size_px) / 1e9,
        "left_out": [],
    }
    parts: dict[str, Callable[[], Any]] = {
        "errors": lambda: errors(bench),  # correctness before timing
        "stable_bits": lambda: stable_bits(bench),
        "ceilings": lambda: ceilings(bench),
        "rates": lambda: rates(bench, result["ceilings"]["matmul_tflop_per_s"]["median"], start + limit_s * 0.6),
        "latency": lambda: latency(bench),
        "memory": lambda: memory(bench),
        "extraction": lambda: extraction(bench),
        "training": lambda: training(bench),
    }
    for name, part in parts.items():
        begun = time.monotonic()
        if begun - start > limit_s:
            result["left_out"].append(name)
            continue
        result[name] = part()
        if bench.device.type == "cuda":
            torch.cuda.empty_cache()
        result.setdefault("part_seconds", {})[name] = time.monotonic() - begun
        print(f"{name}: {result['part_seconds'][name]:.1f} s", flush=True)
        if json_path:
            write_json(json_path, result)
    return result


def tables(result: dict[str, Any]) -> str:
    """Return the Markdown of a JSON."""
    lines = ["| measured | value |", "| --- | ---: |"]

    def add(name: str, value: str) -> None:
        lines.append(f"| {name} | {value} |")

    def present(part: str) -> Any:
        return result.get(part)

    if found := present("ceilings"):
        add("bfloat16 product", _spread(found["matmul_tflop_per_s"], "TFLOP/s"))
        add("copy within the device, read and write", _spread(found["copy_tb_per_s"], "TB/s"))
    if found := present("latency"):
        add(
            f"pair, pixels to scores, {found['runs']} runs",
            f"p50 {found['p50_ms']:.1f}, p95 {found['p95_ms']:.1f}, p99 {found['p99_ms']:.1f} ms",
        )
    if (found := present("memory")) and found["peak_gib"] is not None:
        add(f"peak memory, batch {found['batch']}", f"{found['peak_gib']:.2f} GiB")
    if found := present("extraction"):
        megapixels = found["photo_px"][0] * found["photo_px"][1] / 1e6
        add(
            f"{found['photos']:,} JPEGs of {megapixels:.3g} megapixels to HDF5",
            f"{found['images_per_s']:.1f} images/s, {found['share_of_bare_forward']:.0%} of the bare forward's "
            f"{found['images_per_s_of_bare_forward']:.1f}",
        )
        if found["device_busy_share"] is not None:
            add("GPU busy meanwhile", f"{found['device_busy_share']:.0%}")
    if found := present("errors"):
        for dtype in ("bfloat16", "float32"):
            add(
                f"error of {dtype}",
                f"cosine {found[dtype]['cosine_error']:.1e}, relative {found[dtype]['relative_difference']:.1e}",
            )
        add("smallest cosine distance between two images", f"{found['smallest_distance_between_images']:.1e}")
    if found := present("training"):
        add(f"head, {found['rows']:,} x {found['dim']:,} rows, {found['epochs']} epochs", f"{found['seconds']:.1f} s")
    text = "\n".join(lines)
    if found := present("rates"):
        rows = ["| way | batch | images/s | share of the product's rate | cosine error |", "| --- |" + " ---: |" * 4]
        for row in found:
            rows.append(
                f"| {row['way']} | {row['note']} | | | |"
                if "note" in row
                else f"| {row['way']} | {row['batch']} | {row['images_per_s']:.2f} | {row['share_of_matmul']:.0%} | "
                f"{row['cosine_error']:.1e} |"
            )
        text += "\n\n" + "\n".join(rows)
    if found := present("stable_bits"):
        rows = ["| one image | equal bits | equal as float16 | largest difference |", "| --- | --- | --- | ---: |"]
        for row in found:
            equal, rounded = ("yes" if row[name] else "no" for name in ("equal", "equal_as_float16"))
            rows.append(f"| {row['case']} | {equal} | {rounded} | {row['largest_difference']:.1e} |")
        text += "\n\n" + "\n".join(rows)
    place = f"{result['hardware']}, torch {result['torch']}, transformers {result['transformers']}"
    subject = f"{result['architecture']}, {result['size_px']} px"
    left_out = f" Left out for time: {', '.join(result['left_out'])}." if result["left_out"] else ""
    note = f" {result['note']}." if result["note"] else ""
    return f"{text}\n\n{place}. {subject}.{note}{left_out}"


def _spread(values: dict[str, float], unit: str) -> str:
    return f"{values['median']:.3g} {unit} ({values['slowest']:.3g} to {values['fastest']:.3g})"


def main() -> None:
    """Measure in a temporary folder, write the JSON and print the tables."""
    parser = argparse.ArgumentParser(description="Measure the backbone on a GPU.")
    parser.add_argument("--json", type=Path, help="write the measurement here")
    parser.add_argument("--show", type=Path, help="print the tables of this JSON, and measure nothing")
    parser.add_argument("--small", action="store_true", help="a tiny backbone and few runs")
    parser.add_argument("--without-compiled", action="store_true", help="leave torch.compile out")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--limit-seconds", type=float, default=420, help="begin no part after it (default 420)")
    options = parser.parse_args()
    if options.show:
        print(tables(json.loads(options.show.read_text())))
        return
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DVC_ROOT"] = folder  # what extraction notes in .mirip/ stays out of this repository
        device = resolve_device(options.device)
        bench = Bench(Path(folder), SMALL if options.small else WHOLE, device, compiled=not options.without_compiled)
        print(tables(measure(bench, options.json, options.limit_seconds)))


if __name__ == "__main__":
    main()
