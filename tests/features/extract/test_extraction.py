import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from extraction_project import Items, MakeImages, Project
from forked import Forked, extract
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from row_files import set_attributes

from mirip.errors import BackboneError, CacheError, DataError, ImageError
from mirip.features.backbones.recipe import resolve
from mirip.features.cache.feature_cache import FeatureCache
from mirip.features.cache.rows import read_rows
from mirip.features.cache.verification import verify_cache
from mirip.features.extract.history import known_rates, last_extraction, last_listing
from mirip.files import sha256_file
from mirip.params import Recipe
from mirip.workspace import private_folder


@pytest.fixture
def project(tmp_path: Path, recipe: Recipe) -> Project:
    return Project(tmp_path, recipe)


def test_features_are_those_of_the_backbone(project: Project, make_images: MakeImages) -> None:
    from mirip.data.decoding import decode_image
    from mirip.features.backbones.backbone import DINOv2FeatureExtractor

    items = make_images(range(6))
    project.extract(items)
    extractor = DINOv2FeatureExtractor.from_recipe(project.recipe, "cpu")
    cache = FeatureCache.open(project.path, project.recipe)
    for sha256, name in items:
        pixels = decode_image((project.images / name).read_bytes()).pixels
        expected = extractor(extractor.transform(pixels)[None])
        np.testing.assert_allclose(cache.rows([sha256]), expected.numpy(), atol=2e-3)


@pytest.mark.slow
def test_what_is_new_is_computed_and_the_bytes_are_those_from_scratch(
    project: Project, make_images: MakeImages
) -> None:
    items = make_images(range(10))
    assert project.extract(items[:7]).computed == 7
    summary = project.extract(items)
    assert (summary.rows, summary.computed, summary.reused, summary.dim) == (10, 3, 7, 32)
    assert project.path.read_bytes() == project.from_scratch(items)
    assert FeatureCache.open(project.path).content_digest == summary.content_digest
    assert verify_cache(project.path).sound


def test_one_new_one_changed_one_renamed_one_deleted_computes_two(project: Project, make_images: MakeImages) -> None:
    old = make_images(range(8))
    project.extract(old)
    before = project.path.read_bytes()
    (project.images / "5.png").rename(project.images / "renamed.png")
    changed, new = make_images(range(100, 102))
    items = [*old[:4], (old[5][0], "renamed.png"), *old[6:], changed, new]  # 4 deleted, 7 stays
    assert project.extract(items).computed == 2
    assert project.path.read_bytes() == project.from_scratch(items)
    shutil.move(project.images / "renamed.png", project.images / "5.png")
    assert project.extract(old).computed == 0
    assert project.path.read_bytes() == before


def test_touched_files_are_not_computed_again(project: Project, make_images: MakeImages) -> None:
    items = make_images(range(5))
    project.extract(items)
    for path in project.images.iterdir():
        os.utime(path, (0, 0))
    assert project.extract(items).computed == 0


def test_identical_files_are_one_row(project: Project, make_images: MakeImages) -> None:
    items = make_images(range(3))
    shutil.copy(project.images / "0.png", project.images / "copy.png")
    assert project.extract([*items, (items[0][0], "copy.png")]).rows == 3


def test_from_recipe_to_recipe_and_back_computes_nothing(project: Project, make_images: MakeImages) -> None:
    items = make_images(range(5))
    squash = project.recipe.model_copy(update={"fit": "squash"})
    project.extract(items)
    before = project.path.read_bytes()
    assert project.extract(items, squash).computed == 5
    assert project.extract(items).computed == 0
    assert project.path.read_bytes() == before
    project.path.unlink()
    assert project.extract(items, squash).computed == 0


@pytest.mark.slow
def test_native_batches_by_shape_and_gives_the_bytes_from_scratch(project: Project, make_images: MakeImages) -> None:
    from mirip.data.decoding import decode_image
    from mirip.features.backbones.backbone import DINOv2FeatureExtractor

    native = project.recipe.model_copy(update={"fit": "native", "image_size": 56})
    items = make_images(range(40))  # of many shapes: no batch of 4 is full of what came in a row
    assert project.extract(items[:13], native).computed == 13
    assert project.extract(items, native).computed == 27
    assert project.path.read_bytes() == project.from_scratch(items, native)
    extractor, cache = DINOv2FeatureExtractor.from_recipe(native, "cpu"), FeatureCache.open(project.path, native)
    for sha256, name in items:
        pixels = decode_image((project.images / name).read_bytes()).pixels
        np.testing.assert_allclose(cache.rows([sha256]), extractor(extractor.transform(pixels)[None]), atol=2e-3)


