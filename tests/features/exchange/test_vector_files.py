from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mirip.errors import DataError
from mirip.features.exchange.vector_files import VECTOR_NAMES, open_vector_file

N, D = 5, 3
NAMES = [f"{number}.png" for number in range(N)]
VECTORS = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)
KINDS = {
    "list": pa.list_(pa.float32()),
    "large list": pa.large_list(pa.float64()),
    "fixed-size list": pa.list_(pa.float32(), D),
    "half floats": pa.list_(pa.float16()),
}


def parquet(path: Path, columns: dict[str, object], **options: object) -> Path:
    pq.write_table(pa.table(columns), path, **options)
    return path


def read(path: Path) -> tuple[str, list[str], np.ndarray]:
    file = open_vector_file(path)
    blocks = list(file.blocks)
    assert file.n_rows == sum(len(names) for names, _ in blocks)
    return file.key_name, [name for names, _ in blocks for name in names], np.concatenate([rows for _, rows in blocks])


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_kind_of_list_of_floats_is_read(kind: pa.DataType, tmp_path: Path) -> None:
    vectors = VECTORS.astype(np.float16) if kind == KINDS["half floats"] else VECTORS
    columns = {"filename": NAMES, "embedding": pa.array(list(vectors), kind)}
    key_name, names, found = read(parquet(tmp_path / "v.parquet", columns, row_group_size=2))
    assert (key_name, names) == ("filename", NAMES)
    assert (found == vectors).all()


@pytest.mark.parametrize("name", VECTOR_NAMES)
def test_every_name_of_the_vectors_is_known_in_both_formats(name: str, tmp_path: Path) -> None:
    parquet(tmp_path / "v.parquet", {"sha256": NAMES, name: list(VECTORS)})
    np.savez(tmp_path / "v.npz", **{"sha256": NAMES, name: VECTORS})
    for ending in ("parquet", "npz"):
        key_name, names, found = read(tmp_path / f"v.{ending}")
        assert (key_name, names) == ("sha256", NAMES)
        assert (found == VECTORS).all()


def test_names_as_bytes_and_as_categories_are_texts(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", image_path=np.array(NAMES, dtype="S"), vector=VECTORS)
    assert read(tmp_path / "v.npz")[1] == NAMES
    parquet(tmp_path / "v.parquet", {"image_path": pa.array(NAMES).dictionary_encode(), "vector": list(VECTORS)})
    assert read(tmp_path / "v.parquet")[1] == NAMES


def test_what_is_said_of_python_objects_mends_the_file(tmp_path: Path) -> None:
    names = np.array(NAMES, dtype=object).astype(str)
    np.savez(tmp_path / "v.npz", sha256=names, vectors=VECTORS.astype(object).astype(float))
    assert read(tmp_path / "v.npz")[1] == NAMES


def test_a_hash_goes_before_a_path(tmp_path: Path) -> None:
    columns = {"image_path": NAMES, "image_sha256": ["h"] * N, "features": list(VECTORS)}
    assert read(parquet(tmp_path / "v.parquet", columns))[0] == "image_sha256"


def test_blocks_are_bounded_whatever_the_row_groups(tmp_path: Path) -> None:
    n = 20_000
    columns = {"sha256": [str(number) for number in range(n)], "vector": list(np.zeros((n, 2), np.float32))}
    file = open_vector_file(parquet(tmp_path / "v.parquet", columns, row_group_size=n))
    sizes = [len(names) for names, _ in file.blocks]
    assert max(sizes) <= 8192
    assert sum(sizes) == n


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"name": NAMES, "vector": list(VECTORS)}, r"names no images: it needs image_sha256 or .*has name, vector"),
        ({"sha256": NAMES, "x": list(VECTORS)}, r"has sha256, x: it needs just one of features, embedding"),
        ({"sha256": NAMES, "vector": list(VECTORS), "embedding": list(VECTORS)}, "embedding and vector: .*just one"),
        ({"sha256": NAMES, "vector": [1.0] * N}, "holds double, not lists of floats"),
        ({"sha256": NAMES, "vector": [["a"]] * N}, "not lists of floats"),
        ({"sha256": list(range(N)), "vector": list(VECTORS)}, "sha256 of .* holds int64, not text"),
        ({"sha256": [*NAMES[1:], None], "vector": list(VECTORS)}, "sha256 of .* has empty places"),
        ({"sha256": NAMES, "vector": [*VECTORS[1:], None]}, "vector of .* has empty places"),
        ({"sha256": NAMES, "vector": [[0.5, None]] * N}, "vector of .* has empty places"),
        ({"sha256": NAMES, "vector": [[0.5], *[[0.5, 1.5]] * (N - 1)]}, "vectors of 1 and of 2 numbers"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_parquet_file_is_said(columns: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read(parquet(tmp_path / "v.parquet", columns))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"vectors": VECTORS}, "names no images"),
        ({"sha256": NAMES, "vectors": VECTORS[1:]}, r"shape \(4, 3\), and there are 5 sha256"),
        ({"sha256": NAMES, "vectors": VECTORS.ravel()}, r"shape \(15,\)"),
        ({"sha256": NAMES, "vectors": np.ones((N, D), int)}, "type int64"),
        (
            {"sha256": np.array(NAMES, dtype=object), "vectors": VECTORS},
            r"^sha256 of .* Python objects, .*: save it with \.astype\(str\)$",
        ),
        (
            {"sha256": NAMES, "vectors": VECTORS.astype(object)},
            r"^vectors of .* Python objects, .*: save it with \.astype\(float\)$",
        ),
    ],
)
def test_what_is_wrong_with_an_npz_file_is_said(arrays: dict[str, np.ndarray], message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", **arrays)
    with pytest.raises(DataError, match=message):
        read(tmp_path / "v.npz")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("v.csv", b"x", "neither .parquet nor .npz"),
        ("v.parquet", b"not a table", "cannot be read"),
        ("v.parquet", b"", "cannot be read"),
        ("v.npz", b"not an archive", "is no .npz file"),
        ("v.npz", b"PK\x05\x06" + bytes(18), "names no images"),
    ],
)
def test_a_file_of_another_kind_is_said(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        open_vector_file(tmp_path / name)


def test_a_file_damaged_in_the_middle_is_an_error_not_a_crash(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(3000, 16)).astype(np.float32)
    columns = {"sha256": [str(n) for n in range(3000)], "vector": list(vectors)}
    path = parquet(tmp_path / "v.parquet", columns, compression="gzip")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 20_000] = bytes(20_000)
    path.write_bytes(data)
    with pytest.raises(DataError, match="cannot be read"):
        read(path)


def test_a_file_that_is_not_here(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not found"):
        open_vector_file(tmp_path / "v.npz")


def test_names_that_are_no_utf_8_are_an_error(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", image_path=np.array([b"\xe9.png"] * N), vector=VECTORS)
    with pytest.raises(DataError, match=r"image_path of .* holds bytes that are no UTF-8"):
        read(tmp_path / "v.npz")
