"""Table files that people have, as text: CSV in any usual encoding, workbooks, Parquet; what a file is, its bytes say.

Nothing guesses a type or a missing value: every cell is text, an empty one is "". Numbers of workbooks and of Parquet
are written as people write them, 7 and not 7.0.
"""

import bz2
import csv
import gzip
import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, time
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mirip.errors import MetadataError

_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_BYTE_ORDER_MARKS = {
    b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe\0\0": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16",
}  # fmt: skip
_WORKBOOKS = ("xl/", "content.xml")  # names in the ZIP archives that xlsx, xlsb and ods files are
_UNPACK: dict[bytes, Callable[[bytes], bytes]] = {
    b"\x1f\x8b": gzip.decompress,
    b"BZh": bz2.decompress,
    b"\xfd7zXZ": lzma.decompress,
}
_OLD_WORKBOOK = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_REFUSED = (
    ((b"{\\rtf",), "is an RTF document"),
    ((b"{", b"["), "is JSON"),
    ((b"<", b"MIME-Version:"), "is a web page or XML, whatever its name says"),
    ((b"ID;P",), "is a SYLK file"),
    ((b"%PDF",), "is a PDF document"),
    ((b"SQLite format 3",), "is an SQLite database"),
    ((b"ARROW1", b"FEA1"), "is an Arrow or Feather file"),
    ((b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"II*\0", b"MM\0*"), "is an image"),
)
_AS_WHAT = "save the table as CSV (UTF-8), xlsx or Parquet"
_HEAD_BYTES = 4096
_EXACT = 1e15  # a spreadsheet keeps 15 digits of a number
_LARGEST_WRITTEN_OUT = 1e18
_ROUNDED = re.compile(r"(?<![\w.])\d\.\d+[eE]\+(?:1[5-9]|[2-9]\d)")
_WITHOUT_VALUE = re.compile(rb't="e"|</f>(?:<v ?/>|<v></v>)?</c>')
csv.field_size_limit(1 << 30)


@dataclass(frozen=True)
class TextTable:
    """A table as it stands in a file.

    Attributes:
        header: the names of the columns, as they are.
        columns: a list of cells a column, all equally long.
        notices: what was recognised and may not be meant, a sentence each.
    """

    header: list[str]
    columns: list[list[str]]
    notices: list[str] = field(default_factory=list)


def read_text_table(data: bytes, name: str) -> TextTable:
    """Read a table of any known kind.

    Args:
        data: the file's bytes.
        name: how messages call the file.

    Returns:
        Its cells as text.

    Raises:
        MetadataError: the file is empty, of another kind, or malformed.
    """
    for signature, unpack in _UNPACK.items():
        if data.startswith(signature):
            try:
                unpacked = unpack(data)
            except (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error) as error:
                raise MetadataError(f"{name} is packed and damaged: {error}", _AS_WHAT) from None
            return read_text_table(unpacked, name)
    if data.startswith(b"PAR1"):
        return _from_parquet(data, name)
    if data.startswith(b"PK\3\4"):
        return _from_archive(data, name)
    if data.startswith(_OLD_WORKBOOK):
        return _from_workbook(data, name)
    _refuse(data[:_HEAD_BYTES], name)
    return _from_csv(data, name)


def _refuse(head: bytes, name: str) -> None:
    """Refuse what is no table by its name; raises MetadataError."""
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    for signatures, what in _REFUSED:
        if start.startswith(signatures):
            raise MetadataError(f"{name} {what}, not a table that is read", _AS_WHAT)


def cell_text(value: object) -> str:
    """Return a value as people write it, without white space at the ends: "" for nothing, 7 for 7.0."""
    if value is None or value != value:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < _LARGEST_WRITTEN_OUT else str(value)
    if isinstance(value, Decimal):
        return str(int(value)) if value == value.to_integral_value() else str(value)
    if isinstance(value, datetime):
        return str(value.date()) if value.time() == time() and value.tzinfo is None else value.isoformat(sep=" ")
    return str(value).strip(_SPACE)


_SPACE = " \t\r\n\f\v\u00a0\u3000\u200b\ufeff"  # and what programs leave at the ends unseen


