"""What extractions leave behind in .mirip/extractions/, for people: losing it costs words, never a feature.

A folder a features file holds what its last extraction came to and which images it had; `rates/` holds, by
fingerprint, how fast images went through the backbone on each device.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from mirip.data.tables import read_table, write_table
from mirip.errors import DataError
from mirip.files import sha256_bytes, write_json
from mirip.workspace import main_root, private_folder

_LISTING = ("image_path", "image_sha256")
_MIN_IMAGES = 16  # fewer time the start rather than the work


@dataclass(frozen=True)
class ExtractionSummary:
    """What an extraction came to.

    Attributes:
        rows: distinct images in the features file.
        computed: of these, how many went through the backbone now.
        reused: the others.
        dim: D, the width of a feature.
        fingerprint: of the recipe.
        content_digest: sha256 over keys and rows.
        seconds: how long it took.
    """

    rows: int
    computed: int
    reused: int
    dim: int
    fingerprint: str
    content_digest: str
    seconds: float

    @property
    def line(self) -> str:
        """What the extraction came to, in a line."""
        return f"extract: {self.rows} rows, {self.computed} computed, {self.reused} reused"

    def metrics(self) -> dict[str, int | str]:
        """Return metrics/extract.json: what the features are, not how they came about."""
        names = ("rows", "dim", "fingerprint", "content_digest")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Rate:
    """How fast the images of an extraction were read, decoded and embedded, once the backbone was loaded.

    Attributes:
        device: cpu or cuda.
        hardware: e.g. NVIDIA H200.
        images: how many they were.
        seconds: how long they took.
        measured: ISO date.
    """

    device: str
    hardware: str
    images: int
    seconds: float
    measured: str

    @property
    def images_per_second(self) -> float:
        """The rate itself."""
        return self.images / max(self.seconds, 1e-9)


def remember_extraction(path: Path, summary: ExtractionSummary, paths: Mapping[str, str]) -> None:
    """Keep what the extraction into `path` came to, and its images by path of each sha256.

    A file outside the main repository, or in a hidden folder of it (a copy that DVC works in, a scratch folder), has
    no memory. Where nothing can be written, nothing is kept.
    """
    if (folder := _folder_of(path)) is None:
        return
    listing = pd.DataFrame({"image_path": list(paths.values()), "image_sha256": list(paths)})
    with suppress(OSError, DataError):
        write_table(folder / "listing.parquet", listing)
        write_json(folder / "summary.json", asdict(summary))


def last_extraction(path: Path) -> ExtractionSummary | None:
    """Return what the last extraction into `path` came to; None where that is not known."""
    if (folder := _folder_of(path)) is None:
        return None
    try:
        return ExtractionSummary(**json.loads((folder / "summary.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def last_listing(path: Path) -> dict[str, str] | None:
    """Return the sha256 of each image path that the last extraction into `path` had; None where that is not known."""
    if (folder := _folder_of(path)) is None:
        return None
    try:
        listing = read_table(folder / "listing.parquet", _LISTING, "dvc repro extract")
    except DataError:
        return None
    return dict(zip(listing["image_path"].tolist(), listing["image_sha256"].tolist(), strict=True))


def remember_rate(fingerprint: str, rate: Rate) -> None:
    """Keep a rate of a recipe, one a device; the caller holds the lock of its store."""
    if rate.images < _MIN_IMAGES:
        return
    others = [known for known in known_rates(fingerprint) if known.hardware != rate.hardware]
    with suppress(OSError):
        write_json(_rates(fingerprint), [asdict(known) for known in [*others, rate]])


def known_rates(fingerprint: str) -> list[Rate]:
    """Return the rates of a recipe, the last measured at the end."""
    try:
        return [Rate(**values) for values in json.loads(_rates(fingerprint).read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError):
        return []


def _rates(fingerprint: str) -> Path:
    return private_folder().extractions / "rates" / f"{fingerprint}.json"


def _folder_of(path: Path) -> Path | None:
    root = main_root()
    path = path.resolve()
    if not path.is_relative_to(root.resolve()):
        return None
    relative = path.relative_to(root.resolve())
    if any(part.startswith(".") for part in relative.parts):
        return None
    return private_folder().extractions / f"{relative.stem}-{sha256_bytes(str(relative).encode())[:8]}"
