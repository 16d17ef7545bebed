"""What every test may use. Nothing here reaches a network."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from pipeline_clone import BuiltPipeline

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["DVC_NO_ANALYTICS"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side; waiting threads would spin
# Set inside `dvc exp run`, against a user's server, or under make, which would then name each folder it enters; the
# last one would let every process compile every module again.
for name in (
    "DVC_ROOT", "DVC_STAGE", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV", "MLFLOW_TRACKING_URI",
    "MAKEFLAGS", "MAKELEVEL", "MFLAGS", "PYTHONDONTWRITEBYTECODE",
):  # fmt: skip
    os.environ.pop(name, None)

ROOT = Path(__file__).parents[1]
LONG = ("slow", "integration", "browser", "gpu")
MEMORY = Path("/dev/shm")  # a folder of Linux that is no disk
ROOM_BYTES = 8 << 30  # several times what a run of all tests writes


def use_memory_for_files() -> None:
    """Have tests write into memory where there is plenty: those of stores and pipelines wait long for a disk.

    Where PYTEST_DEBUG_TEMPROOT, a variable of pytest, names another folder, they write there.
    """
    if "PYTEST_DEBUG_TEMPROOT" in os.environ or not MEMORY.is_dir() or not os.access(MEMORY, os.W_OK):
        return
    available = re.search(r"^MemAvailable: +(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    if available and min(int(available[1]) << 10, shutil.disk_usage(MEMORY).free) >= ROOM_BYTES:
        os.environ["PYTEST_DEBUG_TEMPROOT"] = str(MEMORY)


use_memory_for_files()
settings.register_profile("mirip", deadline=None)  # a machine that does other things too is no reason to fail
settings.load_profile("mirip")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, whole pipelines first: one that begins last leaves other workers idle.

    A worker takes a file whole (`--dist loadfile`), so that what its tests share is made once. Those whose pipeline is
    their own come before those that would wait for the shared one.
    """
    long = {item.path for item in items if any(item.get_closest_marker(name) for name in LONG)}
    first = [ROOT / "tests" / f"test_{name}.py" for name in ("workflows", "whole_sample")]
    items.sort(key=lambda item: (item.path not in first, item.path not in long, item.path.parent != ROOT / "tests"))


def _beside(name: str) -> Path:
    """Find test material that stands beside the project, or say why the test is skipped."""
    path = Path(os.environ.get("MIRIP_TEST_MATERIAL", ROOT.parent / "shared")) / name
    if not path.is_dir():
        pytest.skip(f"{name} is not found: set MIRIP_TEST_MATERIAL to the folder that holds it")
    return path


@pytest.fixture(scope="session", autouse=True)
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of this run of the tests, the same for every worker of xdist: what is made once stands there."""
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIRIP_TEST_SHARED", str(folder))
        yield folder


@pytest.fixture(scope="session")
def project_root() -> Path:
    """The root of this project."""
    return ROOT


@pytest.fixture(scope="session")
def savoias() -> Path:
    """Real paintings with crowd labels: images/ and metadata.csv."""
    return _beside("data/savoias")


@pytest.fixture(scope="session")
def mobilenet() -> Path:
    """A real pretrained backbone, MobileNetV1, in Hugging Face format."""
    return _beside("weights/mobilenet_v1_1.0_224")


def save_dinov2(folder: Path, *, seed: int = 0, **options: object) -> Path:
    """Save a Dinov2 of 32-d and 2 layers with seeded weights."""
    import torch
    from transformers import Dinov2Config, Dinov2Model
    from transformers.utils import logging

    logging.disable_progress_bar()
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 14, "image_size": 28}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        Dinov2Model(Dinov2Config(**(sizes | options))).save_pretrained(folder)
    logging.enable_progress_bar()
    return folder


@pytest.fixture(scope="session")
def dinov2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny real Dinov2 in Hugging Face format."""
    return save_dinov2(tmp_path_factory.mktemp("backbones") / "dinov2")


@pytest.fixture(scope="session")
def other_dinov2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with other weights."""
    return save_dinov2(tmp_path_factory.mktemp("backbones") / "other", seed=1)


@pytest.fixture(scope="session")
def make_dinov2() -> Callable[..., Path]:
    """What makes more of them."""
    return save_dinov2


@pytest.fixture
def disk_events(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What a test does to files from here on, in order: ("fsync" or "replace", the file's inode)."""
    events: list[tuple[str, int]] = []
    fsync, replace = os.fsync, Path.replace

    def noted_fsync(handle: int) -> None:
        events.append(("fsync", os.fstat(handle).st_ino))
        fsync(handle)

    def noted_replace(path: Path, target: Path) -> Path:
        events.append(("replace", path.stat().st_ino))
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    return events


@pytest.fixture(scope="session")
def pipeline(project_root: Path, shared_folder: Path) -> "BuiltPipeline":
    """The one pipeline that runs for all tests: whoever changes something takes a copy."""
    from pipeline_clone import built_pipeline

    return built_pipeline(project_root, shared_folder)