def _from_csv(data: bytes, name: str) -> TextTable:
    text, notices = _decoded(data, name)
    _refuse(text[:_HEAD_BYTES].encode(), name)  # also what was in UTF-16
    marked = re.match(r'"?sep=(.)"?\r?\n', text, re.IGNORECASE)
    if marked:
        text = text[marked.end() :]
    if not text.strip(_SPACE):
        raise MetadataError(f"{name} is empty", "give it a header with image_path and tier")
    delimiter = marked[1] if marked and marked[1] in text[: text.find("\n")] else _delimiter(text)
    if _ROUNDED.search(text):
        notices.append("it holds numbers such as 1.23E+16, which a spreadsheet has rounded: format ids as text there")
    if delimiter != ",":
        notices.append(f"its columns are separated by {_DELIMITERS.get(delimiter, repr(delimiter))}")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows, lines = [], []
    try:
        for row in reader:
            if any(row):
                rows.append(row)
                lines.append(reader.line_num)
    except csv.Error as error:
        raise MetadataError(
            f"{name} cannot be read as CSV: line {reader.line_num}: {error}", 'write a quote within quotes as ""'
        ) from None
    if not rows:
        raise MetadataError(f"{name} is empty", "give it a header with image_path and tier")
    header, n_columns = rows[0], len(rows[0])
    for row, line in zip(rows, lines, strict=True):
        if len(row) > n_columns and any(row[n_columns:]):
            raise MetadataError(
                f"{name} has {len(row)} values in line {line} and {n_columns} columns",
                "put a value that holds the separator in quotes",
            )
        row[n_columns:] = [""] * (n_columns - len(row))
    return TextTable(header, _columns(rows[1:], n_columns), notices)


def _columns(rows: Sequence[Sequence[str]], n_columns: int) -> list[list[str]]:
    return [[row[index].strip(_SPACE) for row in rows] for index in range(n_columns)]


def _decoded(data: bytes, name: str) -> tuple[str, list[str]]:
    """Decode a text file: UTF-8, UTF-16, or CP949 as Windows writes it in Korea."""
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if data.startswith(mark):
            notices = [] if encoding == "utf-8-sig" else [f"it is read as {encoding.upper()}"]
            return _strictly(data, encoding, name), notices
    if b"\0" in data[:4096]:
        for encoding, zeros in (("utf-16-le", data[1:200:2]), ("utf-16-be", data[0:200:2])):
            if zeros.count(0) > len(zeros) / 2:
                return _strictly(data, encoding, name), ["it is read as UTF-16"]
        raise MetadataError(f"{name} is not a table, it holds bytes that are no text", _AS_WHAT)
    try:
        return data.decode("utf-8"), []
    except UnicodeDecodeError as error:
        byte, line = data[error.start], data.count(b"\n", 0, error.start) + 1
    try:
        text = data.decode("cp949")
        n_hangul = sum("가" <= letter <= "힣" for letter in text)
        # Of the letters that CP949 adds to EUC-KR few are in use: many of them are another encoding's.
        n_rare = n_hangul - sum("가" <= letter <= "힣" for letter in text.encode("euc-kr", "ignore").decode("euc-kr"))
        if n_rare <= n_hangul / 5:
            return text, ["it is read as CP949, the encoding of Korean Windows"]
    except UnicodeDecodeError:
        pass
    raise MetadataError(
        f"{name} is neither UTF-8, UTF-16 nor CP949 (line {line} has the byte {byte:#04x})", "save it as CSV with UTF-8"
    )


def _strictly(data: bytes, encoding: str, name: str) -> str:
    try:
        return data.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise MetadataError(
            f"{name} is damaged: line {line} is no {encoding} text", "save it as CSV with UTF-8"
        ) from None


def _delimiter(text: str) -> str:
    """Return what separates the columns of the header: what makes `tier` a column, or else what it holds most often."""
    header = re.sub(r'"[^"]*"', "", next(line for line in text.splitlines() if line.strip()))

    def fits(delimiter: str) -> tuple[bool, int]:
        return "tier" in [name.strip(_SPACE) for name in header.split(delimiter)], header.count(delimiter)

    return max(_DELIMITERS, key=fits)


def _from_archive(data: bytes, name: str) -> TextTable:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = [each for each in archive.namelist() if not each.endswith("/") and not each.startswith("__MACOSX")]
            if any(each.startswith(_WORKBOOKS) for each in names):
                return _from_workbook(data, name)
            if len(names) == 1:
                return read_text_table(archive.read(names[0]), f"{name} ({names[0]})")
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError, zlib.error) as error:
        raise MetadataError(f"{name} is packed and cannot be read: {error}", _AS_WHAT) from None
    raise MetadataError(f"{name} is a ZIP archive or another office document, not a table that is read", _AS_WHAT)


