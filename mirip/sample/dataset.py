"""The sample as a user's folder would be: images, a metadata table, and the truth beside them."""

import csv
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mirip.files import write_json
from mirip.params import Params
from mirip.progress import Progress
from mirip.sample.artists import Artwork, assign_artworks, faults_of, generator
from mirip.sample.backbone import write_backbone
from mirip.sample.media import CHARCOAL, PENCIL, draw_dry, draw_watercolour
from mirip.sample.planted import PLANTED, UNKNOWN_TIER, choose_planted, encode, is_png, with_copies
from mirip.sample.scene import compose
from mirip.sample.shading import darkness, trace
from mirip.sample.truth import truth
from mirip.workspace import Workspace

# What to draw, under which index to file it, and how to spoil it.
Job = tuple[Artwork, int, str | None]

COLUMNS = ("image_path", "tier", "artist", "department", "medium")
# Beyond a few processes the pool takes longer to start than it saves.
_MAX_WORKERS = 4
# Streams of an artwork's randomness: what skill does not decide, and what it does.
_CHANCE, _ERROR = 1, 2


@dataclass(frozen=True)
class Sample:
    """What the stage `sample` made.

    Attributes:
        artworks: every artwork, in the order of the metadata.
        backbone_bytes: size of the backbone's folder.
    """

    artworks: list[Artwork]
    backbone_bytes: int

    def summary(self) -> str:
        """Say in one line what was made."""
        n_artists = len({artwork.artist for artwork in self.artworks})
        return (
            f"{len(self.artworks)} artworks by {n_artists} artists, {len(PLANTED)} planted files, "
            f"backbone {self.backbone_bytes / 1e6:.0f} MB"
        )


def sample(workspace: Workspace, params: Params) -> Sample:
    """Draw the sample artworks and make the sample backbone; write both folders, each whole or not at all."""
    section = params.sample
    # Each drawing process has a core to itself; threads inside numpy would only fight over it.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    workers = min(_MAX_WORKERS, os.cpu_count() or 1)
    with atomic_folder(workspace.sample) as dataset, atomic_folder(workspace.sample_backbone) as backbone:
        artworks = write_dataset(dataset, section.seed, section.n_images, section.n_artists, workers=workers)
        backbone_bytes = write_backbone(backbone)
    return Sample(artworks, backbone_bytes)


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


def write_dataset(folder: Path, seed: int, n_images: int, n_artists: int, *, workers: int = 1) -> list[Artwork]:
    """Draw the artworks and write images/, metadata.csv and truth.json into `folder`; return the artworks.

    The bytes are a function of seed and numbers alone, however many processes draw.
    """
    artworks = assign_artworks(seed, n_images, n_artists)
    spoiled, originals = choose_planted(seed, artworks)
    artworks = with_copies(artworks, spoiled, originals)
    kinds = {index: kind for kind, index in spoiled.items()}
    # A copy shows its original's image.
    shown = {spoiled[kind]: source for kind, source in originals.items()}
    jobs = [
        (replace(artwork, index=shown.get(artwork.index, artwork.index)), artwork.index, kinds.get(artwork.index))
        for artwork in artworks
    ]
    paths = [_image_path(seed, index, kind, shown) for _, index, kind in jobs]
    (folder / "images").mkdir(parents=True)
    with Progress("sample", n_images, "drawing") as progress, _mapper(workers) as mapper:
        for path, data in zip(paths, mapper(partial(_file_bytes, seed), jobs), strict=True):
            if data is not None:
                (folder / path).write_bytes(data)
            progress.update(1)
    unknown = spoiled["unknown_tier"]
    artworks[unknown] = replace(artworks[unknown], tier=UNKNOWN_TIER)
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(COLUMNS)
        for artwork, path in zip(artworks, paths, strict=True):
            table.writerow((path, artwork.tier, artwork.artist, artwork.department, artwork.medium))
    write_json(folder / "truth.json", truth(seed, artworks, paths, spoiled, originals))
    return artworks


def draw(artwork: Artwork, seed: int) -> NDArray[np.uint8]:
    """Draw an artwork: RGB (H, W, 3), both sides between 320 and 420 pixels.

    What skill does not decide (objects, light, paper, size) comes from a stream of its own: the same index drawn
    with another skill shows the same set-up.
    """
    chance, error = generator(seed, _CHANCE, artwork.index), generator(seed, _ERROR, artwork.index)
    faults = faults_of(artwork.skill, error)
    width_px, height_px = int(chance.integers(370, 421)), int(chance.integers(320, 351))
    if chance.uniform() < 0.4:
        width_px, height_px = height_px, width_px
    scene = compose(width_px, height_px, faults, chance, error)
    seen = trace(scene, width_px, height_px)
    dark = darkness(scene, seen, faults, chance, error)
    if artwork.medium == "watercolour":
        page = draw_watercolour(scene, seen, dark, faults, chance, error)
    else:
        medium = PENCIL if artwork.medium == "pencil" else CHARCOAL
        page = draw_dry(medium, scene, seen, dark, faults, chance, error)
    return (np.clip(page, 0, 1) * 255 + 0.5).astype(np.uint8)


def _image_path(seed: int, index: int, kind: str | None, shown: dict[int, int]) -> str:
    # An exact copy has its original's format; both are of no planted kind otherwise.
    png = is_png(seed, shown[index], None) if kind == "exact_copy" else is_png(seed, index, kind)
    return f"images/{index + 1:04d}.{'png' if png else 'jpg'}"


def _file_bytes(seed: int, job: Job) -> bytes | None:
    """Draw one artwork and return the bytes of its file, None where there is to be none."""
    artwork, index, kind = job
    image = Image.fromarray(draw(artwork, seed))
    if kind == "exact_copy":
        return encode(image, seed, artwork.index, None)
    return encode(image, seed, index, kind)


@contextmanager
def _mapper(workers: int) -> Iterator[Callable[[Callable[[Job], bytes | None], list[Job]], Iterator[bytes | None]]]:
    """Yield a map over jobs that keeps their order, in this process or in `workers` others."""
    if workers == 1:
        yield map
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield partial(pool.map, chunksize=8)
