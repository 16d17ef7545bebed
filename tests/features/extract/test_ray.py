"""The Ray engine on a real Ray: a cluster in miniature, and one that the extraction starts for itself.

The last test ends the cluster's head: whatever else needs the cluster stands before it.
"""

import re
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch
from extraction_project import Items, MakeImages, Project
from object_store import ENVIRONMENT, Bucket, object_store_server
from PIL import Image
from ray_cluster import RayCluster, actors, descendants, interrupt, wait_until_gone

from mirip.data.image_listing import ImageListing, write_listing
from mirip.data.object_store import ObjectStore
from mirip.errors import BackboneError, DataError, EngineError, ImageError
from mirip.features.cache.rows import read_rows
from mirip.files import sha256_bytes
from mirip.params import Recipe

pytestmark = [pytest.mark.slow, pytest.mark.integration]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with object_store_server(tmp_path_factory.mktemp("object_store")) as url:
        yield url


@pytest.fixture(scope="module")
def cluster(server: str) -> Iterator[RayCluster]:
    pytest.importorskip("ray")
    with RayCluster(variables=ENVIRONMENT | {"AWS_ENDPOINT_URL": server}) as running:
        yield running


@pytest.fixture
def on_cluster(cluster: RayCluster, monkeypatch: pytest.MonkeyPatch) -> RayCluster:
    for name, value in (cluster.variables | {"RAY_ADDRESS": cluster.address}).items():
        monkeypatch.setenv(name, value)
    return cluster


@pytest.fixture
def project(tmp_path: Path, recipe: Recipe) -> Project:
    return Project(tmp_path, recipe)


def rows_kept(project: Project) -> int:
    return sum(len(read_rows(path).keys) for path in project.store.glob("*/*.h5"))


