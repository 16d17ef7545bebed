"""The sample as a user's folder would be: images, a metadata table, and the truth beside them."""

import csv
import multiprocessing
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from PIL import Image

from mirip.files import write_json
from mirip.progress import Progress
from mirip.sample.artists import Work, assign_works
from mirip.sample.drawing import draw
from mirip.sample.planted import UNKNOWN_TIER, choose_planted, encode, is_png, with_copies
from mirip.sample.truth import truth

# What to draw, under which index to file it, and how to spoil it.
Job = tuple[Work, int, str | None]

COLUMNS = ("image_path", "tier", "artist", "department", "medium")


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty sibling folder that takes the place of `folder` when the block succeeds, and vanishes if not."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent))
    try:
        new, old = scratch / "new", scratch / "old"
        new.mkdir()
        yield new
        if folder.exists():
            folder.replace(old)
        new.replace(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def write_dataset(folder: Path, seed: int, n_images: int, n_artists: int, *, workers: int = 1) -> list[Work]:
    """Draw the works and write images/, metadata.csv and truth.json into `folder`; return the works.

    The bytes are a function of seed and numbers alone, however many processes draw.
    """
    works = assign_works(seed, n_images, n_artists)
    bearers, originals = choose_planted(seed, works)
    works = with_copies(works, bearers, originals)
    kinds = {index: kind for kind, index in bearers.items()}
    # A copy shows its original's picture.
    shown = {bearers[kind]: source for kind, source in originals.items()}
    jobs = [
        (replace(work, index=shown.get(work.index, work.index)), work.index, kinds.get(work.index)) for work in works
    ]
    paths = [_image_path(seed, index, kind, shown) for _, index, kind in jobs]
    (folder / "images").mkdir(parents=True)
    with Progress("sample", n_images, "drawing") as progress, _mapper(workers) as mapper:
        for path, data in zip(paths, mapper(partial(_file_bytes, seed), jobs), strict=True):
            if data is not None:
                (folder / path).write_bytes(data)
            progress.update(1)
    unknown = bearers["unknown_tier"]
    works[unknown] = replace(works[unknown], tier=UNKNOWN_TIER)
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(COLUMNS)
        for work, path in zip(works, paths, strict=True):
            table.writerow((path, work.tier, work.artist, work.department, work.medium))
    write_json(folder / "truth.json", truth(seed, works, paths, bearers, originals))
    return works


def _image_path(seed: int, index: int, kind: str | None, shown: dict[int, int]) -> str:
    # An exact copy has its original's format; both are of no planted kind otherwise.
    png = is_png(seed, shown[index], None) if kind == "exact_copy" else is_png(seed, index, kind)
    return f"images/{index + 1:04d}.{'png' if png else 'jpg'}"


def _file_bytes(seed: int, job: Job) -> bytes | None:
    """Draw one work and return the bytes of its file, None where there is to be none."""
    work, index, kind = job
    picture = Image.fromarray(draw(work, seed))
    if kind == "exact_copy":
        return encode(picture, seed, work.index, None)
    return encode(picture, seed, index, kind)


@contextmanager
def _mapper(workers: int) -> Iterator[Callable[[Callable[[Job], bytes | None], list[Job]], Iterator[bytes | None]]]:
    """Yield a map over jobs that keeps their order, in this process or in `workers` others."""
    if workers == 1:
        yield map
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield partial(pool.map, chunksize=8)
