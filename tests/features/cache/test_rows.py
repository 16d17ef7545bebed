import resource
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from row_files import set_attributes
from seeded_rows import ATTRIBUTES, made, write

from mirip.errors import CacheError
from mirip.features.cache.checksums import content_digest, row_checksums
from mirip.features.cache.rows import Gathering, as_keys, blocks_of, read_rows, write_rows


def test_what_is_written_is_read(tmp_path: Path) -> None:
    rows = read_rows(write(tmp_path / "a.h5", [1, 2, 3]))
    keys, features = made([1, 2, 3])
    assert (rows.keys == keys).all()
    assert (rows.features == features).all()
    rows.check_digest()


def test_the_digest_does_not_know_the_container(tmp_path: Path) -> None:
    rows = read_rows(write(tmp_path / "a.h5", [1, 2, 3]))
    keys, features = made([1, 2, 3])
    assert rows.attributes["content_digest"] == content_digest(keys, [features[:1], features[1:]])


def test_equal_content_gives_equal_bytes_however_it_is_cut(tmp_path: Path) -> None:
    keys, features = made(list(range(50)))
    for name, blocks in (("a.h5", [features]), ("other_name.h5", [features[:7], features[7:40], features[40:]])):
        write_rows(tmp_path / name, keys, blocks, dim=5, dtype="float16", attributes=ATTRIBUTES)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "other_name.h5").read_bytes()


def test_a_writer_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", [1])
    before = path.read_bytes()
    keys, features = made([1, 2])

    def failing() -> object:
        yield features[:1]
        raise OSError(28, "No space left on device")

    with pytest.raises(CacheError, match="No space left on device"):
        write_rows(path, keys, failing(), dim=5, dtype="float16", attributes=ATTRIBUTES)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_without_room_is_one_clear_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", [1])
    before = path.read_bytes()
    keys, features = made(list(range(1000)))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (80_000, hard))  # a limit on files stands in for a full disk
    try:
        with pytest.raises(CacheError, match=r"File too large.*an old file there is as it was"):
            write_rows(path, keys, blocks_of(features), dim=5, dtype="float16", attributes=ATTRIBUTES)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kept", [0, 10, 500, 2000])
def test_a_truncated_file_is_damaged(tmp_path: Path, kept: int) -> None:
    path = write(tmp_path / "a.h5", list(range(100)))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CacheError, match="is damaged"):
        read_rows(path)


def test_a_missing_file_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="run `dvc repro extract`, or `dvc pull extract`"):
        read_rows(tmp_path / "a.h5")


def test_a_row_has_the_checksum_of_its_key_and_its_bytes(tmp_path: Path) -> None:
    rows = read_rows(write(tmp_path / "a.h5", [1, 2, 3]))
    keys, features = made([1, 2, 3])
    expected = [zlib.crc32(key + row.tobytes()) for key, row in zip(keys.tolist(), features, strict=True)]
    assert rows.crc32.tolist() == expected
    assert row_checksums(keys, features).tolist() == expected
    assert row_checksums(keys[:0], features[:0]).tolist() == []


def test_what_is_loaded_is_hashed_as_it_comes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", list(range(100)))
    rows = read_rows(path)
    assert rows.load().tobytes() == made(list(range(100)))[1].tobytes()
    data = bytearray(path.read_bytes())
    data[rows.offset + 999] ^= 1
    path.write_bytes(data)
    with pytest.raises(CacheError, match=r"digest .*: see `mirip cache verify`, then remove it and run `dvc repro ext"):
        rows.load()
    path.write_bytes(data[: rows.offset + 500])
    with pytest.raises(CacheError, match="ends 500 bytes too early"):
        rows.load()


def test_keys_in_any_order_are_read_when_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", [1, 2, 3])
    with h5py.File(path, "r+") as file:
        file["image_sha256"][...] = file["image_sha256"][...][::-1]
    assert read_rows(path, any_order=True).keys.tolist() == made([1, 2, 3])[0].tolist()[::-1]


def test_swapped_keys_are_damage(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", [1, 2, 3])
    with h5py.File(path, "r+") as file:
        file["image_sha256"][...] = file["image_sha256"][...][::-1]
    with pytest.raises(CacheError, match="not sorted"):
        read_rows(path)


def test_another_schema_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", [1])
    set_attributes(path, schema_version=99)
    with pytest.raises(CacheError, match="schema version 99"):
        read_rows(path)


def test_a_file_of_another_kind_is_damaged(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["something"] = [1, 2]
    with pytest.raises(CacheError, match="is damaged"):
        read_rows(tmp_path / "a.h5")


def test_rows_are_gathered_from_several_files_in_key_order(tmp_path: Path) -> None:
    gathering = Gathering(made([1, 2, 3, 4, 9])[0])
    for name, seeds in (("a.h5", [2, 3, 7]), ("b.h5", [1, 3, 9]), ("c.h5", [20])):
        gathering.add(read_rows(write(tmp_path / name, seeds)))
    assert gathering.missing.tolist() == made([4])[0].tolist()
    gathering.add(read_rows(write(tmp_path / "d.h5", [4])))
    assert (np.concatenate(list(gathering.blocks())) == made([1, 2, 3, 4, 9])[1]).all()


def test_nothing_can_be_gathered_for_no_keys(tmp_path: Path) -> None:
    gathering = Gathering(as_keys([]))
    gathering.add(read_rows(write(tmp_path / "a.h5", [1])))
    assert not len(gathering.missing)
