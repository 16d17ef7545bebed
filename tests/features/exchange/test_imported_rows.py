from pathlib import Path

import numpy as np
import pytest

from mirip.errors import DataError
from mirip.features.exchange.importing import ImportedRows, read_imported_rows
from mirip.features.exchange.vector_files import open_vector_file

KEYS = [f"{number:064x}" for number in (3, 1, 2)]
VECTORS = np.array([[3.0, 1.5], [1.0, -2.0], [2.0, 0.1]], dtype=np.float32)
KNOWN = {"a.png": KEYS[0], "b.png": KEYS[1], "copy of a.png": KEYS[0]}


def import_rows(
    tmp_path: Path,
    *,
    vectors: object = VECTORS,
    dtype: str = "float16",
    skip: bool = False,
    **names: object,
) -> ImportedRows:
    np.savez(tmp_path / "v.npz", vectors=np.array(vectors, dtype=np.float64), **(names or {"sha256": KEYS}))
    return read_imported_rows(open_vector_file(tmp_path / "v.npz"), KNOWN, dtype, skip_unknown=skip, visible=False)


def test_rows_come_sorted_in_the_stored_dtype(tmp_path: Path) -> None:
    imported = import_rows(tmp_path)
    assert imported.keys.tolist() == sorted(key.encode() for key in KEYS)
    assert (imported.dim, imported.skipped) == (2, 0)
    (block,) = imported.blocks(np.arange(3))
    assert block.dtype == np.float16
    assert (block == VECTORS[[1, 2, 0]].astype(np.float16)).all()
    assert (imported.rows(np.array([2])) == VECTORS[[0]]).all()


def test_paths_are_turned_into_hashes(tmp_path: Path) -> None:
    imported = import_rows(tmp_path, vectors=VECTORS[:2], image_path=["b.png", "a.png"])
    assert imported.keys.tolist() == [KEYS[1].encode(), KEYS[0].encode()]
    assert (imported.rows(np.arange(2)) == VECTORS[:2]).all()


def test_unknown_paths_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    names = ["a.png", "x.png", "y.png"]
    with pytest.raises(DataError, match=r"2 of 3 paths .* not in the manifest, the first x\.png.*--skip-unknown"):
        import_rows(tmp_path, filename=names)
    imported = import_rows(tmp_path, filename=names, skip=True)
    assert (len(imported.keys), imported.skipped) == (1, 2)


def test_equal_rows_of_one_image_are_folded_different_ones_an_error(tmp_path: Path) -> None:
    imported = import_rows(tmp_path, vectors=VECTORS[[0, 1, 0]], filename=["a.png", "b.png", "copy of a.png"])
    assert len(imported.keys) == 2
    with pytest.raises(DataError, match=f"two different vectors of the image {KEYS[0]}: keep one"):
        import_rows(tmp_path, filename=["a.png", "b.png", "copy of a.png"])


def test_rows_that_are_equal_once_stored_are_equal(tmp_path: Path) -> None:
    vectors = [[1.0, 0.5], [1.0 + 1e-9, 0.5]]
    assert len(import_rows(tmp_path, vectors=vectors, sha256=[KEYS[0]] * 2).keys) == 1


def test_a_hash_in_capitals_is_the_same_hash(tmp_path: Path) -> None:
    key = "ab" * 32
    assert import_rows(tmp_path, vectors=VECTORS[:1], sha256=[key.upper()]).keys.tolist() == [key.encode()]


@pytest.mark.parametrize("name", ["3", "g" * 64, "a.png"])
def test_what_is_no_sha256_is_said(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"the sha256 '{name}': it must be the sha256 of the image file's bytes"):
        import_rows(tmp_path, vectors=VECTORS[:1], sha256=[name])


def test_what_overflows_float16_names_the_way_out(tmp_path: Path) -> None:
    vectors = VECTORS * [[1], [1], [1e5]]
    with pytest.raises(
        DataError, match=r"of the image 0+2 in .*largest 2e\+05.*set the recipe's stored_dtype to float32"
    ):
        import_rows(tmp_path, vectors=vectors)
    assert import_rows(tmp_path, vectors=vectors, dtype="float32").rows(np.array([1]))[0, 0] == np.float32(2e5)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_said(value: float, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"of the image 0+2 in .* holds NaN or infinity"):
        import_rows(tmp_path, vectors=[[1, 1], [1, 1], [1, value]])


def test_a_file_of_no_rows_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no vector: there is nothing to import"):
        import_rows(tmp_path, vectors=np.empty((0, 4)), sha256=np.array([], dtype="U64"))
    with pytest.raises(DataError, match="holds no vector of a known image"):
        import_rows(tmp_path, vectors=VECTORS[:1], filename=["x.png"], skip=True)


def test_widths_that_differ_between_blocks_are_an_error(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    n, in_a_block = 9000, 8192
    vectors = [[0.5, 1.0]] * in_a_block + [[0.5]] * (n - in_a_block)
    pq.write_table(pa.table({"sha256": [f"{k:064x}" for k in range(n)], "vector": vectors}), tmp_path / "v.parquet")
    with pytest.raises(DataError, match="vectors of 2 and of 1 numbers"):
        read_imported_rows(open_vector_file(tmp_path / "v.parquet"), {}, "float16", visible=False)
