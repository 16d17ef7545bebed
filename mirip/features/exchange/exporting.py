"""A features file in a format that other tools read: Parquet, or .npz."""

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mirip.data.manifest import first_paths, read_manifest
from mirip.errors import DataError
from mirip.features.cache.feature_cache import check_recipe, stored_recipe
from mirip.features.cache.rows import Rows, blocks_of, read_rows
from mirip.files import atomic_path
from mirip.params import Recipe
from mirip.progress import Progress
from mirip.workspace import Workspace

_MANIFEST = Workspace().manifest


class ExportSummary(NamedTuple):
    """How many rows were written, and how wide."""

    rows: int
    dim: int


class _Block(NamedTuple):
    hashes: list[str]
    paths: list[str | None]
    features: NDArray[np.float32]


def export_features(
    features_path: Path | str,
    out: Path | str,
    *,
    recipe: Recipe,
    manifest_path: Path = _MANIFEST,
    visible: bool = True,
) -> ExportSummary:
    """Write a features file as Parquet or .npz, atomically, a block of rows in memory at a time.

    The columns are `image_sha256`, `image_path` (the first one of the manifest with that content; null, in .npz "",
    where there is none) and `features`, float32. Equal features and manifests give equal bytes.

    Args:
        features_path: the features file.
        out: what to write; its ending says in which format. An existing file is replaced.
        recipe: the recipe that the features must be of.
        manifest_path: tells the paths; without it, there are none.
        visible: show progress on stderr.

    Raises:
        DataError: `out` ends in something else.
        CacheError: the features file is missing, damaged, or of another recipe.
        OSError: `out` cannot be written.
    """
    out = Path(out)
    writers: dict[str, Callable[[Path, Rows, Iterator[_Block]], None]] = {
        ".parquet": _write_parquet,
        ".npz": _write_npz,
    }
    if out.suffix not in writers:
        raise DataError(f"{out} ends neither in .parquet nor in .npz", "give a name with one of these two endings")
    rows = read_rows(features_path)
    check_recipe(features_path, stored_recipe(rows.path, rows.attributes), recipe)
    rows.check_digest()
    paths = first_paths(read_manifest(manifest_path)) if manifest_path.is_file() else {}
    with Progress("export", len(rows.keys), "row", visible=visible) as progress, atomic_path(out) as temporary:
        writers[out.suffix](temporary, rows, _blocks(rows, paths, progress))
    return ExportSummary(len(rows.keys), rows.features.shape[1])


def _blocks(rows: Rows, paths: dict[str, str], progress: Progress) -> Iterator[_Block]:
    start = 0
    for block in blocks_of(rows.features):
        hashes = [key.decode() for key in rows.keys[start : start + len(block)].tolist()]
        yield _Block(hashes, [paths.get(sha256) for sha256 in hashes], block.astype(np.float32))
        start += len(block)
        progress.update(len(block))


def _write_parquet(path: Path, rows: Rows, blocks: Iterator[_Block]) -> None:
    dim = rows.features.shape[1]
    said = {f"mirip.{name}": str(rows.attributes[name]) for name in ("fingerprint", "recipe", "content_digest")}
    schema = pa.schema(
        [
            pa.field("image_sha256", pa.string(), nullable=False),
            pa.field("image_path", pa.string()),
            pa.field("features", pa.list_(pa.float32(), dim), nullable=False),
        ],
        metadata=said,
    )
    # a dictionary of floats would only cost time
    with pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=False) as writer:
        for block in blocks:
            features = pa.FixedSizeListArray.from_arrays(pa.array(block.features.reshape(-1)), dim)
            columns = [pa.array(block.hashes, pa.string()), pa.array(block.paths, pa.string()), features]
            writer.write_batch(pa.record_batch(columns, schema=schema))  # a row group each


def _write_npz(path: Path, rows: Rows, blocks: Iterator[_Block]) -> None:
    hashes: list[str] = []
    paths: list[str] = []
    with zipfile.ZipFile(path, "w") as archive:
        with archive.open("features.npy", "w", force_zip64=True) as stream:
            header: dict[str, Any] = {"descr": "<f4", "fortran_order": False, "shape": rows.features.shape}
            np.lib.format.write_array_header_1_0(stream, header)
            for block in blocks:
                stream.write(block.features.tobytes())
                hashes += block.hashes
                paths += [path or "" for path in block.paths]
        for name, texts in (("image_sha256", hashes), ("image_path", paths)):
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, np.array(texts, dtype=np.str_), allow_pickle=False)