@pytest.mark.parametrize("fit", ["pad", "native"])
def test_every_batch_has_the_full_size_whatever_is_in_it(
    project: Project, make_images: MakeImages, monkeypatch: pytest.MonkeyPatch, fit: str
) -> None:
    from mirip.features.backbones.backbone import DINOv2FeatureExtractor

    received: list[torch.Size] = []
    forward = DINOv2FeatureExtractor.forward

    def noted(extractor: DINOv2FeatureExtractor, images: torch.Tensor) -> torch.Tensor:
        received.append(images.shape)
        return forward(extractor, images)

    monkeypatch.setattr(DINOv2FeatureExtractor, "forward", noted)
    project.extract(make_images(range(10)), project.recipe.model_copy(update={"fit": fit}), batch_size=4)
    assert {shape[0] for shape in received} == {4}
    assert 4 * len(received) > 10  # so that some were padded


def test_another_batch_size_midway_keeps_the_rows_that_are_there(project: Project, make_images: MakeImages) -> None:
    items = make_images(range(10))
    old = [sha256 for sha256, _ in items[:5]]
    project.extract(items[:5], batch_size=4)
    before = FeatureCache.open(project.path).rows(old)
    assert project.extract(items, batch_size=3).computed == 5
    assert FeatureCache.open(project.path).rows(old).tobytes() == before.tobytes()
    assert verify_cache(project.path, project.recipe).sound


@pytest.mark.parametrize("change", [{"revision": "another"}, {"image_size": 41}])
def test_what_changes_no_value_of_a_local_backbone_computes_nothing(
    project: Project, make_images: MakeImages, change: dict[str, object]
) -> None:
    """The revision of a folder, and an image_size of as many whole patches: docs/feature_cache.md says so."""
    items = make_images(range(3))
    project.extract(items)
    changed = project.recipe.model_copy(update=change)
    assert project.extract(items, changed).computed == 0
    assert len(FeatureCache.open(project.path, changed)) == 3


