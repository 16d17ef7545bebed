"""Calls in processes of their own, forked from one that has imported what takes seconds to import.

For tests of what several processes do to one another, or of one that is killed: not of what a fresh interpreter does.
"""

import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    "pytest h5py pandas torch transformers.models.dinov2.modeling_dinov2 mirip.features.extract.extraction "
    "mirip.features.backbones.backbone mirip.tracking.publishing mlflow mlflow.store.tracking.sqlalchemy_store".split()
)


class Forked:
    """A call that runs in a process of its own, with the environment and the working directory of this one.

    Args:
        folder: takes what it writes to stdout and stderr.
        function: of a module in a file below tests/ or is installed.
        arguments: what it is called with.
    """

    def __init__(self, folder: Path, function: Callable[..., object], *arguments: object) -> None:
        number = len(list(folder.glob("stdout.*")))
        self._out, self._err = folder / f"stdout.{number}", folder / f"stderr.{number}"
        for path in (self._out, self._err):
            path.touch()
        given = (dict(os.environ), str(self._out), str(self._err), function, arguments)
        self._process = _CONTEXT.Process(target=_run, args=given)
        self._process.start()

    def runs(self) -> bool:
        return self._process.is_alive()

    def kill(self) -> None:
        self._process.kill()

    def wait_until_said(self, text: str) -> None:
        """Wait until it has written `text` to stdout."""
        deadline = time.monotonic() + 120
        while text not in self._out.read_text():
            assert self.runs() or text in self._out.read_text(), self._err.read_text()
            assert time.monotonic() < deadline, self._err.read_text()
            time.sleep(0.001)

    def end(self) -> tuple[int, str, str]:
        """Wait for its end; return its exit code and what it wrote to stdout and stderr."""
        self._process.join(240)
        code = self._process.exitcode
        assert code is not None, self._err.read_text()
        return code, self._out.read_text(), self._err.read_text()


def _run(environment: dict[str, str], out: str, err: str, function: Callable[..., object], arguments: tuple) -> None:
    os.environ.clear()
    os.environ.update(environment)
    for path, stream in ((out, 1), (err, 2)):
        handle = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(handle, stream)
        os.close(handle)
    function(*arguments)


def extract(folder: str, backbone: str, batch_size: int) -> None:
    """Extract the images that items.txt of a folder lists, and print how many were computed."""
    from mirip.features.extract.extraction import extract_features
    from mirip.params import Recipe

    root = Path(folder)
    items = [(sha256, name) for sha256, name in map(str.split, (root / "items.txt").read_text().splitlines())]
    print("ready", flush=True)
    recipe = Recipe(backbone=backbone, image_size=28, compute_dtype="float32")
    summary = extract_features(
        items, image_root=root / "images", path=root / "features/tiny.h5", device="cpu", recipe=recipe,
        batch_size=batch_size, store_root=root / ".mirip/store",
    )  # fmt: skip
    print(summary.computed, flush=True)


def publish_result(key: str) -> None:
    """Publish metrics/ of the working directory as the result that `key` names."""
    from mirip.tracking.publishing import publish
    from mirip.tracking.result import RunRecord

    metrics = {"evaluate.pairwise_accuracy": 0.5}
    publish(RunRecord("mirip", key, {"seed": key}, metrics, None, [Path("metrics")], {}, key))


def publish_from(clone: str, uri: str, keys: list[str], begin: float, period_s: float = 0.0) -> None:
    """Publish results from a clone of its own to a store, all clones from the same moment on, or each at its moment."""
    from made_checkpoint import DIM

    from mirip.tracking.dataset import Dataset
    from mirip.tracking.logged_model import Ranker
    from mirip.tracking.publishing import publish
    from mirip.tracking.result import RunRecord

    os.chdir(clone)
    os.environ["MLFLOW_TRACKING_URI"] = uri
    curves = pd.DataFrame({"epoch": [1, 2, 3], "train_loss": [0.5, 0.4, 0.3]})
    for place, key in enumerate(keys):
        time.sleep(max(0.0, begin + place * period_s - time.time()))
        record = RunRecord(
            "mirip", key, {"seed": key}, {"evaluate.pairwise_accuracy": 0.5, "evaluate.verdict": "met"}, curves,
            [Path("metrics")], {"mirip.recipe": "sample"}, key, ranker=Ranker(Path("models/best_model.pt"), DIM),
            dataset=Dataset("works", "5" * 64, "works.csv", {"n_images": 3}),
        )  # fmt: skip
        print(publish(record), flush=True)
