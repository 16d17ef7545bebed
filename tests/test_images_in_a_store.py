"""Images in an object store: read from a real server, and through a proxy that fails, cuts off, changes and delays."""

import asyncio
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from faulty_proxy import Fault, Proxy, Request, no_fault, proxy_to
from object_store import ENVIRONMENT, Bucket, object_store_server
from PIL import Image
from pipeline_clone import clone

from mirip.cli.main import main
from mirip.data import object_store
from mirip.data.freshness import look_for_changes
from mirip.data.image_listing import ImageListing, read_listing, write_listing
from mirip.data.image_source import ImageSource, image_source, read_unchanged
from mirip.data.manifest import Prepared, build_manifest, first_paths
from mirip.data.object_store import ObjectStore
from mirip.data.tables import write_table
from mirip.errors import DataError, ImageError, MiripError, StoreError
from mirip.features.cache.rows import read_rows
from mirip.features.extract.extraction import extract_features
from mirip.features.extract.spot_check import reextract
from mirip.files import sha256_bytes
from mirip.params import Params, Recipe

pytestmark = pytest.mark.slow

KEEPS_FAILING = pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault(status=503), r"is unavailable \(503 Service Unavailable\): check the network"),
        (Fault(lost=True), r"is unavailable \(no answer\): check the network"),
        (Fault(kept=0.5), r"is unavailable \(answers break off\): check the network"),
        (Fault(status=403), r"access to s3://\S+ is denied \(403 Forbidden\): set AWS_ACCESS_KEY_ID"),
        (Fault(status=401), r"access to s3://\S+ is denied \(401 Unauthorized\): set AWS_ACCESS_KEY_ID"),
        (Fault(status=301), "is in another region: set AWS_REGION"),
        (Fault(status=400), r"refuses what it is asked for \(400 Bad Request\)"),
    ],
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with object_store_server(tmp_path_factory.mktemp("object_store")) as url:
        yield url


@pytest.fixture(autouse=True)
def environment(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("AWS_", "GOOGLE_", "AZURE_"))]:
        monkeypatch.delenv(name)
    for name, value in (ENVIRONMENT | {"AWS_ENDPOINT_URL": server, "DVC_ROOT": str(tmp_path)}).items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def bucket(server: str, environment: None) -> Bucket:
    return Bucket(server)


