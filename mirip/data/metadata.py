"""The metadata table: one row an image, with a path, a tier and whatever else the user keeps, all as text."""

import difflib
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pandas as pd

from mirip.data.table_files import read_text_table
from mirip.errors import MetadataError

# What people call the two columns that a table needs, in small letters without spaces, hyphens and the like.
_CALLED = {
    "image_path": (
        "imagepath", "filename", "file", "filepath", "path", "image", "img", "imagefile", "imagename", "photo", "파일",
        "파일명", "파일이름", "파일경로", "이미지", "이미지파일", "이미지경로", "그림", "그림파일", "사진", "경로",
    ),
    "tier": (
        "tier", "grade", "rank", "class", "label", "level", "rating", "quality", "등급", "티어", "급", "평가", "성적",
        "결과", "판정",
    ),
}  # fmt: skip
_BETWEEN_WORDS = str.maketrans("", "", " _-.")


def read_metadata(path: Path | str, *, on_notice: Callable[[str], None] = lambda text: None) -> pd.DataFrame:
    """Read a metadata table: CSV (UTF-8, UTF-16 or CP949; comma, semicolon or tab), xlsx, xls, ods or Parquet.

    Args:
        path: the file. Its content decides the format, not its name.
        on_notice: called with a sentence for each thing that was recognised and may not be meant.

    Returns:
        The table in its own order, every cell as str without white space at the ends, "" where it is empty. Without
        `image_path`, the column `filename` takes its name.

    Raises:
        MetadataError: the file is missing, empty, of another kind, malformed, or lacks a column.
    """
    path = Path(path)
    found = read_text_table(_read(path), str(path))
    for notice in found.notices:
        on_notice(f"{path}: {notice}")
    names = [unicodedata.normalize("NFC", name).strip() for name in found.header]
    named = [
        (name or f"column_{index}", cells)
        for index, (name, cells) in enumerate(zip(names, found.columns, strict=True), 1)
        if name or any(cells)  # a separator at the end of each line makes no column
    ]
    names = [name for name, _ in named]
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise MetadataError(f"{path} has more than one column named {', '.join(twice)}", "rename or remove one")
    table = pd.DataFrame({name: pd.Series(cells, dtype="str") for name, cells in named})
    if "image_path" not in table and "filename" in table:
        table = table.rename(columns={"filename": "image_path"})
    named_as = {"image_path": "image_path (or filename)", "tier": "tier"}
    if lacking := [column for column in named_as if column not in table]:
        there = list(table.columns)
        raise MetadataError(
            f"{path} has no column {' and no column '.join(named_as[column] for column in lacking)}; "
            f"its columns are: {', '.join(there)}",
            ", and ".join(_renaming(column, there) for column in lacking),
        )
    if table.empty:
        raise MetadataError(f"{path} has a header but no rows", "list at least one image a line")
    return table


def require_columns(metadata: pd.DataFrame, names: Iterable[str], parameter: str) -> list[str]:
    """Check that the columns that a parameter names are there.

    Args:
        metadata: the table.
        names: column names.
        parameter: the parameter that names them, e.g. "data.group".

    Returns:
        Their names in Unicode NFC, as the table has them.

    Raises:
        MetadataError: a column is not in the table.
    """
    wanted = [unicodedata.normalize("NFC", name) for name in names]
    for name in wanted:
        if name not in metadata:
            there = ", ".join(metadata.columns)
            meant = difflib.get_close_matches(name, metadata.columns, n=1)
            raise MetadataError(
                f"{parameter} names the column {name!r}, which the metadata lacks; it has: {there}",
                f"name one of those{f', such as {meant[0]}' if meant else ''}, or none: "
                f"`dvc exp run -S {parameter}=null` in the pipeline",
            )
    return wanted


def _read(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise MetadataError(f"{path} is a folder", "set data.metadata to a CSV, xlsx or Parquet file")
        if path.exists() and not path.is_file():
            raise MetadataError(f"{path} is a pipe or a device, not a file", "set data.metadata to a file")
        return path.read_bytes()
    except FileNotFoundError:
        raise MetadataError(f"{path} is not found", "set data.metadata to your CSV, xlsx or Parquet file") from None
    except OSError as error:
        raise MetadataError(f"{path} cannot be read: {error.strerror or error}") from None


def _renaming(column: str, there: Sequence[str]) -> str:
    """Advise which column may be meant."""
    plain = {
        name: unicodedata.normalize("NFKC", name).casefold().translate({ord(c): None for c in " _-."}) for name in there
    }
    near = [name for name in there if plain[name] in _CALLED[column]]
    near = near or [name for name in there if any(word in plain[name] for word in _CALLED[column] if _is_telling(word))]
    near = near or [name for name in there if difflib.get_close_matches(plain[name], _CALLED[column][:1], cutoff=0.75)]
    if near:
        return f"rename {' or '.join(repr(name) for name in near)} to {column}"
    return f"add a column {column} (the first row of the table holds the names of its columns)"


def _is_telling(word: str) -> bool:
    """Tell whether a name that only holds the word is likely to mean it."""
    return len(word) >= (2 if word > "가" else 4)