@pytest.mark.slow
def test_images_that_wait_for_their_shape_are_bounded(
    project: Project, make_images: MakeImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mirip.features.extract.local._MOST_WAITING", 2)
    native = project.recipe.model_copy(update={"fit": "native", "image_size": 56})
    items = make_images(range(40))
    assert project.extract(items, native).computed == 40
    monkeypatch.undo()
    assert project.path.read_bytes() == project.from_scratch(items, native)


def test_a_change_that_changes_no_value_computes_nothing(project: Project, make_images: MakeImages) -> None:
    items = make_images(range(5))
    project.extract(items)
    larger = project.recipe.model_copy(update={"image_size": 41})  # the same whole patches
    with pytest.raises(CacheError, match="was built with image_size 28, params say 41"):
        FeatureCache.open(project.path, larger)
    assert project.extract(items, larger).computed == 0
    assert FeatureCache.open(project.path, larger).recipe["image_size"] == 41


def test_the_old_file_fills_a_store_that_was_deleted(project: Project, make_images: MakeImages) -> None:
    items = make_images(range(6))
    project.extract(items[:5])
    shutil.rmtree(project.store)
    assert project.extract(items).computed == 1
    shutil.rmtree(project.store)
    project.path.unlink()
    assert project.extract(items).computed == 6


def test_a_file_that_is_up_to_date_is_left(project: Project, make_images: MakeImages) -> None:
    items = make_images(range(3))
    project.extract(items)
    state = project.path.stat()
    project.extract(list(reversed(items)))
    assert (project.path.stat().st_ino, project.path.stat().st_mtime_ns) == (state.st_ino, state.st_mtime_ns)


def test_a_hard_linked_copy_keeps_its_bytes(project: Project, make_images: MakeImages, tmp_path: Path) -> None:
    items = make_images(range(4))
    project.extract(items[:3])
    os.link(project.path, tmp_path / "in_dvc_cache")
    before = project.path.read_bytes()
    project.extract(items)
    assert (tmp_path / "in_dvc_cache").read_bytes() == before


@pytest.mark.parametrize("where", ["features", "store", "both"])
def test_damage_heals(
    project: Project, make_images: MakeImages, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    items = make_images(range(6))
    digest = project.extract(items).content_digest
    before = project.path.read_bytes()
    shards = list(project.store.rglob("*.h5"))
    damaged = {"features": [project.path], "store": shards, "both": [project.path, *shards]}[where]
    for path in damaged:
        with h5py.File(path, "r+") as file:
            file["features"][2] = 0
    assert project.extract(items).computed == (6 if where == "both" else 0)
    assert project.path.read_bytes() == before
    assert FeatureCache.open(project.path).content_digest == digest
    assert len(list(project.store.rglob("*.h5"))) == 1
    assert "is damaged" in capsys.readouterr().err or where == "features"


def test_an_image_that_changed_since_prepare_is_named(project: Project, make_images: MakeImages) -> None:
    items = make_images(range(6))
    Image.new("RGB", (20, 20)).save(project.images / "2.png")
    with pytest.raises(DataError, match=r"^2\.png .*changed since; .*: run `dvc repro prepare`"):
        project.extract(items)
    assert not project.path.exists()
    assert project.extract([item for item in items if item[1] != "2.png"]).computed == 0


def test_a_broken_image_is_named_and_loses_nothing(project: Project, make_images: MakeImages) -> None:
    items = make_images(range(6))
    (project.images / "3.png").unlink()
    with pytest.raises(ImageError, match=r"^3\.png is missing.*the other 5 new images are kept") as caught:
        project.extract(items)
    assert caught.value.kind == "missing"
    assert project.extract([item for item in items if item[1] != "3.png"]).computed == 0


def test_an_image_above_the_limit_is_named(project: Project, make_images: MakeImages) -> None:
    with pytest.raises(ImageError, match=r"0\.png is too large.*and 1 more"):
        project.extract(make_images(range(2)), max_image_pixels=50)


@pytest.mark.parametrize("damaged", ["row_crc32", "content_xxh3"])
def test_damaged_checksums_heal_though_the_rows_are_sound(
    project: Project, make_images: MakeImages, damaged: str
) -> None:
    items = make_images(range(3))
    project.extract(items)
    before = project.path.read_bytes()
    if damaged == "row_crc32":
        with h5py.File(project.path, "r+") as file:
            file["row_crc32"][1] ^= 1
    else:
        set_attributes(project.path, **{damaged: "0" * 32})
    project.extract(items)
    assert project.path.read_bytes() == before


def test_an_extraction_leaves_its_listing_and_its_rate(project: Project, make_images: MakeImages) -> None:
    items = make_images(range(20))
    summary = project.extract(items)
    assert last_extraction(project.path) == summary
    assert last_listing(project.path) == {path: sha256 for sha256, path in items}
    (rate,) = known_rates(summary.fingerprint)
    assert (rate.device, rate.images) == ("cpu", 20)
    assert 0 < rate.seconds < summary.seconds
    project.extract(items[:18])
    assert known_rates(summary.fingerprint) == [rate]


def test_no_images_is_an_error(project: Project) -> None:
    with pytest.raises(DataError, match="no image"):
        project.extract([])


def test_features_that_float16_cannot_hold_are_named(
    project: Project, make_images: MakeImages, dinov2: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(dinov2, tmp_path / "loud")
    tensors = load_file(folder / "model.safetensors")
    tensors["layernorm.weight"] = tensors["layernorm.weight"] * 1e6
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    loud = project.recipe.model_copy(update={"backbone": str(folder)})
    items = make_images(range(2))
    with pytest.raises(CacheError, match=r"0\.png has features that are not finite.*stored_dtype to float32"):
        project.extract(items, loud)
    project.extract(items, loud.model_copy(update={"stored_dtype": "float32"}))
    assert np.abs(FeatureCache.open(project.path).features).max() > 65504


def test_a_backbone_that_is_not_the_pinned_one_is_refused(project: Project, make_images: MakeImages) -> None:
    pinned = project.recipe.model_copy(update={"weights_sha256": "0" * 64})
    with pytest.raises(BackboneError, match="the recipe pins 0000"):
        project.extract(make_images(range(2)), pinned)


def test_a_store_that_cannot_be_written_leaves_the_old_file(project: Project, make_images: MakeImages) -> None:
    items = make_images(range(3))
    project.extract(items[:2])
    before = project.path.read_bytes()
    blocked = project.store.with_name("blocked")
    blocked.write_text("")
    with pytest.raises(OSError, match="blocked"):
        project.extract(items, store_root=blocked)
    assert project.path.read_bytes() == before


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_computed(
    project: Project, make_images: MakeImages, capfd: pytest.CaptureFixture[str]
) -> None:
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("signals reach the main thread only")
    items = make_images(range(50))

    def press() -> None:
        deadline = time.monotonic() + 30
        while not list(project.store.glob("*/*.h5")) and time.monotonic() < deadline:
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        project.extract(items, batch_size=1)
    thread.join()
    said = capfd.readouterr().err
    kept = int(said.split("stopped with ")[1].split()[0])
    assert "run the same command again to go on" in said
    assert 0 < kept < 50
    assert project.extract(items, batch_size=1).reused == kept
    assert project.path.read_bytes() == project.from_scratch(items, batch_size=1)


SCRIPT = """
import sys
from pathlib import Path
from mirip.features.extract.extraction import extract_features
from mirip.params import Recipe
folder, backbone, batch_size = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
items = [tuple(line.split()) for line in (folder / "items.txt").read_text().splitlines()]
print("ready", flush=True)
summary = extract_features(items, image_root=folder / "images", path=folder / "features/tiny.h5", device="cpu",
    recipe=Recipe(backbone=backbone, image_size=28, compute_dtype="float32"), batch_size=batch_size,
    store_root=folder / ".mirip/store")
print(summary.computed)
"""


MEMORY_SCRIPT = """
import sys
from pathlib import Path
from mirip.features.extract.extraction import extract_features
from mirip.params import Recipe
folder, backbone = Path(sys.argv[1]), sys.argv[2]
for n in map(int, sys.argv[3:]):
    items = [tuple(line.split()) for line in (folder / "items.txt").read_text().splitlines()][:n]
    summary = extract_features(items, image_root=folder / "images", path=folder / f"{n}.h5", device="cpu",
        visible=False, recipe=Recipe(backbone=backbone, image_size=448, compute_dtype="float32"),
        store_root=folder / str(n))
    assert summary.computed == n
    lines = Path("/proc/self/status").read_text().splitlines()
    print(*[1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="its own peak of memory is told on Linux alone")
def test_memory_is_flat_whatever_the_number_of_images(
    project: Project, make_images: MakeImages, make_dinov2: Callable[..., Path], tmp_path: Path
) -> None:
    """The fitted images of the larger extraction would take 180 MB more, their files and features next to nothing.

    One process does the smaller and then the larger: its peak of memory only grows.
    """
    n, image_bytes = 100, 3 * 448 * 448
    folder, backbone = project.images.parent, make_dinov2(tmp_path / "patches", patch_size=56, image_size=448)
    (folder / "items.txt").write_text("\n".join(" ".join(item) for item in make_images(range(4 * n))))
    command = [sys.executable, "-c", MEMORY_SCRIPT, str(folder), str(backbone), str(n), str(4 * n)]
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    smaller, larger = map(int, said.split())
    assert larger - smaller < n * image_bytes  # a third of what it has more


def start_process(project: Project, items: Items, batch_size: int) -> Forked:
    folder = project.images.parent
    (folder / "items.txt").write_text("\n".join(" ".join(item) for item in items))
    return Forked(folder, extract, str(folder), project.recipe.backbone, batch_size)


def kill_when(process: Forked, condition: Callable[[], bool]) -> str:
    """Kill it, and return what it wrote to stderr."""
    while process.runs() and not condition():
        time.sleep(0.001)
    process.kill()
    return process.end()[2]


def rows_kept(project: Project) -> int:
    """Count the rows that the store holds, as a killed process left it."""
    keys: set[bytes] = set()
    for path in project.store.glob("*/*.h5"):
        with h5py.File(path) as file:
            keys |= set(file["image_sha256"][...].tolist())
    return len(keys)


@pytest.mark.slow
def test_kill_9_loses_at_most_a_batch(project: Project, make_images: MakeImages) -> None:
    items = make_images(range(100))
    kill_when(start_process(project, items, 2), lambda: len(list(project.store.glob("*/*.h5"))) >= 9)
    kept = rows_kept(project)
    assert not project.path.exists()
    assert 18 <= kept < 100
    summary = project.extract(items, batch_size=2)
    assert (summary.reused, summary.computed) == (kept, 100 - kept)
    assert project.path.read_bytes() == project.from_scratch(items, batch_size=2)
    assert project.files() == {"tiny.h5", f"{summary.fingerprint}.lock"}


@pytest.mark.slow
def test_ten_kills_at_random_moments_end_in_the_same_bytes(project: Project, make_images: MakeImages) -> None:
    items = make_images(range(400))
    rng = np.random.default_rng(0)
    kept = rows_kept(project)
    for _ in range(10):
        shards, n_new = set(project.store.glob("*/*.h5")), rng.integers(1, 8)
        process = start_process(project, items, 4)
        # A number of batches, not of seconds: a fast machine would be through before the last kill.
        while process.runs() and len(set(project.store.glob("*/*.h5")) - shards) < n_new:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.01))
        process.kill()
        _, _, said = process.end()
        assert f"extract: {400 - kept} of 400 images go through" in said  # all that was kept is reused
        assert rows_kept(project) > kept
        kept = rows_kept(project)
    assert kept < 400
    assert not project.path.exists()
    summary = project.extract(items)
    assert summary.reused == kept
    assert project.path.read_bytes() == project.from_scratch(items)
    assert project.files() == {"tiny.h5", f"{summary.fingerprint}.lock"}


@pytest.mark.slow
def test_kills_while_files_are_written_and_compacted_lose_no_row(
    project: Project, make_images: MakeImages, tmp_path: Path
) -> None:
    """All rows stand in the store in many parts; an old file holds a quarter of them.

    The first extraction ends undisturbed: it tells how long one takes here, on a busy machine too.
    """
    items, rng = make_images(range(80)), np.random.default_rng(0)
    old = project.from_scratch(items[:20])
    for number in range(0, 80, 4):
        part = Project(tmp_path / str(number), project.recipe)
        part.images = project.images
        part.extract(items[number : number + 4])
        shutil.copytree(part.store, project.store, dirs_exist_ok=True)
    expected = project.from_scratch(items)
    start_state = shutil.copytree(project.store, tmp_path / "start_state")
    seen: set[tuple[bool, bool]] = set()
    window_s = 120.0
    for number in range(25):
        shutil.rmtree(project.store)
        shutil.copytree(start_state, project.store)
        project.path.parent.mkdir(exist_ok=True)
        project.path.write_bytes(old)
        process = start_process(project, items, 4)
        process.wait_until_said("ready\n")
        started = time.monotonic()
        deadline = started + (window_s if number == 0 else rng.uniform(0, window_s))
        while process.runs() and time.monotonic() < deadline:
            time.sleep(0.001)
        process.kill()
        if "0" in process.end()[1]:
            window_s = min(window_s, time.monotonic() - started)  # it had ended: not that late
        assert project.path.read_bytes() in (old, expected)
        assert rows_kept(project) == 80
        seen.add((project.path.read_bytes() == expected, len(list(project.store.glob("*/*.h5"))) == 1))
        summary = project.extract(items)
        assert summary.computed == 0
        assert project.path.read_bytes() == expected
        assert project.files() == {"tiny.h5", f"{summary.fingerprint}.lock"}
        assert len(list(project.store.glob("*/*.h5"))) == 1
    assert {(False, False), (True, True)} <= seen


@pytest.mark.slow
def test_two_processes_compute_each_row_once(project: Project, make_images: MakeImages) -> None:
    items = make_images(range(60))
    processes = [start_process(project, items, 4) for _ in range(2)]
    outputs = [process.end() for process in processes]
    assert sorted(int(out.split()[1]) for _, out, _ in outputs) == [0, 60]
    assert project.path.read_bytes() == project.from_scratch(items)


def test_two_at_once_compute_each_row_once(project: Project, make_images: MakeImages) -> None:
    items = make_images(range(20))
    computed: list[int] = []
    threads = [threading.Thread(target=lambda: computed.append(project.extract(items).computed)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(computed) == [0, 20]


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_workers_and_company_change_no_bit(project: Project, make_images: MakeImages, workers: int) -> None:
    items = make_images(range(9))
    project.extract(list(reversed(items)), workers=workers)
    assert project.path.read_bytes() == project.from_scratch(items)


@pytest.mark.slow
def test_nothing_missing_loads_no_torch(project: Project, make_images: MakeImages) -> None:
    items = make_images(range(4))
    project.extract(items)
    code = SCRIPT + "\nprint('torch' in sys.modules)"
    (project.images.parent / "items.txt").write_text("\n".join(" ".join(item) for item in items))
    command = [sys.executable, "-c", code, str(project.images.parent), project.recipe.backbone, "4"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["ready", "0", "False"]


def test_the_store_is_in_the_main_repository_by_default(
    project: Project, make_images: MakeImages, main_repository: Path
) -> None:
    summary = project.extract(make_images(range(2)), store_root=None)
    assert (private_folder().store / summary.fingerprint).is_dir()
    assert private_folder().store == main_repository / ".mirip" / "store"


class Crash(BaseException):
    """The machine stopped."""


@contextmanager
def crash_at(write: int | None, project: Project, cut: float) -> Iterator[None]:
    """Leave the project as a kill -9 at the given write to the disk would, temporary files cut to a part.

    Every write ends in two fsyncs, of the file before it is renamed and of the folder after; that of a part of the
    store in a third, after it got its last name.
    """
    copy, real, count = project.store.parents[1] / "at_the_crash", os.fsync, 0

    def fsync(handle: int) -> None:
        nonlocal count
        real(handle)
        if count == write:
            for folder in filter(Path.is_dir, project.folders()):
                shutil.copytree(folder, copy / folder.name, dirs_exist_ok=True)
            raise Crash
        count += 1

    os.fsync = fsync
    try:
        yield
    except Crash:
        for folder in project.folders():  # not as an exception left them: a killed process cleans nothing up
            shutil.rmtree(folder, ignore_errors=True)
            if (copy / folder.name).is_dir():
                shutil.move(copy / folder.name, folder)
            for path in folder.rglob(".*.tmp"):
                path.write_bytes(path.read_bytes()[: int(cut * path.stat().st_size)])
    finally:
        os.fsync = real
        shutil.rmtree(copy, ignore_errors=True)


def held(project: Project, recipe: Recipe) -> set[str]:
    """Hashes of the images whose rows are anywhere in the store or the recipe's features file, undamaged."""
    fingerprint, found = resolve(recipe).fingerprint, set()
    for path in project.store.glob(f"{fingerprint}/*.h5"):
        if sha256_file(path) == path.stem:
            found |= {key.decode() for key in read_rows(path).keys.tolist()}
    with suppress(CacheError):
        found |= {key.decode() for key in FeatureCache.open(project.path).keys.tolist()}
    return found


def accident_happens(project: Project, accident: str) -> None:
    shards = sorted(project.store.glob("*/*.h5"))
    if accident == "file lost":
        project.path.unlink(missing_ok=True)
    elif accident == "store lost":
        shutil.rmtree(project.store, ignore_errors=True)
    elif (accident == "file damaged" and project.path.exists()) or (accident == "shard damaged" and shards):
        victim = project.path if accident == "file damaged" else shards[0]
        victim.write_bytes(victim.read_bytes()[:-100])


def crashed_at(write: int) -> list[tuple[str, set[int], str, int | None]]:
    return [("pad", {0, 1, 2, 3, 4, 5}, "nothing", write), ("pad", {4, 5, 6}, "nothing", None)]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["pad", "squash"]),
        st.sets(st.integers(0, 9), min_size=1),  # the manifest
        st.sampled_from(["nothing", "nothing", "file lost", "store lost", "file damaged", "shard damaged"]),
        st.none() | st.integers(0, 15),  # the write at which it crashes, if it comes to it
    ),
    min_size=1,
    max_size=5,
)


