from pathlib import Path

import h5py
import numpy as np
import pytest

from mirip.errors import CacheError
from mirip.features.backbones.recipe import ResolvedRecipe, resolve
from mirip.features.cache.feature_cache import write_cache
from mirip.features.cache.probe import Header, probe
from mirip.params import Recipe


@pytest.fixture(scope="module")
def resolved(dinov2: Path) -> ResolvedRecipe:
    return resolve(Recipe(backbone=str(dinov2), image_size=28, compute_dtype="float32"))


@pytest.fixture
def path(tmp_path: Path, resolved: ResolvedRecipe) -> Path:
    write_cache(tmp_path / "a.h5", [f"{i:064x}" for i in range(3)], np.ones((3, 5)), resolved)
    return tmp_path / "a.h5"


def test_a_header_says_what_the_file_holds(path: Path, resolved: ResolvedRecipe) -> None:
    assert probe([path, path]) == [Header(3, 5, "float16", resolved.fingerprint, resolved.to_dict())] * 2


def test_nothing_to_probe_starts_nothing() -> None:
    assert probe([]) == []


def test_what_cannot_be_opened_is_an_error_among_the_others(path: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.h5").write_bytes(path.read_bytes()[:-200])
    cut, absent, sound = probe([tmp_path / "cut.h5", tmp_path / "absent.h5", path])
    assert isinstance(cut, CacheError)
    assert "cut.h5 is damaged" in str(cut)
    assert isinstance(absent, CacheError)
    assert "is not found" in str(absent)
    assert isinstance(sound, Header)


def test_keys_out_of_order_are_for_others_to_find(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["image_sha256"][...] = file["image_sha256"][...][::-1]
    assert isinstance(probe([path])[0], Header)


def test_names_may_be_of_any_bytes(path: Path, tmp_path: Path) -> None:
    odd = path.rename(tmp_path / "\udcff \u00fc.h5")
    assert isinstance(probe([odd])[0], Header)


@pytest.mark.slow
def test_no_damage_of_the_header_reaches_us(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With HDF5 2.0, one such flip in about 500 crashes the library or has it run for a minute.

    What holds nothing but zeros is room that HDF5 left free, two thirds of a file this small: no flip there is seen.
    """
    monkeypatch.setattr("mirip.features.cache.probe._TIMEOUT_S", 3.0)
    data = path.read_bytes()
    used = [start for start in range(0, len(data), 64) if any(data[start : start + 64])]
    bits = [8 * start + bit for start in used for bit in range(start // 64 % 37, 8 * 64, 37)]
    for bit in bits:
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        (tmp_path / f"{bit}.h5").write_bytes(damaged)
    found = probe([tmp_path / f"{bit}.h5" for bit in bits])
    assert len(found) == len(bits)
    assert any(isinstance(header, CacheError) for header in found)
    assert any(isinstance(header, Header) for header in found)


def test_a_crash_is_damage_and_the_others_are_still_looked_at(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which header crashes the library depends on its version: a child that dies stands in for all of them."""
    child = tmp_path / "child"
    child.write_text(f'#!/bin/sh\nread name\necho "$name" >> {tmp_path}/asked\nkill -SEGV $$\n')
    child.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(child))
    found = probe([path, path])
    assert [str(error) for error in found] == [
        f"{path} is damaged, it crashes the HDF5 library: see `mirip cache verify`, then remove it and run "
        "`dvc repro extract`"
    ] * 2
    assert (tmp_path / "asked").read_text().count("a.h5") == 2


def test_a_hang_is_damage(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child = tmp_path / "child"
    child.write_text("#!/bin/sh\nexec sleep 600\n")
    child.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(child))
    monkeypatch.setattr("mirip.features.cache.probe._TIMEOUT_S", 0.2)
    (found,) = probe([path])
    assert "it hangs the HDF5 library" in str(found)
