import hashlib
import os
import unicodedata
from pathlib import Path

import pandas as pd
import pytest
import yaml

from mirip.data.freshness import Staleness, look_for_changes
from mirip.data.image_source import image_source

NAMES = ["a.png", "folder/b.png", "c.png"]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """Three files of 1, 2 and 3 bytes, and a table older than the manifest."""
    monkeypatch.chdir(tmp_path)
    Path("images/folder").mkdir(parents=True)
    for size, name in enumerate(NAMES, start=1):
        (Path("images") / name).write_bytes(b"x" * size)
    Path("metadata.csv").write_text("image_path,tier\n")
    os.utime("metadata.csv", (1000, 1000))
    Path("manifest.parquet").touch()
    return pd.DataFrame({"image_path": NAMES, "file_bytes": [1, 2, 3]})


def look(manifest: pd.DataFrame) -> Staleness:
    return look_for_changes(manifest, Path("manifest.parquet"), image_source("images"), Path("metadata.csv"))


def test_nothing_changed(data: pd.DataFrame) -> None:
    assert look(data) == Staleness(missing=0, resized=0, first=None, metadata_changed=False)


def test_missing_and_resized_files_are_counted_and_the_first_named(data: pd.DataFrame) -> None:
    Path("images/folder/b.png").write_bytes(b"longer")
    Path("images/c.png").unlink()
    assert look(data) == Staleness(missing=1, resized=1, first="folder/b.png", metadata_changed=False)


def test_a_name_in_another_normal_form_is_found(data: pd.DataFrame) -> None:
    name = unicodedata.normalize("NFD", "\u00fcber.png")
    Path("images", name).write_bytes(b"1234")
    manifest = pd.DataFrame({"image_path": [unicodedata.normalize("NFC", name)], "file_bytes": [4]})
    assert look(manifest).missing == 0


def test_a_table_newer_than_the_manifest_was_changed(data: pd.DataFrame) -> None:
    os.utime("manifest.parquet", (2000, 2000))
    os.utime("metadata.csv", (3000, 3000))
    assert look(data).metadata_changed


def test_a_table_that_dvc_lock_names_was_not_changed_however_new_it_looks(data: pd.DataFrame) -> None:
    os.utime("manifest.parquet", (2000, 2000))
    os.utime("metadata.csv", (3000, 3000))
    md5 = hashlib.md5(Path("metadata.csv").read_bytes()).hexdigest()
    deps = [{"path": "metadata.csv", "hash": "md5", "md5": md5}]
    Path("dvc.lock").write_text(yaml.safe_dump({"stages": {"prepare": {"deps": deps}}}))
    assert not look(data).metadata_changed
    Path("metadata.csv").write_text("image_path,tier\nd.png,S\n")
    assert look(data).metadata_changed


def test_many_images_take_little_time(data: pd.DataFrame) -> None:
    names = [f"{i}.png" for i in range(5000)]
    for name in names:
        Path("images", name).touch()
    assert look(pd.DataFrame({"image_path": names, "file_bytes": [0] * 5000})).first is None
