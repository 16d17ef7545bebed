import bz2
import datetime
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mirip.data.table_files import TextTable, cell_text, read_text_table
from mirip.errors import MetadataError

_ROWS = [["image_path", "tier", "학생"], ["가/a.jpg", "S", "김민"], ["b.jpg", "A", "이서"]]


def _text(rows: list[list[str]], delimiter: str = ",") -> str:
    return "".join(delimiter.join(row) + "\r\n" for row in rows)


def _read(data: bytes) -> TextTable:
    return read_text_table(data, "table")


def _rows(table: TextTable) -> list[list[str]]:
    return [table.header, *(list(row) for row in zip(*table.columns, strict=True))]


def _workbook(*sheets: list[list[Any]], merged: str | None = None) -> bytes:
    book, buffer = openpyxl.Workbook(), io.BytesIO()
    for number, rows in enumerate(sheets):
        sheet = book.active if number == 0 else book.create_sheet(f"sheet {number}")
        for row in rows:
            sheet.append(row)
        if merged and number == 0:
            sheet.merge_cells(merged)
    book.save(buffer)
    return buffer.getvalue()


def _parquet(columns: dict[str, Any], schema: dict[str, pa.DataType] | None = None) -> bytes:
    buffer = io.BytesIO()
    arrays = {name: pa.array(values, (schema or {}).get(name)) for name, values in columns.items()}
    pq.write_table(pa.table(arrays), buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("encoding", "notice"),
    [
        ("utf-8", None),
        ("utf-8-sig", None),
        ("utf-16", "UTF-16"),
        ("utf-16-le", "UTF-16"),
        ("utf-16-be", "UTF-16"),
        ("cp949", "CP949"),
    ],
)
def test_every_usual_encoding_is_recognised_and_said(encoding: str, notice: str | None) -> None:
    table = _read(_text(_ROWS).encode(encoding))
    assert _rows(table) == _ROWS
    assert [notice in text for text in table.notices] == ([True] if notice else [])


@pytest.mark.parametrize(
    ("delimiter", "notice"), [(",", None), (";", "semicolons"), ("\t", "tabs"), ("|", "vertical bars")]
)
@pytest.mark.parametrize("told", [False, True])
def test_every_usual_separator_is_recognised_and_said(delimiter: str, notice: str | None, told: bool) -> None:
    table = _read(((f"sep={delimiter}\r\n" if told else "") + _text(_ROWS, delimiter)).encode())
    assert _rows(table) == _ROWS
    assert [notice in text for text in table.notices] == ([True] if notice else [])


def test_a_separator_within_quotes_is_none() -> None:
    table = _read(b'"image_path, or so; or; that",tier\n"a;b;c.jpg",S\n')
    assert _rows(table) == [["image_path, or so; or; that", "tier"], ["a;b;c.jpg", "S"]]


def test_quotes_line_breaks_and_empty_lines() -> None:
    data = b'image_path,tier,note\n\n"a.jpg",S,"two\nlines, ""quoted"""\n,,\nb.jpg,A,5" wide\n'
    assert _rows(_read(data))[1:] == [["a.jpg", "S", 'two\nlines, "quoted"'], ["b.jpg", "A", '5" wide']]


