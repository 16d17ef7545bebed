"""How time and memory of each stage grow with the number of images: 1,000, 10,000, 100,000, and a million if asked.

Run     python -m benchmarks.growth --json docs/benchmarks/growth.json     (about an hour on two cores)
        python -m benchmarks.growth --json docs/benchmarks/growth.json --rows 1000000 --until evaluate       (hours)
Try     python -m benchmarks.growth --rows 200 400
Then    python -m benchmarks.growth --from docs/benchmarks/growth.json --markdown --plot docs/images/growth.png

All is made up: small JPEG files of coloured blobs, a table with tiers, artists of about three images and twelve
departments, and features that tell something of the tier. Above --images-up-to rows no files are made: the stage
`prepare` is left out there, and the manifest that it would write is made up instead, with thumbnails of random bytes.
`extract` finds all features in the store and merges them into the features file. No backbone runs, so what is left out
is the one thing that a GPU is for. The training takes a fixed number of epochs.

Each stage runs as the pipeline runs it, in a process of its own, without the time that imports take. Seconds are by the
clock; CPU seconds are those of all threads, and do not mind what else the machine does. Peak memory is the largest
resident set. The exponent of a stage is the slope of its CPU seconds between the two largest numbers of rows, on
logarithmic axes: 1 is linear, 2 quadratic. Where a stage grows faster than N log N and noise explain, the script says
so and ends with exit code 1.
"""

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from benchmarks.measuring import ROOT, anonymous_peak, machine, print_table, resident_peak, run_apart
from mirip.data import manifest as manifests
from mirip.data import split as splits
from mirip.data.tables import write_csv, write_table
from mirip.data.thumbnails import Thumbnails
from mirip.features.backbones.recipe import resolve
from mirip.features.cache.store import FeatureStore
from mirip.features.extract import extraction
from mirip.files import write_json
from mirip.models import audit, evaluation, training
from mirip.params import Params, Recipe, load_params
from mirip.report import page
from mirip.workspace import METRICS, Workspace, private_folder

ROWS = (1_000, 10_000, 100_000)
IMAGES_UP_TO = 100_000
DIM = 32
EPOCHS = 10
TIERS, SHARES = ("S", "A", "B", "C"), (0.04, 0.10, 0.37, 0.49)
IMAGES_OF_ARTIST, DEPARTMENTS = 3, 12
BLOBS_PX, IMAGE_PX, THUMBNAIL_BYTES = (6, 8), (96, 72), 1500
SHARD_ROWS = 16_384
NOISE = 0.15  # of an exponent, between two runs
FEWEST_SECONDS = 1.0  # of CPU time: less is mostly what does not grow

STAGES: dict[str, Callable[[Workspace, Params], object]] = {
    "prepare": manifests.prepare,
    "split": splits.split,
    "extract": extraction.extract,
    "train": lambda workspace, params: training.train(workspace, params, verbose=False),
    "evaluate": evaluation.evaluate,
    "audit": audit.audit,
    "report": page.report,
}