@pytest.mark.slow
@given(steps=STEPS, cut=st.floats(0, 1))
@example(steps=crashed_at(3), cut=0.5)  # within the second of two parts
@example(steps=crashed_at(6), cut=0.5)  # within the features file, when all rows are in the store
@example(steps=crashed_at(7), cut=0.5)  # when it has its name
@example(steps=crashed_at(8), cut=0.5)  # within the compacted part
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_history_ends_in_the_bytes_from_scratch(
    steps: list[tuple[str, set[int], str, int | None]],
    cut: float,
    make_images: MakeImages,
    recipe: Recipe,
    tmp_path: Path,
) -> None:
    """Whatever was added, deleted, lost, damaged or cut off: nothing that is still held is computed again."""
    pool = make_images(range(10))
    with tempfile.TemporaryDirectory() as folder:
        project = Project(Path(folder), recipe)
        project.images = tmp_path / "images"
        for fit, chosen, accident, crash in [*steps, (*steps[-1][:2], "nothing", None)]:
            items, mine = [pool[i] for i in chosen], recipe.model_copy(update={"fit": fit})
            project.path = project.path.with_name(f"{fit}.h5")
            accident_happens(project, accident)
            before = held(project, mine)
            missing = {sha256 for sha256, _ in items} - before
            summary = None
            with crash_at(crash, project, cut):
                summary = project.extract(items, mine)
            assert held(project, mine) >= before
            if summary is not None:
                assert summary.computed == len(missing)
                assert project.path.read_bytes() == project.from_scratch(items, mine)
                shards = project.store / summary.fingerprint  # what another recipe left goes when its turn comes
                assert not [*shards.glob(".*.tmp"), *project.path.parent.glob(f".{project.path.name}.*")]
