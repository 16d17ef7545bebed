"""Where `mirip train` and `mirip evaluate` write: a folder that holds the results of one training, never of two.

A training writes its results into the folder `unfinished/` within its output folder. When all are there, those of the
earlier training are removed and the new ones take their place. So a training that fails, is interrupted or killed
leaves the earlier results whole. What only saves work, features.h5 and checkpoints/, lies in the output folder from the
start and belongs to the training that ran last.
"""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from mirip.errors import DataError
from mirip.files import sha256_file, sync_folder
from mirip.locks import forget, locked_if_free
from mirip.workspace import Workspace

# The key by which the metrics that `mirip evaluate` writes name the model's file.
MODEL_SHA256 = "model_sha256"

_PROBE_BYTES = 4 << 20  # about what a model and its tables take


def results(workspace: Workspace) -> list[Path]:
    """Return the files that a training leaves in its output folder, the model first."""
    return [
        workspace.model,
        *(workspace.metrics(name) for name in ("data", "split", "extract", "train", "evaluate")),
        workspace.curves,
        workspace.scores,
        workspace.manifest,
        workspace.thumbnails,
        workspace.rejected,
        workspace.splits,
    ]


@dataclass(frozen=True)
class _Unfinished(Workspace):
    """The folder `unfinished/` of an output folder, which shares with it what saves work."""

    def features(self, recipe: str) -> Path:
        return Workspace(self.root.parent, flat=True).features(recipe)

    @property
    def checkpoints(self) -> Path:
        return Workspace(self.root.parent, flat=True).checkpoints


@dataclass(frozen=True)
class OutputFolder:
    """An output folder that this process alone writes to.

    Attributes:
        finished: the folder itself, with the results of the training that ended last.
        unfinished: where this training writes.
    """

    finished: Workspace
    unfinished: Workspace

    def finish(self) -> None:
        """Let the results of this training take the place of the earlier ones.

        The earlier model goes first and the new one comes last. Whatever stops this, no result lies beside another
        training's, and where there is a model, all results are there.

        Raises:
            OSError: a file cannot be moved.
        """
        earlier = results(self.finished)
        for path in earlier:
            path.unlink(missing_ok=True)
        sync_folder(self.finished.root)
        self._take_over(list(zip(results(self.unfinished), earlier, strict=True)))

    def evaluations_of_other_models(self) -> list[Path]:
        """Return the files in this folder in which `mirip evaluate` wrote metrics of another model than is there."""
        own = sha256_file(self.finished.model)
        kept = set(self.finished.root.glob("*.json")) - set(results(self.finished))
        return sorted(path for path in kept if _evaluated_model(path) not in (None, own))

    def _end_exchange(self) -> None:
        """Where `finish` was stopped half way, go on with it: all results are in one of the two folders."""
        pairs = list(zip(results(self.unfinished), results(self.finished), strict=True))
        if not self.finished.model.exists() and all(new.exists() or path.exists() for new, path in pairs):
            self._take_over([(new, path) for new, path in pairs if new.exists()])

    def _take_over(self, pairs: list[tuple[Path, Path]]) -> None:
        """Move new results to where they belong, the model last."""
        for new, path in reversed(pairs):
            new.replace(path)
        sync_folder(self.finished.root)

    def _clear(self) -> None:
        """Remove what a training that did not end has left, and nothing that somebody else put there."""
        for path in results(self.unfinished):
            path.unlink(missing_ok=True)
            for partial in path.parent.glob(f".{path.name}.*.tmp"):
                partial.unlink()


@contextmanager
def output_folder(root: Path) -> Iterator[OutputFolder]:
    """Make an output folder where there is none, and hold it against other trainings.

    What a training that did not end has left there is removed. Folders that are made for this and are empty in the end
    are removed too.

    Raises:
        DataError: the folder cannot be made or written to, its disk is full, or another training writes there.
    """
    folder = OutputFolder(Workspace(root, flat=True), _Unfinished(root / "unfinished", flat=True))
    lock = root / ".lock"
    missing = [path for path in (root, *root.parents) if not path.exists()]
    try:
        with ExitStack() as held:
            with _cannot_write(root):
                if root.exists() and not root.is_dir():
                    raise FileExistsError(0, "a file is in its place")
                root.mkdir(parents=True, exist_ok=True)
                free = held.enter_context(locked_if_free(lock))
            if not free:
                raise DataError(
                    f"another `mirip train` writes into {root}", "wait until it has ended, or give another --output"
                )
            held.callback(forget, lock)
            _check_replaceable(folder.finished)
            with _cannot_write(root):
                folder.unfinished.root.mkdir(exist_ok=True)
                held.callback(_remove_if_empty, folder.unfinished.root)
                folder._end_exchange()
                folder._clear()
                _write_probe(folder.unfinished.root)
            yield folder
    finally:
        for path in missing:
            _remove_if_empty(path)


def check_output_file(path: Path) -> None:
    """Check, before long work, that a file can be written and is no result of a training.

    Raises:
        DataError: it is a folder, it cannot be written, its disk is full, or it is a result of the training there.
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder", f"give a file, such as --output {path / 'exam.json'}")
    if path.exists() and not path.is_file():
        raise DataError(f"{path} is a device or a pipe, not a file", "give a file, or leave --output out")
    training = Workspace(path.parent, flat=True)
    if path in results(training) and training.model.exists():
        raise DataError(
            f"{path} is a result of the training in {path.parent}",
            f"give another file, such as --output {path.with_name('exam.json')}",
        )
    with _cannot_write(path):
        _write_probe(next(folder for folder in path.absolute().parents if folder.exists()))


def _check_replaceable(workspace: Workspace) -> None:
    for path in (*results(workspace), workspace.features("")):
        with _cannot_write(path):
            if path.is_dir():
                raise IsADirectoryError(0, "a folder is in its place")
    with _cannot_write(workspace.checkpoints):
        if workspace.checkpoints.exists():
            _write_probe(workspace.checkpoints)


def _write_probe(folder: Path) -> None:
    with tempfile.TemporaryFile(dir=folder) as probe:
        probe.write(bytes(_PROBE_BYTES))
        probe.flush()
        os.fsync(probe.fileno())  # some file systems notice only here that they are full


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):  # it holds something
        folder.rmdir()


@contextmanager
def _cannot_write(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{path} cannot be written ({error.strerror or error})",
            "give --output a place that you may write to and that has space left",
        ) from None


def _evaluated_model(path: Path) -> str | None:
    """Return which model the metrics in a file are of; None where that is not said."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return values.get(MODEL_SHA256) if isinstance(values, dict) else None
