import random
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from mirip.data import thumbnails
from mirip.data.tables import write_table
from mirip.data.thumbnails import StoredThumbnails, Thumbnails
from mirip.errors import DataError

_JPEGS = {f"{7 * n % 50:064x}": bytes([n]) * (n + 1) for n in range(50)}


def _gathered(keys: list[str]) -> Thumbnails:
    gathered = Thumbnails()
    for key in keys:
        gathered.add(key, _JPEGS[key])
    return gathered


def test_the_bytes_depend_on_the_thumbnails_alone_and_are_those_of_one_sorted_table(tmp_path: Path) -> None:
    keys = list(_JPEGS)
    twice = random.Random(1).sample(keys + keys[:9], len(keys) + 9)
    _gathered(keys).write(tmp_path / "one")
    _gathered(twice).write(tmp_path / "other")
    write_table(tmp_path / "table", pd.DataFrame(sorted(_JPEGS.items()), columns=["image_sha256", "jpeg"]))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes() == (tmp_path / "table").read_bytes()
    assert len(_gathered(twice)) == len(_JPEGS)


def test_many_are_written_and_read_a_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thumbnails, "_ROWS_AT_ONCE", 8)
    _gathered(list(_JPEGS)).write(tmp_path / "thumbnails.parquet")
    assert pq.ParquetFile(tmp_path / "thumbnails.parquet").num_row_groups == 7
    stored = StoredThumbnails(tmp_path / "thumbnails.parquet")
    assert {key: stored.get(key) for key in _JPEGS} == _JPEGS
    assert stored.get("f" * 64) is None


def test_none_at_all_make_a_table_without_rows(tmp_path: Path) -> None:
    _gathered([]).write(tmp_path / "none")
    assert list(pd.read_parquet(tmp_path / "none")) == ["image_sha256", "jpeg"]
    assert StoredThumbnails(tmp_path / "none").get("0" * 64) is None


def test_they_are_gathered_in_a_folder_and_leave_nothing_there(tmp_path: Path) -> None:
    gathered = Thumbnails(tmp_path / "data")
    gathered.add("0" * 64, b"x")
    assert not list((tmp_path / "data").iterdir())


def test_a_damaged_file_is_named_when_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "thumbnails.parquet"
    _gathered(list(_JPEGS)).write(path)
    stored = StoredThumbnails(path)
    path.write_bytes(path.read_bytes()[:-20])
    for read in (lambda: stored.get("0" * 64), lambda: StoredThumbnails(path)):
        with pytest.raises(DataError, match=r"is damaged.*dvc repro prepare"):
            read()
