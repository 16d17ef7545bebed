"""Files are written whole or not at all."""

import json
import os
from pathlib import Path

import pytest

from mirip.files import atomic_path, canonical_json, sha256_bytes, sha256_file, write_bytes, write_json
from mirip.workspace import main_root


def write_half_and_fail(path: Path) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"half")
        _ = 1 / 0


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_else(tmp_path) -> None:
    path = tmp_path / "a.bin"
    write_bytes(path, b"old")
    with pytest.raises(ZeroDivisionError):
        write_half_and_fail(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_is_on_disk_before_it_has_its_name_and_its_name_is_when_it_returns(tmp_path, disk_events) -> None:
    write_bytes(tmp_path / "a.bin", b"data")
    inode = (tmp_path / "a.bin").stat().st_ino
    assert disk_events == [("fsync", inode), ("replace", inode), ("fsync", tmp_path.stat().st_ino)]


def test_a_write_creates_the_folder_and_honours_the_umask(tmp_path) -> None:
    path = tmp_path / "new" / "a.bin"
    old = os.umask(0o027)
    try:
        write_bytes(path, b"data")
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o640


def test_json_has_null_where_a_number_is_not_finite(tmp_path) -> None:
    write_json(tmp_path / "a.json", {"x": float("nan"), "y": [float("inf"), 1.5], "z": "é"})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"x": None, "y": [None, 1.5], "z": "é"}
    assert "é" in text


def test_hashes_of_bytes_and_file_agree_with_the_known_value(tmp_path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_bytes(b"abc") == sha256_file(tmp_path / "a") == known


def test_canonical_json_does_not_depend_on_order() -> None:
    assert canonical_json({"b": 1, "a": [2]}) == canonical_json({"a": [2], "b": 1}) == '{"a":[2],"b":1}'


def test_main_root_is_the_repository_or_what_dvc_names(tmp_path, monkeypatch) -> None:
    (tmp_path / "repo" / ".dvc").mkdir(parents=True)
    inner = tmp_path / "repo" / "a" / "b"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    assert main_root() == (tmp_path / "repo").resolve()
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    assert main_root() == tmp_path.resolve()