@pytest.fixture
def proxy(server: str, monkeypatch: pytest.MonkeyPatch, environment: None) -> Iterator[Proxy]:
    """A proxy that the store is reached by; it has no faults yet."""
    with proxy_to(server) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of 40 images, of which one is broken."""
    folder = tmp_path / "images"
    folder.mkdir()
    for n in range(40):
        rng = np.random.default_rng(n)
        height, width = rng.integers(10, 40, size=2)
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(folder / f"{n:02}.png")
    (folder / "07.png").write_bytes((folder / "07.png").read_bytes()[:300])
    return folder


def table(n: int = 40) -> pd.DataFrame:
    """All images, and rows that no place has images for."""
    names = [f"{k:02}.png" for k in range(n)] + ["gone.png", "../outside.png"]
    return pd.DataFrame({"image_path": names, "tier": [("A", "B")[k % 2] for k in range(len(names))]})


def prepared(location: Path | str, n: int = 40) -> Prepared:
    return build_manifest(table(n), location, tiers=["A", "B"], workers=2)


def first_only(fault: Fault, every: int = 1) -> Callable[[Request], Fault]:
    """Let the first answer to every n-th distinct GET of an object fail."""
    seen: dict[str, int] = {}
    lock = threading.Lock()

    def happens(request: Request) -> Fault:
        with lock:
            number = len(seen)
            is_first = seen.setdefault(request.digest, number) == number and request.digest not in happened
            happened.add(request.digest)
        return fault if is_first and is_object(request) and number % every == 0 else Fault()

    happened: set[str] = set()
    return happens


def is_object(request: Request) -> bool:
    return request.method == "GET" and "list-type" not in request.path


def times_read(proxy: Proxy) -> Counter[str]:
    """How often each object was asked for."""
    return Counter(request.path for request in proxy.requests if is_object(request))


def test_an_object_is_found_by_any_form_of_its_name(bucket: Bucket) -> None:
    stored = ["a.jpg", "sub/b c.jpg", "p%20q.jpg", "h#x?y+z&.jpg", unicodedata.normalize("NFD", "학생/가.jpg")]
    for name in stored:
        bucket.put(name, name.encode())
    source: ImageSource = pickle.loads(pickle.dumps(image_source(bucket.url)))
    for name in stored:
        assert source.read(name) == source.read(f"./{name}") == name.encode()
        assert source.read(unicodedata.normalize("NFC", name)) == name.encode()
    with source.reading([unicodedata.normalize("NFC", name) for name in stored]) as read:
        assert read("학생/가.jpg") == stored[-1].encode()


@pytest.mark.parametrize("kind", ["folder", "store", "listing"])
def test_what_is_refused_is_refused_wherever_images_are(kind: str, bucket: Bucket, tmp_path: Path) -> None:
    (tmp_path / "root" / "sub").mkdir(parents=True)
    for name in ("IMG_1.JPG", "sub/a.jpg"):
        (tmp_path / "root" / name).write_bytes(b"abc")
    bucket.put_folder(tmp_path / "root")
    listing = tmp_path / "images.parquet"
    write_listing(listing, ImageListing.of(bucket.url, ObjectStore(bucket.url).objects()))
    source = image_source({"folder": tmp_path / "root", "store": bucket.url, "listing": listing}[kind])
    refused = {
        "../secret.jpg": "outside", "sub/../../secret.jpg": "outside", "sub\\..\\..\\secret.jpg": "outside",
        "/etc/passwd": "outside", "C:\\secret.jpg": "outside", "nowhere.jpg": "missing", "sub": "missing",
        "": "missing", ".": "missing", "a\0b.jpg": "missing", "x" * 300: "missing",
    }  # fmt: skip
    for relative, expected in refused.items():
        with pytest.raises(ImageError) as caught:
            source.read(relative)
        assert caught.value.kind == expected, relative
    with pytest.raises(ImageError, match=r"is missing.* has IMG_1\.JPG, write the name as it is there"):
        source.read("img_1.jpg")
    assert sorted(source.below()) == ["IMG_1.JPG", "sub/a.jpg"]
    assert source.sizes(["sub/a.jpg", "nowhere.jpg"]) == [3, -1]
    assert not source.unavailable()


def test_a_listing_is_read_without_asking_for_what_it_lacks(bucket: Bucket, proxy: Proxy, tmp_path: Path) -> None:
    bucket.put("a.jpg", b"abc")
    write_listing(tmp_path / "images.parquet", ImageListing.of(bucket.url, ObjectStore(bucket.url).objects()))
    proxy.requests.clear()
    source = image_source(tmp_path / "images.parquet")
    with pytest.raises(ImageError):
        source.read("b.jpg")
    assert source.sizes(["a.jpg"]) == [3]
    assert not proxy.requests
    assert source.read("a.jpg") == b"abc"


def test_many_objects_are_read_at_once(bucket: Bucket, proxy: Proxy) -> None:
    names = [f"{n}.jpg" for n in range(80)]
    for name in names:
        bucket.put(name, name.encode())
    refused = [f"../{name}" for name in names]  # no such thing is waited for
    barrier = threading.Barrier(object_store.AT_ONCE)
    together = iter(range(object_store.AT_ONCE))

    def fault(request: Request) -> Fault:
        if next(together, None) is not None:
            barrier.wait(timeout=60)  # broken where fewer are under way
        return Fault()

    proxy.fault = fault
    with image_source(bucket.url).reading([*refused, *names]) as read:
        assert [read(name) for name in names] == [name.encode() for name in names]
    assert set(times_read(proxy).values()) == {1}


def test_what_is_read_ahead_is_bounded_and_still_comes_in_any_order(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{n}.jpg" for n in range(60)]
    for name in names:
        bucket.put(name, name.encode() * 1000)
    monkeypatch.setattr(object_store, "_READ_AHEAD_BYTES", 5000)  # one of them
    with image_source(bucket.url).reading(names) as read:
        for name in [*names[50:20:-1], *names[:21], *names[51:], names[3]]:
            assert read(name) == name.encode() * 1000


@pytest.mark.parametrize(
    "fault",
    [Fault(status=503), Fault(status=500), Fault(status=429), Fault(lost=True), Fault(kept=0.3)],
    ids=["503", "500", "429", "lost", "cut"],
)
def test_what_fails_once_is_read_again(fault: Fault, bucket: Bucket, proxy: Proxy) -> None:
    names, content = [f"{n}.jpg" for n in range(8)], os.urandom(200_000)
    for name in names:
        bucket.put(name, name.encode() + content)
    proxy.fault = first_only(fault)
    with ObjectStore(bucket.url).reading(names) as reading:
        for name in names:
            assert reading.get(name).data == name.encode() + content
    assert set(times_read(proxy).values()) == {2}
    ranges = {request.range for request in proxy.requests if request.range}
    assert bool(ranges) == (fault.kept is not None), "what came of a body is not asked for again"


def test_what_stays_silent_is_asked_for_again(bucket: Bucket, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.put("a.jpg", b"abc")
    monkeypatch.setattr(object_store, "_SILENCE_S", 1.0)
    answered = threading.Event()

    def fault(request: Request) -> Fault:
        if len(proxy.requests) == 1:
            answered.wait(60)
        return Fault()

    proxy.fault = fault
    assert ObjectStore(bucket.url).get("a.jpg").data == b"abc"
    answered.set()
    assert len(proxy.requests) > 1


def test_a_body_that_was_changed_on_its_way_is_read_once_more(bucket: Bucket, proxy: Proxy) -> None:
    bucket.put("a.jpg", b"abcdefgh")
    read = image_source(bucket.url).read
    proxy.fault = first_only(Fault(flipped=True))
    assert read_unchanged(read, "a.jpg", sha256_bytes(b"abcdefgh")) == b"abcdefgh"
    proxy.fault = lambda request: Fault(flipped=True)
    proxy.requests.clear()
    with pytest.raises(DataError, match="changed since: run `dvc repro prepare`"):
        read_unchanged(read, "a.jpg", sha256_bytes(b"abcdefgh"))
    assert len(proxy.requests) == 2


@KEEPS_FAILING
def test_a_store_that_keeps_failing_is_one_line_and_no_rejected_row(
    fault: Fault, said: str, bucket: Bucket, proxy: Proxy, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_store, "PATIENCE_S", 0.5)
    bucket.put_folder(images)
    proxy.fault = lambda request: fault if is_object(request) else Fault()
    with pytest.raises(StoreError, match=said) as caught:
        prepared(bucket.url)
    proxy.fault = lambda request: fault
    assert image_source(bucket.url).unavailable() == caught.value.problem, "a listing that fails says the same"
    assert "\n" not in str(caught.value)
    for secret in (ENVIRONMENT["AWS_ACCESS_KEY_ID"], ENVIRONMENT["AWS_SECRET_ACCESS_KEY"], "Signature"):
        assert secret not in str(caught.value)


def test_a_bucket_that_is_not_there_and_missing_credentials_are_named(
    server: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = str(tmp_path / "images.parquet")
    assert main(["list-images", "s3://nowhere/set", "--output", output]) == 1
    assert capsys.readouterr().err.startswith("error: s3://nowhere/set is not found: the store has no such bucket")
    monkeypatch.setattr(object_store, "_FIRST_CONTACT_S", 1.0)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):  # one is not enough, and without both there is none
        monkeypatch.delenv(name)
        assert main(["list-images", "s3://nowhere/set", "--output", output]) == 1
        said = capsys.readouterr().err
        assert said.startswith("error: there are no credentials for s3://nowhere/set: set AWS_ACCESS_KEY_ID")
    assert not Path(output).exists()
    source = image_source("s3://nowhere/set")
    with pytest.raises(StoreError):
        source.read("a.jpg")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3://key:s3cr3t@bucket/set", "holds credentials: leave them out"),
        ("s3://bucket/set?X-Amz-Signature=s3cr3t", r"has a '\?' or '#'"),
        ("http://example.com/set", "is no URL of an object store: give a folder, or bucket and prefix behind s3://"),
        ("s3://", "is no URL of an object store"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_its_secrets(url: str, said: str) -> None:
    with pytest.raises(MiripError, match=said) as caught:
        image_source(url).check()
    assert "s3cr3t" not in str(caught.value)


def test_an_object_that_is_far_too_large_is_refused_and_not_read(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put("a.tif", bytes(2_000_000))
    monkeypatch.setattr(object_store, "MAX_BYTES", 1_000_000)
    with pytest.raises(ImageError, match=r"is too large: 0\.0 GB is more than") as caught:
        image_source(bucket.url).read("a.tif")
    assert caught.value.kind == "too_large"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_process_that_was_forked_after_a_read_says_so_and_does_not_hang(bucket: Bucket) -> None:
    bucket.put("a.jpg", b"abc")
    code = (
        "import os, sys\nfrom mirip.data.image_source import image_source\n"
        "source = image_source(sys.argv[1])\nsource.read('a.jpg')\n"
        "if os.fork() == 0:\n    try:\n        source.read('a.jpg')\n"
        "    except Exception as error:\n        print(error, flush=True)\n    os._exit(0)\nos.wait()\n"
    )
    said = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, bucket.url], capture_output=True, text=True, timeout=120
    )
    assert "was forked after its parent had read: start processes by spawn" in said.stdout


def test_a_process_that_ends_right_after_a_read_ends_as_it_would_without(bucket: Bucket) -> None:
    """Several at once, so that each has to wait for its threads; one in five would abort at its end."""
    bucket.put("a.jpg", b"abc")
    code = "import sys; from mirip.data.object_store import ObjectStore; ObjectStore(sys.argv[1]).get(sys.argv[2])"
    ends = {"a.jpg": 0, "gone.jpg": 1}
    command = [sys.executable, "-c", code, bucket.url]
    started = [(subprocess.Popen([*command, name], stderr=subprocess.DEVNULL), ends[name]) for name in [*ends] * 5]
    assert [process.wait(timeout=120) for process, _ in started] == [code for _, code in started]


class Project:
    """Where features of images go."""

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        self.folder, self.recipe = folder, recipe

    def extract(self, manifest: pd.DataFrame, location: Path | str, name: str) -> int:
        """Extract features, and return how many were computed."""
        return extract_features(
            first_paths(manifest).items(),
            image_root=location,
            recipe=self.recipe,
            path=self.folder / f"{name}.h5",
            store_root=self.folder / f"store-{name}",
            batch_size=4,
            device="cpu",
            visible=False,
            remember=False,
        ).computed

    def bytes(self, name: str) -> bytes:
        return (self.folder / f"{name}.h5").read_bytes()


@pytest.fixture
def project(tmp_path: Path, dinov2: Path) -> Project:
    return Project(tmp_path, Recipe(backbone=str(dinov2), image_size=28, compute_dtype="float32"))


def test_a_store_with_faults_gives_the_same_bytes_as_the_folder(
    bucket: Bucket, proxy: Proxy, images: Path, project: Project, tmp_path: Path
) -> None:
    bucket.put_folder(images)
    from_disk = prepared(images)
    write_table(tmp_path / "disk.parquet", from_disk.manifest)
    assert project.extract(from_disk.manifest, images, "disk") == 39
    faults = [Fault(status=503), Fault(late_s=0.5), Fault(kept=0.5), Fault(late_s=0.5), Fault(lost=True)]
    turns = [first_only(fault, every=5 + k) for k, fault in enumerate(faults)]
    proxy.fault = lambda request: next((found for turn in turns if (found := turn(request)) != Fault()), Fault())
    from_store = prepared(bucket.url)
    assert max(times_read(proxy).values()) <= 1 + len(faults)
    assert from_store.rejected.equals(from_disk.rejected.replace(r"no such file", "no such object", regex=True))
    from_store.thumbnails.write(tmp_path / "store_thumbnails")
    from_disk.thumbnails.write(tmp_path / "disk_thumbnails")
    assert (tmp_path / "store_thumbnails").read_bytes() == (tmp_path / "disk_thumbnails").read_bytes()
    assert from_store.counts == from_disk.counts
    assert from_store.notices == from_disk.notices
    write_table(tmp_path / "store.parquet", from_store.manifest)
    assert (tmp_path / "store.parquet").read_bytes() == (tmp_path / "disk.parquet").read_bytes()
    turns[:] = [first_only(fault, every=4 + k) for k, fault in enumerate(faults)]
    proxy.requests.clear()
    assert project.extract(from_store.manifest, bucket.url, "store") == 39
    assert project.bytes("store") == project.bytes("disk")
    assert max(times_read(proxy).values()) <= 1 + len(faults)
    assert not any("list-type" in request.path for request in proxy.requests), "every image is where it was"


def test_an_extraction_outlives_a_store_that_was_away(
    bucket: Bucket, proxy: Proxy, images: Path, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put_folder(images)
    manifest = prepared(images).manifest
    monkeypatch.setattr(object_store, "PATIENCE_S", 60.0)
    came = iter(range(10))
    back = threading.Event()

    def fault(request: Request) -> Fault:
        if next(came, None) is not None or back.is_set():
            return Fault()
        for timer in once:
            timer.start()
        return Fault(lost=True)

    once = iter([threading.Timer(1.5, back.set)])
    proxy.fault = fault
    assert project.extract(manifest, bucket.url, "store") == 39
    assert back.is_set()


def test_a_store_that_stays_away_ends_an_extraction_and_what_was_computed_is_kept(
    bucket: Bucket, proxy: Proxy, images: Path, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put_folder(images)
    manifest = prepared(images).manifest
    monkeypatch.setattr(object_store, "PATIENCE_S", 1.0)
    came = iter(range(36))
    proxy.fault = lambda request: Fault() if next(came, None) is not None else Fault(lost=True)
    small = project.recipe.model_copy(update={"fit": "squash"})
    project.recipe = small
    with pytest.raises(StoreError, match="features that were computed are kept"):
        project.extract(manifest, bucket.url, "store")
    proxy.fault = no_fault
    assert 0 < project.extract(manifest, bucket.url, "store") < 39


def test_rows_are_verified_without_a_store_and_a_note_says_so(
    bucket: Bucket, images: Path, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put_folder(images)
    listing = tmp_path / "images.parquet"
    assert main(["list-images", bucket.url, "--output", str(listing)]) == 0
    manifest = prepared(listing).manifest
    project.extract(manifest, listing, "store")
    data = {"images": str(listing), "metadata": "m.csv"}
    extract = {"recipe": "tiny", "batch_size": 4, "device": "cpu"}
    params = Params.model_validate({"data": data, "extract": extract, "recipes": {"tiny": project.recipe}})
    rows = read_rows(tmp_path / "store.h5")
    found = reextract(rows, params, first_paths(manifest), 2, 0)
    assert "2 rows extracted again: 2 have the same bytes" in found.notes
    monkeypatch.setattr(object_store, "PATIENCE_S", 0.5)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    found = reextract(rows, params, first_paths(manifest), 2, 0)
    assert found.sound
    assert found.notes == [f"no row is extracted again: {bucket.url} is unavailable (no connection)"]


@pytest.mark.parametrize("what", ["prepare", "extract"])
def test_ctrl_c_while_images_are_waited_for_ends_at_once(
    what: str, bucket: Bucket, proxy: Proxy, images: Path, project: Project
) -> None:
    """The store has 120 s to come back, and nobody wants to wait for them."""
    bucket.put_folder(images)
    manifest = prepared(images).manifest
    once = iter([threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))])

    def fault(request: Request) -> Fault:
        if is_object(request):
            for press in once:
                press.start()
            return Fault(lost=True)
        return Fault()

    proxy.fault = fault
    start = time.monotonic()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background job ignores
    try:
        with pytest.raises(KeyboardInterrupt):
            prepared(bucket.url) if what == "prepare" else project.extract(manifest, bucket.url, "store")
    finally:
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - start < 60
    deadline = time.monotonic() + 10
    while asyncio.all_tasks(object_store._running_loop()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not asyncio.all_tasks(object_store._running_loop()), "nothing is asked for any more"


def test_a_listing_changes_exactly_when_an_object_does(
    bucket: Bucket, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "images.parquet"
    for name in ("b.jpg", "a.jpg", "sub/c.jpg"):
        bucket.put(name, name.encode())

    def listed() -> str:
        assert main(["list-images", bucket.url, "--output", str(path)]) == 0
        return capsys.readouterr().out.strip()

    assert listed() == f"{path}: 3 objects, 19 B"
    first, time_of_first = path.read_bytes(), path.stat().st_mtime_ns
    assert main(["list-images", f"{bucket.url}/", "--output", str(path)]) == 0
    assert capsys.readouterr().out.strip().endswith(" B, unchanged")
    bucket.put("a.jpg", b"a.jpg")  # the same again
    assert listed().endswith(" B, unchanged")
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (first, time_of_first)
    bucket.put("a.jpg", b"A.jpg")  # of the same size
    bucket.put("d.jpg", b"d")
    bucket.delete("b.jpg")
    assert listed().endswith("since it was listed last, 1 new, 1 changed, 1 gone")
    assert [entry.path for entry in map(read_listing(path).find, ["a.jpg", "d.jpg", "sub/c.jpg"]) if entry]
    assert path.read_bytes() != first


def test_a_damaged_listing_is_to_be_deleted(bucket: Bucket, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "images.parquet"
    bucket.put("a.jpg", b"a")
    path.write_bytes(b"PAR1 and then nothing of use")
    command = ["list-images", bucket.url, "--output", str(path)]
    assert main(command) == 1
    said = "is damaged, and no listing can be read from it: delete it, and write one by `mirip list-images URL"
    assert capsys.readouterr().err.startswith(f"error: {path} {said}")
    path.unlink()
    assert main(command) == 0


@pytest.mark.parametrize("endpoint", ["127.0.0.1:9000", "", "ftp://store"])
def test_an_endpoint_without_its_scheme_is_one_line(
    endpoint: str, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    assert main(["list-images", bucket.url, "--output", "images.parquet"]) == 1
    said = f"error: AWS_ENDPOINT_URL is {endpoint!r}: begin it with http:// or https://, or unset it\n"
    assert capfd.readouterr().err == said


def test_what_changed_since_it_was_listed_is_an_error_and_no_rejected_row(
    bucket: Bucket, images: Path, project: Project, tmp_path: Path
) -> None:
    path = tmp_path / "images.parquet"
    bucket.put_folder(images)
    assert main(["list-images", bucket.url, "--output", str(path)]) == 0
    manifest = prepared(path).manifest
    assert manifest.equals(prepared(images).manifest)
    bucket.put("03.png", (images / "04.png").read_bytes())
    advice = rf"run `mirip list-images {bucket.url} --output {path}`"
    with pytest.raises(DataError, match=f"^03\\.png changed since it was listed: {advice}"):
        prepared(path)
    with pytest.raises(
        DataError, match=rf"03\.png changed since it was listed; the features of the other 38 .*{advice}"
    ):
        project.extract(manifest, path, "store")
    bucket.delete("03.png")
    with pytest.raises(DataError, match=f"^03\\.png is gone since it was listed: {advice}"):
        prepared(path)


def test_changes_in_a_store_are_seen_before_an_extraction(bucket: Bucket, images: Path, tmp_path: Path) -> None:
    bucket.put_folder(images)
    manifest = prepared(bucket.url).manifest
    bucket.put("03.png", b"longer or shorter")
    bucket.delete("04.png")
    found = look_for_changes(manifest, tmp_path / "m", image_source(bucket.url), tmp_path / "metadata.csv")
    assert (found.missing, found.resized, found.first) == (1, 1, "03.png")


@pytest.mark.integration
def test_dvc_runs_prepare_again_exactly_when_an_object_changed(
    bucket: Bucket, images: Path, project_root: Path, tmp_path: Path
) -> None:
    table().to_csv(tmp_path / "metadata.csv", index=False)
    data = {"images": "images.parquet", "metadata": str(tmp_path / "metadata.csv"), "tiers": ["A", "B"]}
    data |= {"group": [], "context": []}
    bucket.put_folder(images)
    copy = clone(project_root, tmp_path / "clone", data=data | {"max_rejected_fraction": 0.2})
    list_images = ["list-images", bucket.url, "--output", str(copy.root / "images.parquet")]
    assert main(list_images) == 0
    assert copy.stages_run(copy.run("dvc", "repro", "prepare")) == ["prepare"]
    assert len(pd.read_parquet(copy.root / "data/manifest.parquet")) == 39
    assert main(list_images) == 0
    assert "prepare" not in yaml.safe_load(copy.run("dvc", "status", "--json", "prepare"))
    bucket.put("03.png", (images / "04.png").read_bytes())
    assert main(list_images) == 0
    assert "images.parquet" in copy.run("dvc", "status", "--json", "prepare")
