"""A recipe of the tiny Dinov2, and folders of small images."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mirip.params import Recipe


@pytest.fixture(autouse=True)
def main_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep .mirip/ of every test in its own folder."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    return tmp_path


@pytest.fixture
def recipe(dinov2: Path) -> Recipe:
    return Recipe(backbone=str(dinov2), image_size=28, compute_dtype="float32")


def write_image(folder: Path, name: str, seed: int) -> tuple[str, str]:
    """Write a small PNG of noise; return its sha256 and its path below the folder."""
    rng = np.random.default_rng(seed)
    height, width = rng.integers(10, 40, size=2)
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, size=(height, width, 3), dtype=np.uint8)).save(path)
    return hashlib.sha256(path.read_bytes()).hexdigest(), name


@pytest.fixture
def make_images(tmp_path: Path) -> Callable[[range], list[tuple[str, str]]]:
    """Write one image a seed below tmp_path/images."""
    return lambda seeds: [write_image(tmp_path / "images", f"{seed}.png", seed) for seed in seeds]
