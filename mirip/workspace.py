"""Every path of a run, under one root, and what Mirip keeps for itself in `.mirip/`.

The pipeline's root is the repository. `mirip train` has another root, its output folder, where the same files lie
without the folders data/, features/, models/ and metrics/.
"""

import os
from configparser import ConfigParser, ParsingError
from dataclasses import dataclass
from pathlib import Path

# The metrics files, metrics/<name>.json, each with the stage that writes it.
METRICS = {
    "data": "prepare",
    "split": "split",
    "extract": "extract",
    "train": "train",
    "evaluate": "evaluate",
    "audit": "audit",
    "benchmark": "benchmark",
}


@dataclass(frozen=True)
class Workspace:
    """The paths that stages read and write.

    Attributes:
        root: folder that all paths are under; the working directory by default, and paths are then relative to it.
        flat: whether the files lie in the root itself, as in the output folder of `mirip train`.
    """

    root: Path = Path()
    flat: bool = False

    @property
    def params(self) -> Path:
        """The params of the pipeline."""
        return self.root / "params.yaml"

    @property
    def lock(self) -> Path:
        """What DVC recorded of the stages that ran."""
        return self.root / "dvc.lock"

    @property
    def sample(self) -> Path:
        """The sample artworks: images/, metadata.csv, truth.json."""
        return self._in("data", "sample")

    @property
    def sample_backbone(self) -> Path:
        """The backbone of the recipe `sample`, in Hugging Face format."""
        return self._in("models", "backbones/sample")

    @property
    def manifest(self) -> Path:
        """One row an accepted image."""
        return self._in("data", "manifest.parquet")

    @property
    def thumbnails(self) -> Path:
        """A small JPEG of each distinct image."""
        return self._in("data", "thumbnails.parquet")

    @property
    def rejected(self) -> Path:
        """The rows of the metadata that were left out, and why."""
        return self._in("data", "rejected.csv")

    @property
    def splits(self) -> Path:
        """The split of every image, in the manifest's order."""
        return self._in("data", "splits.parquet")

    def features(self, recipe: str) -> Path:
        """Return the features file of the recipe of that name."""
        return self.root / "features.h5" if self.flat else self.root / "features" / f"{recipe}.h5"

    @property
    def model(self) -> Path:
        """The trained model's checkpoint."""
        return self._in("models", "best_model.pt")

    def metrics(self, name: str) -> Path:
        """Return the metrics file of that name, as metrics/evaluate.json."""
        return self._in("metrics", f"{name}.json")

    def tables(self, stage: str) -> Path:
        """Return the folder of a stage's tables, as metrics/evaluate/."""
        return self._in("metrics", stage)

    @property
    def checkpoints(self) -> Path:
        """The checkpoints that a training keeps, as `mirip train` does."""
        return self._in("models", "checkpoints")

    @property
    def curves(self) -> Path:
        """The metrics of each epoch of the training."""
        return self._in("metrics", "curves.csv" if self.flat else "train/curves.csv")

    @property
    def scores(self) -> Path:
        """The scores of the test split, with hashed ids."""
        return self._in("metrics", "scores.csv")

    @property
    def cross_fit(self) -> Path:
        """The scores of training and validation split by models that saw none of the image's group."""
        return self._in("models", "out_of_fold.parquet")

    @property
    def out_of_fold(self) -> Path:
        """The scores of all images by models that saw none of their group, with hashed ids."""
        return self._in("metrics", "out_of_fold_scores.csv")

    @property
    def receipt(self) -> Path:
        """Which result was published: not in Git, so that a fresh clone publishes into its own store."""
        return self.metrics("track")

    @property
    def report(self) -> Path:
        """The page that shows the result."""
        return self._in("metrics", "report.html")

    def _in(self, folder: str, name: str) -> Path:
        return self.root / name if self.flat else self.root / folder / name


@dataclass(frozen=True)
class PrivateFolder:
    """What Mirip keeps for itself, out of Git: `.mirip/` in the main repository's root.

    Attributes:
        root: the folder itself.
    """

    root: Path

    @property
    def store(self) -> Path:
        """Every row of features ever computed, a folder a fingerprint."""
        return self.root / "store"

    @property
    def hashes(self) -> Path:
        """The sha256 of weight files, for as long as they are unchanged."""
        return self.root / "hashes.json"

    @property
    def configs(self) -> Path:
        """Which config of a backbone was the first seen here, of those that give the same values."""
        return self.root / "configs"

    @property
    def extractions(self) -> Path:
        """What the last extraction of each features file came to, and how fast extractions were."""
        return self.root / "extractions"

    @property
    def checkpoints(self) -> Path:
        """Checkpoints of trainings that have not ended."""
        return self.root / "checkpoints"

    @property
    def evaluated(self) -> Path:
        """Which models were evaluated on each test split. The folder keeps the name that earlier versions gave it."""
        return self.root / "judged"

    @property
    def unpublished(self) -> Path:
        """Results that wait for a tracking server."""
        return self.root / "unpublished"

    @property
    def tracking_lock(self) -> Path:
        """The lock under which the MLflow store is created."""
        return self.root / "track.lock"


def private_folder() -> PrivateFolder:
    """Return the main repository's `.mirip/`, also from a temporary or queued experiment; it may not exist yet."""
    return PrivateFolder(main_root() / ".mirip")


def dvc_cache() -> Path:
    """Return the folder in which DVC keeps the content of files, of the main repository; it may not exist.

    It is what `cache.dir` says in the repository's config files, or in the user's, relative to that file's folder.
    """
    folder = main_root() / ".dvc"
    user = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "dvc"
    for path in (folder / "config.local", folder / "config", user / "config"):
        config = ConfigParser(interpolation=None, strict=False)
        try:
            config.read(path, encoding="utf-8")
        except (ParsingError, ValueError):
            continue
        if found := config.get("cache", "dir", fallback=""):
            return path.parent / Path(found.strip("\"'")).expanduser()
    return folder / "cache"


def main_root() -> Path:
    """Return the root of the main repository, which holds `.mirip/` and `mlflow.db`.

    DVC runs temporary and queued experiments in a copy of the repository and names the original in the
    environment variable DVC_ROOT. Elsewhere it is the nearest folder upwards that holds `.dvc` or `.git`,
    else the working directory.
    """
    if root := os.environ.get("DVC_ROOT"):
        return Path(root).resolve()
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / ".dvc").is_dir() or (folder / ".git").exists():
            return folder
    return here
