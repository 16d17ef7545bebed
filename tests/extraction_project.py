"""A small project for tests of extraction: images, a features file, a store."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from mirip.features.extract.extraction import extract_features
from mirip.features.extract.history import ExtractionSummary
from mirip.params import Recipe

Items = list[tuple[str, str]]
MakeImages = Callable[[range], Items]


class Project:
    """A folder with images, a features file and a store."""

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        self.images, self.path, self.recipe = folder / "images", folder / "features" / "tiny.h5", recipe
        self.store = folder / ".mirip" / "store"

    def extract(self, items: Items, recipe: Recipe | None = None, **options: object) -> ExtractionSummary:
        settings = {"batch_size": 4, "device": "cpu", "visible": False, "store_root": self.store} | options
        recipe = recipe or self.recipe
        return extract_features(items, image_root=self.images, recipe=recipe, path=self.path, **settings)

    def from_scratch(self, items: Items, recipe: Recipe | None = None, batch_size: int = 4) -> bytes:
        """The bytes of a build with the same settings that knows nothing of the past."""
        with tempfile.TemporaryDirectory() as folder:
            fresh = Path(folder)
            path = fresh / "scratch.h5"
            extract_features(
                items,
                image_root=self.images,
                recipe=recipe or self.recipe,
                path=path,
                store_root=fresh / "store",
                batch_size=batch_size,
                device="cpu",
                visible=False,
            )
            return path.read_bytes()

    def folders(self) -> list[Path]:
        """The folders of the features files and of the stores."""
        return [self.path.parent, self.store]

    def files(self) -> set[str]:
        """Names of all files but images, those of shards left out."""
        found = {path for folder in self.folders() for path in folder.rglob("*") if path.is_file()}
        return {path.name for path in found if not (path.parent.parent == self.store and path.suffix == ".h5")}