def test_on_a_cluster_the_bytes_are_the_same_and_one_broken_file_is_named(
    project: Project,
    make_images: MakeImages,
    server: str,
    on_cluster: RayCluster,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Code, weights, a listing and images in a store all reach workers that have none of them in their own folders."""
    items = make_images(range(400))
    (project.images / "123.png").write_bytes(b"no image")
    items[123] = (sha256_bytes(b"no image"), "123.png")
    bucket = Bucket(server)
    bucket.put_folder(project.images)
    project.images = project.images.parent / "images.parquet"
    write_listing(project.images, ImageListing.of(bucket.url, ObjectStore(bucket.url).objects()))
    with pytest.raises(
        ImageError, match=r"^123\.png is not an image.*the features of the other 399 new images are kept"
    ):
        project.extract(items, engine="ray", actors=2, visible=True)
    said = capsys.readouterr().err
    assert said.startswith(f"extract: connecting to Ray at {on_cluster.address}\n")
    assert f"on cpu, engine ray at {on_cluster.address} with 2 actors" in said
    del items[123]
    assert project.extract(items).computed == 0
    assert project.path.read_bytes() == project.from_scratch(items)


def test_an_actor_that_is_killed_costs_time_alone_and_an_image_that_changed_is_named(
    project: Project, make_images: MakeImages, on_cluster: RayCluster
) -> None:
    """Images of many shapes, so that no batch is full of what came in a row."""
    native = project.recipe.model_copy(update={"fit": "native", "image_size": 56})
    items = make_images(range(250))
    Image.new("RGB", (20, 20)).save(project.images / "7.png")
    kept: list[int] = []

    def kill() -> None:
        while not list(project.store.glob("*/*.h5")):
            time.sleep(0.001)
        actors(on_cluster.processes())[0].kill()
        kept.append(rows_kept(project))

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    with pytest.raises(DataError, match=r"^7\.png .*changed since; .*other 249 new.*: run `dvc repro prepare`"):
        project.extract(items, native, engine="ray", actors=2, batch_size=2)
    thread.join()
    assert 0 < kept[0] < 249
    del items[7]
    assert project.extract(items, native, batch_size=2).computed == 0
    assert project.path.read_bytes() == project.from_scratch(items, native, batch_size=2)


def test_what_no_actor_can_do_is_told_in_one_line(
    project: Project, make_images: MakeImages, on_cluster: RayCluster
) -> None:
    """The cluster promises GPUs: actors are laid out over them, and find none."""
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(BackboneError, match=r"^device is 'cuda' and torch \S+ sees no CUDA device: use auto or cpu$"):
        project.extract(make_images(range(8)), engine="ray", device="auto")


SCRIPT = """
import sys
from pathlib import Path
from mirip.features.extract.extraction import extract_features
from mirip.files import sha256_bytes
from mirip.params import Recipe
from stages import run
folder, backbone = Path(sys.argv[1]), sys.argv[2]
items = [tuple(line.split()) for line in (folder / "items.txt").read_text().splitlines()]
run(lambda: extract_features(items, image_root=folder / "images", path=folder / "features/tiny.h5", device="cpu",
    recipe=Recipe(backbone=backbone, image_size=28, compute_dtype="float32"), batch_size=4,
    store_root=folder / ".mirip/store", engine="ray", actors=1))
"""


def start_alone(project: Project, items: Items, project_root: Path) -> psutil.Popen:
    """Start an extraction in a process of its own, which starts Ray for itself; return when some rows are kept."""
    folder = project.images.parent
    (folder / "items.txt").write_text("\n".join(" ".join(item) for item in items))
    with (folder / "said").open("w") as said:
        process = psutil.Popen(
            [sys.executable, "-c", SCRIPT, str(folder), project.recipe.backbone],
            cwd=project_root, stdout=said, stderr=said, start_new_session=True,
        )  # fmt: skip
    while not list(project.store.glob("*/*.h5")):
        assert process.poll() is None, (folder / "said").read_text()
        time.sleep(0.001)
    return process


def test_ctrl_c_keeps_what_was_computed_and_leaves_no_process(
    project: Project, make_images: MakeImages, project_root: Path
) -> None:
    pytest.importorskip("ray")
    items = make_images(range(500))
    process = start_alone(project, items, project_root)
    started = descendants(process)
    assert any("raylet" in other.name() for other in started)
    interrupt(process)
    assert process.wait(60) == 130
    wait_until_gone(started)
    *before, stopped, last = (project.images.parent / "said").read_text().splitlines()
    assert "extract: stopping when this batch is kept; Ctrl-C again stops at once" in before
    kept = int(re.fullmatch(r"extract: stopped with (\d+) of 500 new images kept: .*", stopped)[1])
    assert last == "interrupted: run the same command again to go on"
    assert 0 < kept < 500
    assert rows_kept(project) == kept


def test_a_driver_that_is_killed_leaves_no_process_and_a_rerun_computes_the_rest(
    project: Project, make_images: MakeImages, project_root: Path
) -> None:
    pytest.importorskip("ray")
    items = make_images(range(500))
    process = start_alone(project, items, project_root)
    started = descendants(process)
    process.kill()
    process.wait(60)
    wait_until_gone(started)
    kept = rows_kept(project)
    assert 0 < kept < 500
    assert project.extract(items, batch_size=4).reused == kept
    assert project.path.read_bytes() == project.from_scratch(items, batch_size=4)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("127.0.0.1:1", r"no Ray cluster answers at RAY_ADDRESS 127\.0\.0\.1:1 \(.*refused\): start its head"),
        ("nowhere.invalid:6379", "no Ray cluster answers at RAY_ADDRESS nowhere.invalid:6379"),
        ("ray://127.0.0.1:10001", "RAY_ADDRESS is 'ray://127.0.0.1:10001', not host:port or auto"),
        ("head", "RAY_ADDRESS is 'head', not host:port or auto"),
    ],
)
def test_a_wrong_address_is_told_at_once(
    project: Project, make_images: MakeImages, monkeypatch: pytest.MonkeyPatch, address: str, said: str
) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", address)
    start = time.monotonic()
    with pytest.raises(EngineError, match=said):
        project.extract(make_images(range(2)), engine="ray")
    assert time.monotonic() - start < 20


def test_what_answers_and_is_not_ray_is_told_and_leaves_no_process(
    project: Project, make_images: MakeImages, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    monkeypatch.setattr("mirip.features.extract.ray._CONNECT_TIMEOUT_S", 4.0)
    address = server.removeprefix("http://")
    monkeypatch.setenv("RAY_ADDRESS", address)
    before = descendants(psutil.Process())
    with pytest.raises(EngineError, match=f"what answers at RAY_ADDRESS {address} gave no answer of Ray for 4 s"):
        project.extract(make_images(range(2)), engine="ray")
    wait_until_gone([process for process in descendants(psutil.Process()) if process not in before])


def test_without_ray_one_line_says_what_to_install(
    project: Project, make_images: MakeImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EngineError, match=r"Ray is not installed: run `uv pip install 'ray\[data\]'`"):
        project.extract(make_images(range(2)), engine="ray")


def test_a_head_that_dies_is_told_in_one_line_and_what_was_computed_is_kept(
    project: Project, make_images: MakeImages, on_cluster: RayCluster
) -> None:
    """The last test of this file: it ends the cluster."""
    items = make_images(range(500))

    def kill() -> None:
        while not list(project.store.glob("*/*.h5")):
            time.sleep(0.001)
        on_cluster.kill_head()

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    with pytest.raises(
        EngineError, match=r"^the Ray cluster at .* died while features were computed: start it and run"
    ):
        project.extract(items, engine="ray", actors=2, batch_size=4)
    thread.join()
    kept = rows_kept(project)
    assert 0 < kept < 500
    assert project.extract(items, batch_size=4).reused == kept
