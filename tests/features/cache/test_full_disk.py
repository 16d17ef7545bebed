"""A disk without room and one that cannot be written: a clear error, nothing lost, nothing half-written.

The disk is a small tmpfs in a mount namespace of its own, which needs no root and vanishes with the process that
holds it; its files are seen through that process's /proc/<pid>/root.
"""

import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from extraction_project import MakeImages, Project

from mirip.features.backbones.recipe import resolve
from mirip.features.cache.feature_cache import FeatureCache
from mirip.features.cache.rows import as_keys
from mirip.features.cache.store import FeatureStore
from mirip.features.cache.verification import verify_cache
from mirip.params import Recipe
from stages import run

DISK_BYTES = 8 << 20
ROOM_BYTES = 200 << 10  # for a few batches of the tiny backbone


class SmallDisk:
    """A disk of 8 MiB that can be filled up and be made read-only."""

    def __init__(self, mount_point: Path) -> None:
        if not (unshare := shutil.which("unshare")):
            pytest.skip("a small disk needs unshare(1) of util-linux")
        command = [unshare, "--user", "--map-root-user", "--mount", "sh"]
        self._shell = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.mount_point = mount_point
        self.folder = Path(f"/proc/{self._shell.pid}/root{mount_point}")
        if said := self.run(f"mount -t tmpfs -o size={DISK_BYTES} none '{mount_point}'"):
            self.remove()
            pytest.skip(f"a small disk needs user namespaces that may mount: {said}")

    def fill(self, room: int = 0) -> None:
        """Leave so many bytes free, or none."""
        free = shutil.disk_usage(self.folder).free
        (self.folder / "filler").write_bytes(bytes(free - room))

    def make_room(self) -> None:
        """Take back what `fill` did."""
        (self.folder / "filler").unlink()

    def allow_writes(self, allowed: bool) -> None:
        """Mount it again, read-only or not."""
        said = self.run(f"mount -o remount,{'rw' if allowed else 'ro'} none '{self.mount_point}'")
        assert not said, said

    def remove(self) -> None:
        """End the process that holds the namespace, and the disk with it."""
        self._shell.kill()
        self._shell.communicate()

    def run(self, command: str) -> str:
        """Run a command where the disk stands at `mount_point` itself, and return what it printed."""
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        try:
            self._shell.stdin.write(f"{command}; echo; echo done\n")
            self._shell.stdin.flush()
        except BrokenPipeError:
            pass  # what unshare said of it is read below
        said = ""
        for line in self._shell.stdout:
            if line == "done\n":
                return said.strip()
            said += line
        return said.strip() or "the shell ended"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    (tmp_path / "disk").mkdir()
    disk = SmallDisk(tmp_path / "disk")
    yield disk
    disk.remove()


@pytest.fixture
def project(tmp_path: Path, recipe: Recipe) -> Project:
    return Project(tmp_path, recipe)


def failure_of(project: Project, items: list[tuple[str, str]]) -> str:
    """Extract as a stage does, which must fail with one line and leave nothing half-written; return the line."""
    with pytest.raises(SystemExit) as stop:
        run(lambda: project.extract(items))
    message = str(stop.value)
    assert message.startswith("error: ")
    assert "\n" not in message
    assert not [name for name in project.files() if name.endswith(".tmp")]
    return message


def rows_kept(project: Project) -> int:
    fingerprint = resolve(project.recipe)
    store = FeatureStore(project.store, fingerprint)
    return sum(len(rows.keys) for rows in store._sound_shards())


@pytest.mark.slow
def test_a_full_store_keeps_what_was_computed_and_goes_on_when_there_is_room(
    project: Project, make_images: MakeImages, disk: SmallDisk
) -> None:
    project.store = disk.folder / "store"
    items = make_images(range(200))
    project.extract(items[:4])
    before = project.path.read_bytes()
    disk.fill(ROOM_BYTES)
    message = failure_of(project, items)
    assert f"{project.store}/" in message
    assert "No space left on device" in message
    assert "what was computed is kept" in message
    assert project.path.read_bytes() == before
    kept = rows_kept(project)
    assert 4 < kept < 200
    disk.make_room()
    assert project.extract(items).reused == kept
    assert project.path.read_bytes() == project.from_scratch(items)