def test_short_rows_are_filled_and_empty_values_at_the_end_dropped() -> None:
    assert _rows(_read(b"image_path,tier,x\na.jpg,S\nb.jpg,A,1,,\n"))[1:] == [["a.jpg", "S", ""], ["b.jpg", "A", "1"]]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf\n \n", "is empty"),
        (
            b"a,b\n1,2\n3,4,5,6\n",
            "has 4 values in line 3 and 2 columns: put a value that holds the separator in quotes",
        ),
        (b'a,b\n1,2\n"3,4\n5,6\n', "cannot be read as CSV: line 4: unexpected end of data"),
        (
            "image_path,tier\nHélène.jpg,S\n".encode("latin-1"),
            r"neither UTF-8, UTF-16 nor CP949 \(line 2 has the byte 0xe9\)",
        ),
        ("a,b\n작,품\n".encode("utf-16")[:-3], "is damaged"),
        (bytes(range(256)), "is not a table"),
        (b'{"image_path": "a.jpg", "tier": "S"}\n', "is JSON, not a table that is read: save the table as CSV"),
        (b'\n[{"image_path": "a.jpg"}]', "is JSON, not a table that is read"),
        (b"<html><table><tr><td>image_path", "is a web page or XML.*save the table as CSV"),
        (b"%PDF-1.4", "is a PDF document"),
        (b",,,\n,,\n", "is empty"),
        (b"{\\rtf1\\ansi", "is an RTF document"),
        (b"MIME-Version: 1.0\n", "is a web page"),
        ('{"image_path": 1}'.encode("utf-16"), "is JSON"),
        ("<html>".encode("utf-16"), "is a web page"),
        (b"SQLite format 3\0" + bytes(40), "is an SQLite database"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "is an image"),
        (b"PAR1 and then nothing of use", "cannot be read as Parquet"),
        (b"PK\3\4" + bytes(40), "is packed and cannot be read"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "that cannot be read.*take its password away"),
        (gzip.compress(b"a,b\n1,2\n", mtime=0)[:-9], "is packed and damaged"),
        (gzip.compress(bytes(range(256)) * 4, mtime=0)[:40] + bytes(40), "is packed and damaged"),
        (bz2.compress(b"a,b\n1,2\n" * 99)[:-9], "is packed and damaged"),
    ],
)
def test_what_cannot_be_read_is_one_line_with_what_to_do(data: bytes, message: str) -> None:
    with pytest.raises(MetadataError, match=f"^table .*{message}") as caught:
        _read(data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_packed_tables_are_unpacked(pack: Callable[[bytes], bytes]) -> None:
    assert _rows(_read(pack(_text(_ROWS).encode()))) == _ROWS


def test_an_archive_of_one_table_is_unpacked_and_of_more_refused() -> None:
    for names in (["table.csv"], ["table.csv", "__MACOSX/._table.csv"], ["one.csv", "two.csv"]):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name in names:
                archive.writestr(name, _text(_ROWS))
        if names[-1] != "two.csv":
            assert _rows(_read(buffer.getvalue())) == _ROWS
    with pytest.raises(MetadataError, match="is a ZIP archive or another office document"):
        _read(buffer.getvalue())


def test_a_workbook_is_read_as_its_cells_look() -> None:
    day = datetime.date(2024, 3, 1)
    rows = [
        ["image_path", "tier", "id", "date", "done"],
        ["a.jpg", 1, 7.5, day, True],
        ["b.jpg", 2.0, None, None, False],
    ]
    table = _read(_workbook(rows))
    assert _rows(table)[1:] == [["a.jpg", "1", "7.5", "2024-03-01", "true"], ["b.jpg", "2", "", "", "false"]]
    assert table.notices == []


def test_empty_rows_and_columns_of_a_workbook_are_passed_over() -> None:
    rows = [[None] * 5, ["image_path", "tier", None, None], ["a.jpg", "S", None], [None], ["b.jpg", "A", None]]
    assert _rows(_read(_workbook(rows))) == [["image_path", "tier"], ["a.jpg", "S"], ["b.jpg", "A"]]


def test_merged_cells_hold_their_value_in_each_row() -> None:
    rows = [["image_path", "tier", "student"], ["a.jpg", "S", "kim"], ["b.jpg", "A", None], ["c.jpg", "B", "lee"]]
    assert _read(_workbook(rows, merged="C2:C3")).columns[2] == ["kim", "kim", "lee"]


def test_of_several_sheets_the_first_is_read_and_said() -> None:
    table = _read(_workbook([["image_path", "tier"], ["a.jpg", "S"]], [["other"]]))
    assert table.notices == ["it has 2 sheets, the first one is read: Sheet"]
    with pytest.raises(MetadataError, match="is empty"):
        _read(_workbook([]))


def test_ids_that_a_spreadsheet_has_rounded_are_said() -> None:
    table = _read(_workbook([["image_path", "tier", "student"], ["a.jpg", "S", 20241234567890123]]))
    assert "format ids as text there" in table.notices[0]


def test_a_workbook_with_marks_beside_the_table_or_nothing_but_a_space() -> None:
    rows = [["image_path", "tier"], ["a.jpg", "S"]]
    assert _rows(_read(_workbook(rows, merged="E1:F2"))) == rows
    with pytest.raises(MetadataError, match="is empty"):
        _read(_workbook([[" "]]))


def test_cells_without_a_value_are_said() -> None:
    for cell in ("=1+1", "#N/A"):
        table = _read(_workbook([["image_path", "tier", "student"], ["a.jpg", "S", cell]]))
        assert table.columns[2] == [""]
        assert table.notices == [
            "it has cells with an error or a formula without a stored value, which are read as empty"
        ]


def test_a_hidden_sheet_is_the_last_to_be_read() -> None:
    book, buffer = openpyxl.Workbook(), io.BytesIO()
    book.active.append(["old"])
    book.active.sheet_state = "hidden"
    book.create_sheet("works").append(["image_path", "tier"])
    book.save(buffer)
    assert _read(buffer.getvalue()).header == ["image_path", "tier"]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_ids_that_a_floating_point_column_has_rounded_are_said(dtype: str) -> None:
    large = 2**53 if dtype == "float64" else 2**24
    ids = pd.Series([large, large + 2, None], dtype=dtype)
    buffer = io.BytesIO()
    pd.DataFrame({"image_path": list("abc"), "tier": "S", "student": ids, "width": [1.5, 2.0, 3.0]}).to_parquet(buffer)
    assert ["student: large numbers" in text for text in _read(buffer.getvalue()).notices] == [True]
    table = _read(b"image_path,tier,student\na.jpg,S,1.234567890123457E+16\n")
    assert ["1.23E+16" in text for text in table.notices] == [True]


def test_values_that_python_cannot_hold_stop_nothing() -> None:
    columns = {
        "far": pa.array([10**14], pa.timestamp("s")),
        "long_ago": pa.array([-(2**62)], pa.timestamp("us")),
        "day": pa.array([2**30], pa.date32()),
        "span": pa.array([2**62], pa.duration("s")),
        "half": pa.array(np.array([1.5], np.float16)),
        "zoned": pa.array([0], pa.timestamp("s", "Nowhere/At_All")),
        "list": pa.array([[10**14]], pa.list_(pa.timestamp("s"))),
    }
    table = _read(_parquet(columns))
    found = dict(zip(table.header, table.columns, strict=True))
    assert all(len(cells) == 1 and cells[0] for cells in found.values())
    assert (found["half"], found["zoned"]) == (["1.5"], ["1970-01-01"])


@pytest.mark.parametrize("told", ["SEP=;\n", '"sep=;"\n', ""])
def test_what_makes_tier_a_column_is_the_separator(told: str) -> None:
    assert _read(f"{told}image_path;tier;a,b,c,d\nx.jpg;S;1\n".encode()).header == ["image_path", "tier", "a,b,c,d"]
    assert _read(b"sep=;\nimage_path,tier\na.jpg,S\n").header == ["image_path", "tier"]


def test_parquet_of_any_types_is_text_without_loss() -> None:
    columns = {
        "id": [2024123456789012345, None, 2024123456789012346],
        "huge": [2**64 - 1, None, 0],
        "whole": [1.0, None, 2.5],
        "flag": [True, None, False],
        "day": [datetime.date(2024, 3, 1), None, None],
        "time": [datetime.datetime(2024, 3, 1, 12, 30), None, datetime.datetime(2024, 3, 1)],
        "money": [Decimal("1.00"), None, Decimal("2.50")],
        "list": [[1, 2], None, []],
        "bytes": [b"ab", None, b""],
        "kind": pa.array(["x", None, "y"]).dictionary_encode(),
        "name": [" NA ", None, "null"],
    }
    table = _read(_parquet(columns, {"huge": pa.uint64()}))
    found = dict(zip(table.header, table.columns, strict=True))
    assert found["id"] == ["2024123456789012345", "", "2024123456789012346"]
    assert found["huge"] == [str(2**64 - 1), "", "0"]
    assert found["whole"] == ["1", "", "2.5"]
    assert found["flag"] == ["true", "", "false"]
    assert found["day"] == ["2024-03-01", "", ""]
    assert found["time"] == ["2024-03-01 12:30:00", "", "2024-03-01"]
    assert found["money"] == ["1", "", "2.50"]
    assert found["list"] == ["[1, 2]", "", "[]"]
    assert found["kind"] == ["x", "", "y"]
    assert found["name"] == ["NA", "", "null"]


def test_parquet_of_pandas_keeps_two_columns_of_one_name_and_leaves_out_its_index() -> None:
    table = pa.table([pa.array(["a"]), pa.array(["S"]), pa.array(["A"])], names=["image_path", "tier", "tier"])
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    assert _read(buffer.getvalue()).header == ["image_path", "tier", "tier"]
    buffer = io.BytesIO()
    pd.DataFrame({"image_path": ["a"], "tier": ["S"]}, index=[5]).to_parquet(buffer)
    assert _read(buffer.getvalue()).header == ["image_path", "tier"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (float("nan"), ""),
        (pd.NaT, ""),
        (7.0, "7"),
        (7.25, "7.25"),
        (1e300, "1e+300"),
        (float("inf"), "inf"),
        (np.int64(7), "7"),
        (2**70, str(2**70)),
        ("\u3000 a\u200b\ufeff", "a"),
    ],
)
def test_a_value_is_written_as_people_do(value: object, text: str) -> None:
    assert cell_text(value) == text