def _from_workbook(data: bytes, name: str) -> TextTable:
    import python_calamine

    try:
        workbook = python_calamine.load_workbook(io.BytesIO(data))
        sheets = [(each.name, workbook.get_sheet_by_name(each.name)) for each in _visible_first(workbook)]
        filled = [(title, sheet, rows) for title, sheet in sheets if (rows := sheet.to_python(skip_empty_area=False))]
    except (python_calamine.CalamineError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise MetadataError(
            f"{name} is a workbook or another office document that cannot be read ({reason})",
            f"take its password away, or {_AS_WHAT}",
        ) from None
    found = [(title, cells, rows) for title, sheet, rows in filled if (cells := _workbook_cells(sheet, rows))]
    if not found:
        raise MetadataError(f"{name} is empty", "give its first sheet a header with image_path and tier")
    title, cells, rows = found[0]
    notices = [f"it has {len(found)} sheets, the first one is read: {title}"] if len(found) > 1 else []
    if any(isinstance(value, float) and abs(value) >= _EXACT for row in rows for value in row):
        notices.append("it holds numbers of more than 15 digits, which spreadsheets round: format ids as text there")
    if _has_cells_without_value(data):
        notices.append("it has cells with an error or a formula without a stored value, which are read as empty")
    width = max(index + 1 for row in cells for index, text in enumerate(row) if text)
    return TextTable(cells[0][:width], _columns(cells[1:], width), notices)


def _visible_first(workbook: Any) -> list[Any]:
    """Return what is known of the sheets, hidden ones last."""
    from python_calamine import SheetVisibleEnum

    return sorted(workbook.sheets_metadata, key=lambda sheet: sheet.visible != SheetVisibleEnum.Visible)


def _workbook_cells(sheet: Any, rows: Sequence[Sequence[Any]]) -> list[list[str]]:
    """Return the rows of a sheet that hold anything; of merged cells, the first alone holds the value of all."""
    filled = [list(row) for row in rows]
    for (top, left), (bottom, right) in sheet.merged_cell_ranges or []:
        for row in filled[top : bottom + 1]:
            if left < len(row):  # formats reach beyond the table
                row[left : right + 1] = [filled[top][left]] * len(row[left : right + 1])
    return [texts for row in filled if any(texts := [cell_text(value) for value in row])]


def _has_cells_without_value(data: bytes) -> bool:
    """Tell whether an xlsx file has errors, or formulas that no program has worked out."""
    if not zipfile.is_zipfile(io.BytesIO(data)):
        return False
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        sheets = [each for each in archive.namelist() if re.fullmatch(r"xl/worksheets/[^/]*\.xml", each)]
        return any(_WITHOUT_VALUE.search(archive.read(each)) for each in sheets)


def _from_parquet(data: bytes, name: str) -> TextTable:
    try:
        table = pq.ParquetFile(io.BytesIO(data)).read()
        index = _index_columns(table.schema)
        kept = [position for position, column in enumerate(table.column_names) if column not in index]
        columns = [_parquet_cells(table.column(position)) for position in kept]
    except (pa.ArrowException, OSError, ValueError) as error:
        raise MetadataError(f"{name} cannot be read as Parquet: {' '.join(str(error).split())}", _AS_WHAT) from None
    names = [table.column_names[position] for position in kept]
    rounded = [name for name, position in zip(names, kept, strict=True) if _is_rounded(table.column(position))]
    notices = [f"{', '.join(rounded)}: large numbers are stored as floating-point ones, which rounds them: store text"]
    return TextTable(names, columns, notices if rounded else [])


def _index_columns(schema: pa.Schema) -> set[str]:
    """Return the columns in which pandas stored the numbers or names of rows."""
    stored = (schema.pandas_metadata or {}).get("index_columns", [])
    return {name for name in stored if isinstance(name, str) and name.startswith("__index_level_")}


def _parquet_cells(column: Any) -> list[str]:
    """Return the cells of a column as text, also where Python has no such date, or the text of what is stored."""
    if pa.types.is_timestamp(column.type):
        column = _without_zone(column)
    try:
        if not pa.types.is_nested(column.type):
            distinct = column.combine_chunks().dictionary_encode()
            texts = [cell_text(value) for value in distinct.dictionary.to_pylist()]
            return ["" if code is None else texts[code] for code in distinct.indices.to_pylist()]
        return [cell_text(value) for value in column.to_pylist()]
    except (OverflowError, ValueError, AttributeError, pa.ArrowException):
        return ["" if not cell.is_valid else _scalar_text(cell) for chunk in column.chunks for cell in chunk]


def _scalar_text(cell: Any) -> str:
    try:
        return cell_text(cell.as_py())
    except (OverflowError, ValueError, TypeError):
        stored = getattr(cell, "value", None)  # of dates and times: the number that is stored
        return cell_text(stored) if isinstance(stored, int) else "a value that cannot be shown"


def _without_zone(column: Any) -> Any:
    unit = "us" if column.type.unit == "ns" else column.type.unit
    return column.cast(pa.timestamp(unit), safe=False)


def _is_rounded(column: Any) -> bool:
    """Tell whether a floating-point column holds whole numbers that are too large for it."""
    digits = {"double": 53, "float": 24, "halffloat": 11}.get(str(column.type))
    if digits is None:
        return False
    values = column.to_numpy().astype(np.float64)
    values = values[np.isfinite(values)]
    return bool(len(values)) and bool((np.abs(values) >= 2**digits).any()) and bool((values % 1 == 0).all())
