from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pytest
from row_files import flipped, make_old, zeroed

from mirip.errors import CacheError
from mirip.features.backbones.recipe import ResolvedRecipe, resolve
from mirip.features.cache import old_files, rows
from mirip.features.cache.feature_cache import FeatureCache, Header, read_headers, write_cache
from mirip.params import Recipe


@pytest.fixture(scope="module")
def resolved(dinov2: Path) -> ResolvedRecipe:
    return resolve(Recipe(backbone=str(dinov2), image_size=28, compute_dtype="float32"))


@pytest.fixture
def path(tmp_path: Path, resolved: ResolvedRecipe) -> Path:
    write_cache(tmp_path / "a.h5", [f"{i:064x}" for i in range(3)], np.ones((3, 5)), resolved)
    make_old(tmp_path / "a.h5")
    return tmp_path / "a.h5"


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A script in the place of the child."""
    child = tmp_path / "child"
    child.touch(0o755)
    monkeypatch.setattr("sys.executable", str(child))
    return child


def test_a_header_says_what_the_file_holds(path: Path, resolved: ResolvedRecipe) -> None:
    assert read_headers([path, path]) == [Header(3, 5, "float16", resolved.fingerprint, resolved.to_dict())] * 2


def test_what_cannot_be_opened_is_an_error_among_the_others(path: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.h5").write_bytes(path.read_bytes()[:-200])
    cut, absent, sound = read_headers([tmp_path / "cut.h5", tmp_path / "absent.h5", path])
    assert isinstance(cut, CacheError)
    assert "cut.h5 is damaged" in str(cut)
    assert isinstance(absent, CacheError)
    assert "is not found" in str(absent)
    assert isinstance(sound, Header)


def test_keys_out_of_order_are_for_others_to_find(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["image_sha256"][...] = file["image_sha256"][...][::-1]
    assert isinstance(read_headers([path])[0], Header)


def test_names_may_be_of_any_bytes(path: Path, tmp_path: Path) -> None:
    odd = path.rename(tmp_path / "\udcff \u00fc.h5")
    assert isinstance(read_headers([odd])[0], Header)


@pytest.mark.slow
def test_no_damage_reaches_us(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With HDF5 2.0, one flip in about 50 of a heap of strings has the library run for ever."""
    impatient = tmp_path / "impatient.py"
    source = Path(old_files.hdf5_child.__file__).read_text(encoding="utf-8")
    assert "_CPU_S = 1 " in source
    impatient.write_text(source.replace("_CPU_S = 1 ", "_CPU_S = 0 "), encoding="utf-8")
    monkeypatch.setattr(old_files.hdf5_child, "__file__", str(impatient))
    values = FeatureCache.open(path).features
    data = path.read_bytes()
    paths = [tmp_path / f"{i}.h5" for i in range(100)]
    for copy, damaged in zip(paths, [*flipped(data, 80, 0), *zeroed(data, 20, 0)], strict=True):
        copy.write_bytes(damaged)
    forms = dict(zip(paths, old_files.forms_by_child(paths), strict=True))  # a child for many, not for each
    monkeypatch.setattr(rows, "forms_by_child", lambda asked: [forms[copy] for copy in asked])
    found = read_headers(paths)
    assert any(isinstance(header, CacheError) for header in found)
    for copy, header in zip(paths, found, strict=True):
        if isinstance(header, Header):
            with suppress(CacheError):
                assert (FeatureCache.open(copy).features == values).all()


def test_a_crash_is_damage_and_the_others_are_still_looked_at(path: Path, tmp_path: Path, child: Path) -> None:
    """Which header crashes the library depends on its version: a child that dies stands in for all of them."""
    child.write_text(f'#!/bin/sh\nread name\necho "$name" >> {tmp_path}/asked\nkill -SEGV $$\n')
    found = read_headers([path, path])
    assert [str(error) for error in found] == [
        f"{path} is damaged, it crashes or hangs the HDF5 library: see `mirip cache verify`, then remove it and run "
        "`dvc repro extract`"
    ] * 2
    assert (tmp_path / "asked").read_text().count("a.h5") == 2


def test_a_library_that_computes_for_ever_is_ended(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = tmp_path / "slow.py"
    source = Path(old_files.hdf5_child.__file__).read_text(encoding="utf-8")
    slow.write_text(source.replace("    import h5py\n    import numpy as np\n", "    while True:\n        pass\n"))
    monkeypatch.setattr(old_files.hdf5_child, "__file__", str(slow))
    (found,) = read_headers([path])
    assert "it crashes or hangs the HDF5 library" in str(found)


def test_a_child_that_says_nothing_is_given_up(path: Path, child: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child.write_text("#!/bin/sh\nexec sleep 600\n")
    monkeypatch.setattr(old_files, "_TIMEOUT_S", 0.2)
    (found,) = read_headers([path])
    assert "it hangs the HDF5 library" in str(found)
    with pytest.raises(CacheError, match="hangs"):
        FeatureCache.open(path)
