"""Files of rows that follow from seeds."""

from pathlib import Path

import numpy as np

from mirip.features.cache.rows import as_keys, blocks_of, write_rows

ATTRIBUTES = {"fingerprint": "f" * 64, "recipe": "{}"}


def made(seeds: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Keys and rows that follow from the seeds, sorted."""
    keys = as_keys(f"{seed:064x}" for seed in sorted(seeds))
    features = [np.random.default_rng(seed).normal(size=5) for seed in sorted(seeds)]
    return keys, np.array(features, dtype=np.float16)


def write(path: Path, seeds: list[int]) -> Path:
    keys, features = made(seeds)
    write_rows(path, keys, blocks_of(features), dim=5, dtype="float16", attributes=ATTRIBUTES)
    return path