def test_a_full_features_folder_leaves_the_old_file_and_computes_nothing_twice(
    project: Project, make_images: MakeImages, disk: SmallDisk
) -> None:
    project.path = disk.folder / "features" / "tiny.h5"
    items = make_images(range(12))
    project.extract(items[:4])
    before = project.path.read_bytes()
    disk.fill()
    message = failure_of(project, items)
    assert f"{project.path} cannot be written (No space left on device)" in message
    assert project.path.read_bytes() == before
    assert len(FeatureCache.open(project.path, project.recipe)) == 4
    disk.make_room()
    assert project.extract(items).computed == 0
    assert project.path.read_bytes() == project.from_scratch(items)


def test_a_store_without_room_to_be_compacted_keeps_its_parts(
    recipe: Recipe, disk: SmallDisk, capsys: pytest.CaptureFixture[str]
) -> None:
    resolved = resolve(recipe)
    store = FeatureStore(disk.folder / "store", resolved)
    keys = [f"{seed:064x}" for seed in range(3000)]
    features = np.random.default_rng(0).normal(size=(3000, 1024)).astype(np.float16)  # 6 MB: no room for a second copy
    with store.locked():
        for start in (0, 1000, 2000):
            store.add(keys[start : start + 1000], features[start : start + 1000])
        store.compact()
    assert "the store keeps its 3 files" in capsys.readouterr().err
    assert len(list(store.folder.iterdir())) == 3
    again = FeatureStore(disk.folder / "store", resolved).gather(as_keys(keys))
    assert (np.concatenate(list(again.blocks())) == features).all()


def test_a_read_only_features_folder_leaves_the_old_file_which_can_be_read(
    project: Project, make_images: MakeImages, disk: SmallDisk
) -> None:
    project.path = disk.folder / "features" / "tiny.h5"
    items = make_images(range(12))
    project.extract(items[:4])
    before = project.path.read_bytes()
    disk.allow_writes(False)
    message = failure_of(project, items)
    assert f"{project.path} cannot be written (Read-only file system)" in message
    assert project.path.read_bytes() == before
    assert len(FeatureCache.open(project.path, project.recipe)) == 4
    assert verify_cache(project.path, project.recipe).sound
    disk.allow_writes(True)
    assert project.extract(items).computed == 0
    assert project.path.read_bytes() == project.from_scratch(items)


def test_a_read_only_store_is_named_before_anything_is_computed(
    project: Project, make_images: MakeImages, disk: SmallDisk
) -> None:
    project.store = disk.folder / "store"
    items = make_images(range(6))
    project.extract(items[:4])
    before = project.path.read_bytes()
    disk.allow_writes(False)
    message = failure_of(project, items)
    assert "Read-only file system" in message
    assert f"{project.store}/" in message
    assert project.path.read_bytes() == before
    disk.allow_writes(True)
    assert project.extract(items).computed == 2
    assert project.path.read_bytes() == project.from_scratch(items)


@pytest.mark.parametrize("store", ["filled", "gone"])
def test_a_read_only_store_is_no_obstacle_where_nothing_is_to_be_computed(
    project: Project, make_images: MakeImages, disk: SmallDisk, store: str
) -> None:
    project.store = disk.folder / "store"
    items = make_images(range(4))
    project.extract(items)
    before = project.path.read_bytes()
    if store == "gone":
        project.store = disk.folder / "other store"
    disk.allow_writes(False)
    assert project.extract(items).computed == 0
    assert project.path.read_bytes() == before
    assert project.extract(items[:3]).reused == 3
    assert project.path.read_bytes() == project.from_scratch(items[:3])


def test_a_project_that_is_read_only_as_a_whole_can_be_read(
    project: Project, make_images: MakeImages, disk: SmallDisk, project_root: Path
) -> None:
    """Also the first time, when nobody has remembered the hash of the backbone's weights yet."""
    project.path = disk.folder / "features" / "tiny.h5"
    project.extract(make_images(range(4)))
    (disk.folder / ".mirip").mkdir()
    disk.allow_writes(False)
    code = (
        "import sys; from mirip.features.cache.feature_cache import FeatureCache; from mirip.params import Recipe; "
        "print(len(FeatureCache.open(sys.argv[1], Recipe.model_validate_json(sys.argv[2]))))"
    )
    command = [sys.executable, "-c", code, "features/tiny.h5", project.recipe.model_dump_json()]
    environment = f"PYTHONPATH={shlex.quote(str(project_root))} DVC_ROOT={disk.mount_point}"
    assert disk.run(f"cd {disk.mount_point} && env {environment} {shlex.join(command)}") == "4"