class Project:
    """The folder that is measured: images and table, then what the stages write.

    Args:
        folder: holds all of it.
        rows: of the table.
        with_images: whether there are files; if not, the manifest is made up.
    """

    def __init__(self, folder: Path, rows: int, *, with_images: bool) -> None:
        self.rows, self.with_images = rows, with_images
        self.workspace = Workspace(folder)
        self._images, self._table, self._backbone = folder / "images", folder / "table.csv", folder / "backbone"

    def params(self) -> Params:
        """Return params.yaml with this project's data, a recipe that is nothing but its name, and few epochs."""
        params = load_params(ROOT / "params.yaml")
        of_data = {"images": self._images, "metadata": self._table, "tiers": list(TIERS)}
        of_data |= {"group": ["artist"], "context": ["department"]}
        return params.model_copy(
            update={
                "data": params.data.model_copy(update=of_data),
                "recipes": {"made_up": Recipe(backbone=str(self._backbone))},
                "extract": params.extract.model_copy(update={"recipe": "made_up"}),
                "train": params.train.model_copy(update={"max_epochs": EPOCHS, "early_stopping_patience": EPOCHS}),
            }
        )

    def make(self) -> None:
        """Make table, backbone and the files that `report` wants of other stages; and images, or a manifest."""
        self._backbone.mkdir(parents=True)
        (self._backbone / "config.json").write_text('{"model_type": "made_up"}')
        (self._backbone / "model.safetensors").write_bytes(b"made up")
        self._images.mkdir()
        for name in METRICS:
            write_json(self.workspace.metrics(name), {})
        table = self._made_table()
        write_csv(self._table, table)
        if not self.with_images:
            write_csv(self.workspace.rejected, pd.DataFrame(columns=["row", "image_path", "reason"]))
            write_table(self.workspace.manifest, made_manifest(table))
            made_thumbnails(self.rows, self.workspace.thumbnails.parent).write(self.workspace.thumbnails)
            return
        for number in range(0, self.rows, 1000):
            (self._images / f"{number // 1000:04d}").mkdir()
        with ThreadPoolExecutor() as pool:
            list(pool.map(self._make_image, table["image_path"], range(self.rows), chunksize=256))

    def fill(self) -> None:
        """Put the features of all images into the store."""
        rng = np.random.default_rng(1)
        manifest = manifests.read_manifest(self.workspace.manifest).drop_duplicates("image_sha256")
        direction = rng.standard_normal(DIM)
        store = FeatureStore(private_folder().store, resolve(self.params().recipe))
        with store.locked():
            for start in range(0, len(manifest), SHARD_ROWS):
                rows = manifest.iloc[start : start + SHARD_ROWS]
                told = rows["tier_rank"].to_numpy(dtype=np.float64)[:, None] * direction
                features = 0.3 * told + rng.standard_normal((len(rows), DIM))  # (n, DIM)
                store.add(rows["image_sha256"].tolist(), features.astype(np.float16))

    def run(self, stage: str) -> None:
        """Run a stage as the pipeline does."""
        STAGES[stage](self.workspace, self.params())

    def _made_table(self) -> pd.DataFrame:
        rng = np.random.default_rng(0)
        artist = rng.integers(0, max(1, self.rows // IMAGES_OF_ARTIST), self.rows)
        return pd.DataFrame(
            {
                "image_path": [f"{number // 1000:04d}/{number:08d}.jpg" for number in range(self.rows)],
                "tier": np.array(TIERS)[rng.choice(len(TIERS), self.rows, p=SHARES)],
                "artist": [f"a{number:07d}" for number in artist],
                "department": [f"department {number}" for number in artist % DEPARTMENTS],
                "year": 2015 + rng.integers(0, 10, self.rows),
            }
        )

    def _make_image(self, path: str, number: int) -> None:
        rng = np.random.default_rng((2, number))
        blobs = Image.fromarray(rng.integers(0, 256, (*BLOBS_PX, 3), dtype=np.uint8))
        blobs.resize(IMAGE_PX, Image.Resampling.BICUBIC).save(self._images / path, quality=85)


def made_manifest(table: pd.DataFrame) -> pd.DataFrame:
    """Return the manifest of a table without looking at images: what a file tells is random."""
    rng, rows = np.random.default_rng(3), len(table)
    columns: dict[str, Any] = {"image_path": table["image_path"], "row": np.arange(1, rows + 1)}
    for name, dtype in manifests._IMAGE_TYPES.items():
        columns[name] = np.full(rows, "") if dtype == "str" else rng.integers(1, 1000, rows).astype(dtype)
    columns["image_sha256"] = made_keys(rows)
    columns["perceptual_hash"] = rng.integers(1, 2**64, rows, dtype=np.uint64)
    columns["tier"] = table["tier"]
    columns["tier_rank"] = table["tier"].map({tier: len(TIERS) - 1 - k for k, tier in enumerate(TIERS)}).astype(np.int8)
    columns["group_id"] = pd.factorize(table["artist"])[0].astype(np.int64)
    columns["context"] = table["department"]
    return pd.DataFrame(
        columns | {f"meta_{name}": table[name].astype(str) for name in ("artist", "department", "year")}
    )


def made_thumbnails(rows: int, folder: Path) -> Thumbnails:
    """Return thumbnails of random bytes, for the images of a made-up manifest."""
    jpeg, thumbnails = np.random.default_rng(4).bytes(THUMBNAIL_BYTES), Thumbnails(folder)
    for key in made_keys(rows):
        thumbnails.add(key, jpeg)
    return thumbnails


def made_keys(rows: int) -> list[str]:
    """Return what stands for the sha256 of so many files, in no order."""
    numbers: NDArray[np.uint8] = np.random.default_rng(5).integers(0, 256, (rows, 32), dtype=np.uint8)
    return [key.tobytes().hex() for key in numbers]


def measure_here(step: str, project: Project) -> dict[str, float]:
    """Do a step in this process; return its seconds, CPU seconds and peak memory in bytes."""
    if step in ("make", "fill"):
        getattr(project, step)()
        return {}
    with anonymous_peak() as anonymous:
        start, start_cpu = time.perf_counter(), time.process_time()
        project.run(step)
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - start_cpu
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "memory": resident_peak(children=False),
        "anonymous": anonymous(),
    }


def measure(rows: int, options: argparse.Namespace) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield every stage up to the last that is wanted with what was measured, each in a process of its own."""
    with_images = rows <= options.images_up_to
    steps = ["make", *STAGES]
    steps.insert(steps.index("extract"), "fill")
    with tempfile.TemporaryDirectory(prefix="growth.", dir=options.folder and options.folder.resolve()) as folder:
        for step in steps[: steps.index(options.until) + 1]:
            if step == "prepare" and not with_images:
                continue
            print(f"growth: {rows:,} rows, {step}", file=sys.stderr, flush=True)
            own = ["--step", step, "--folder", folder, "--rows", str(rows), "--images-up-to", str(options.images_up_to)]
            measured = run_apart(__file__, own, Path(folder))
            if step in STAGES:
                yield step, measured


def exponent(found: dict[str, dict[str, dict[str, float]]], stage: str, what: str) -> float:
    """Return the slope of a stage's seconds or memory between the two largest numbers of rows that it ran at."""
    sizes = sorted(int(rows) for rows, stages in found.items() if stage in stages)[-2:]
    if len(sizes) < 2:
        return math.nan
    small, large = (found[str(rows)][stage][what] for rows in sizes)
    return math.log(large / small) / math.log(sizes[1] / sizes[0])


def limit(found: dict[str, dict[str, dict[str, float]]], stage: str) -> float:
    """Return the exponent that N log N has between those two, with some room for noise."""
    small, large = sorted(int(rows) for rows, stages in found.items() if stage in stages)[-2:]
    return 1 + math.log(math.log(large) / math.log(small)) / math.log(large / small) + NOISE


def too_fast(found: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    """Say in a line which stages grow faster than N log N."""
    said = []
    for stage in STAGES:
        slope = exponent(found, stage, "cpu_seconds")
        if math.isnan(slope):
            continue
        longest = max(stages[stage]["cpu_seconds"] for stages in found.values() if stage in stages)
        if slope > (allowed := limit(found, stage)) and longest >= FEWEST_SECONDS:
            said.append(f"{stage} grows with exponent {slope:.2f}, N log N and noise explain {allowed:.2f}")
    return said


def table(result: dict[str, Any]) -> list[list[str]]:
    """Return header and rows of what is printed: CPU seconds and memory of each stage at each number of rows."""
    found = result["stages"]
    sizes = sorted(found, key=int)
    lines = [["stage", *(f"{int(rows):,} rows" for rows in sizes), "exponent of time", "of memory"]]
    for stage in STAGES:
        cells = [
            f"{at['cpu_seconds']:.1f} s, {at['memory'] / 2**30:.2f} GiB"
            if (at := found[rows].get(stage))
            else "left out"
            for rows in sizes
        ]
        slopes = (exponent(found, stage, what) for what in ("cpu_seconds", "memory"))
        lines.append([stage, *cells, *("" if math.isnan(slope) else f"{slope:.2f}" for slope in slopes)])
    return lines


def draw(result: dict[str, Any], path: Path) -> None:
    """Draw CPU seconds and memory of each stage against the number of rows."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    found = result["stages"]
    sizes = sorted(int(rows) for rows in found)
    figure = Figure(figsize=(10, 4.6), dpi=150, layout="constrained")
    of_time, of_memory = figure.subplots(1, 2)
    colours = ("#4477aa", "#66ccee", "#228833", "#ccbb44", "#ee6677", "#aa3377", "#777777")  # Tol's, told apart by all
    for stage, colour, marker in zip(STAGES, colours, "os^Dv<>", strict=True):
        own = [rows for rows in sizes if stage in found[str(rows)]]
        for axes, what, unit in ((of_time, "cpu_seconds", 1.0), (of_memory, "memory", 2**30)):
            values = [found[str(rows)][stage][what] / unit for rows in own]
            axes.plot(own, values, marker=marker, color=colour, label=stage, linewidth=1.8, markersize=5)
    guide = np.geomspace(sizes[0], sizes[-1], 50)
    least = min(stages[stage]["cpu_seconds"] for stages in found.values() for stage in stages)
    n_log_n = guide * np.log(guide)
    of_time.plot(guide, least / 2 * n_log_n / n_log_n[0], color="#aaaaaa", linestyle="--", label="N log N")
    for axes, title in ((of_time, "CPU time (s)"), (of_memory, "Peak memory (GiB)")):
        axes.set(xscale="log", yscale="log", xlabel="Images", title=title)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter("")
        axes.grid(color="#e4e4e4", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
    of_memory.set_ylim(bottom=0.5)
    of_memory.yaxis.set_major_locator(LogLocator(base=2))
    figure.legend(*of_time.get_legend_handles_labels(), loc="outside right center", frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})


def parsed_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=list(ROWS), help="numbers of rows to measure at")
    parser.add_argument("--images-up-to", type=int, default=IMAGES_UP_TO, help="above, no files are made (100,000)")
    parser.add_argument("--folder", type=Path, help="where temporary folders are made; default: the system's")
    parser.add_argument("--json", type=Path, help="write what was measured there, beside what is in it")
    parser.add_argument("--until", choices=list(STAGES), default=list(STAGES)[-1], help="the last stage to measure")
    parser.add_argument("--from", type=Path, dest="measured", help="a file that --json wrote: measure nothing")
    parser.add_argument("--plot", type=Path, help="draw it there, as PNG")
    parser.add_argument("--markdown", action="store_true", help="print the table for a page")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main() -> int:
    """Measure, or read what was measured; write, print and draw it. Return the exit code."""
    options = parsed_options()
    if options.step:
        rows = options.rows[0]
        project = Project(options.folder, rows, with_images=rows <= options.images_up_to)
        print(json.dumps(measure_here(options.step, project)))
        return 0
    if options.measured:
        result = json.loads(options.measured.read_text(encoding="utf-8"))
    else:
        result = {"machine": machine(), "dim": DIM, "epochs": EPOCHS, "stages": {}}
        if options.json and options.json.is_file():
            result["stages"] = json.loads(options.json.read_text(encoding="utf-8"))["stages"]
        for rows in options.rows:
            for stage, found in measure(rows, options):
                result["stages"].setdefault(str(rows), {})[stage] = found
                if options.json:
                    write_json(options.json, result)
    if options.plot:
        draw(result, options.plot)
    lines = table(result)
    print_table(lines, markdown=options.markdown, right=range(1, len(lines[0])))
    for line in too_fast(result["stages"]):
        print(f"growth: {line}", file=sys.stderr)
    return 1 if too_fast(result["stages"]) else 0


if __name__ == "__main__":
    sys.exit(main())
