import os
from pathlib import Path

import pandas as pd
import pytest

from mirip.data.metadata import read_metadata, require_columns
from mirip.errors import MetadataError


def _csv(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "metadata.csv"
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_reads_csv_with_and_without_byte_order_mark(tmp_path: Path, encoding: str) -> None:
    table = read_metadata(_csv(tmp_path, "image_path,tier,artist\n 가/a.jpg , S ,kim\n", encoding))
    assert list(table.columns) == ["image_path", "tier", "artist"]
    assert table.iloc[0].tolist() == ["가/a.jpg", "S", "kim"]


def test_reads_parquet_whatever_its_name(tmp_path: Path) -> None:
    path = tmp_path / "metadata.data"
    pd.DataFrame({"image_path": ["a.jpg"], "tier": ["S"], "year": [2020]}).to_parquet(path)
    table = read_metadata(path)
    assert table["year"].tolist() == ["2020"]


def test_filename_takes_the_name_image_path(tmp_path: Path) -> None:
    table = read_metadata(_csv(tmp_path, "filename,tier\n007,1\n"))
    assert table.to_dict("list") == {"image_path": ["007"], "tier": ["1"]}


def test_image_path_wins_over_filename(tmp_path: Path) -> None:
    table = read_metadata(_csv(tmp_path, "filename,image_path,tier\nx,a/x.jpg,S\n"))
    assert table["image_path"].tolist() == ["a/x.jpg"]
    assert table["filename"].tolist() == ["x"]


def test_a_tier_may_be_called_na_and_an_empty_one_is_empty(tmp_path: Path) -> None:
    table = read_metadata(_csv(tmp_path, "image_path,tier\na.jpg,NA\nb.jpg,\n"))
    assert table["tier"].tolist() == ["NA", ""]


@pytest.mark.parametrize(
    ("text", "encoding", "message"),
    [
        ("", "utf-8", "is empty"),
        ("image_path,tier\n", "utf-8", "no rows"),
        ("path,tier\na,S\n", "utf-8", r"no column image_path \(or filename\); its columns are: path, tier"),
        ("image_path,grade\na,S\n", "utf-8", "no column tier; its columns are: image_path, grade"),
        ("image_path,tier, tier\na,S,S\n", "utf-8", "more than one column named tier"),
        ("image_path,tier,tier\na,S,A\n", "utf-8", "more than one column named tier"),
        ("image_path,tier,\u1100\u1161,\uac00\na,S,1,2\n", "utf-8", "more than one column named \uac00"),
        ('image_path,tier\n"a.jpg,S\nb.jpg,A,1,2\n', "utf-8", "cannot be read as CSV"),
        ("Image Path,Tier\na,S\n", "utf-8", "no column image_path.*: rename 'Image Path' to image_path"),
        ("file_name,tier\na,S\n", "utf-8", "rename 'file_name' to image_path"),
        ("파일명,등급\na,S\n", "utf-8", "rename '파일명' to image_path"),
        ("image_path,등급\na,S\n", "utf-8", "no column tier.*: rename '등급' to tier"),
        ("image_path,Tier\na,S\n", "utf-8", "rename 'Tier' to tier"),
        ("image_path,ti er,grade\na,S,S\n", "utf-8", "rename 'ti er' or 'grade' to tier"),
        ("imge_path,tier\na,S\n", "utf-8", "rename 'imge_path' to image_path"),
        ("image_path,x\na,S\n", "utf-8", "add a column tier"),
        (
            "Tier,file_name\nS,a\n",
            "utf-8",
            "no column image_path.*and no column tier.*'file_name' to image_path, and rename 'Tier'",
        ),
        ("Image Filename,tier\na,S\n", "utf-8", "rename 'Image Filename' to image_path"),
        ("image_path,평가등급\na,S\n", "utf-8", "rename '평가등급' to tier"),
        ("My exam table,\nimage_path,tier\na,S\n", "utf-8", "the first row of the table holds the names"),
    ],
)
def test_an_unusable_table_is_one_clear_line(tmp_path: Path, text: str, encoding: str, message: str) -> None:
    with pytest.raises(MetadataError, match=message) as caught:
        read_metadata(_csv(tmp_path, text, encoding))
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_say_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(MetadataError, match=r"is not found: set data\.metadata"):
        read_metadata(tmp_path / "nowhere.csv")
    with pytest.raises(MetadataError, match="is a folder"):
        read_metadata(tmp_path)


def test_a_damaged_parquet_file_is_a_metadata_error(tmp_path: Path) -> None:
    path = tmp_path / "metadata.parquet"
    path.write_bytes(b"PAR1 and then nothing of use")
    with pytest.raises(MetadataError, match="cannot be read"):
        read_metadata(path)


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "metadata.csv")
    with pytest.raises(MetadataError, match="is a pipe"):
        read_metadata(tmp_path / "metadata.csv")


def test_what_was_recognised_is_said_with_the_file(tmp_path: Path) -> None:
    notices: list[str] = []
    path = _csv(tmp_path, "image_path;tier\n가.jpg;S\n", "cp949")
    assert read_metadata(path, on_notice=notices.append)["image_path"].tolist() == ["가.jpg"]
    assert [text.partition(": ")[0] for text in notices] == [str(path)] * 2


def test_no_cell_is_guessed_at(tmp_path: Path) -> None:
    table = read_metadata(
        _csv(tmp_path, "image_path,tier,id,note\na.jpg,1,007,NA\nb.jpg,2,18446744073709551616,null\n")
    )
    assert table["id"].tolist() == ["007", "18446744073709551616"]
    assert table["note"].tolist() == ["NA", "null"]


def test_a_separator_at_the_end_of_each_line_makes_no_column(tmp_path: Path) -> None:
    assert list(read_metadata(_csv(tmp_path, "image_path,tier,\na.jpg,S,\n"))) == ["image_path", "tier"]
    table = read_metadata(_csv(tmp_path, "image_path,tier,\na.jpg,S,x\n"))
    assert list(table) == ["image_path", "tier", "column_3"]


def test_names_of_columns_are_compared_in_one_unicode_form(tmp_path: Path) -> None:
    table = read_metadata(_csv(tmp_path, "image_path,tier,\u1100\u1161\na.jpg,S,1\n"))
    assert require_columns(table, ["\u1100\u1161"], "data.group") == ["\uac00"]


def test_a_column_that_is_not_there_is_named_with_those_that_are() -> None:
    table = pd.DataFrame({"image_path": ["a"], "tier": ["S"]})
    with pytest.raises(
        MetadataError,
        match=r"data\.group names the column 'artist'.*it has: image_path, tier: name one of those, or none",
    ):
        require_columns(table, ["tier", "artist"], "data.group")
    with pytest.raises(MetadataError, match=r"such as tier, or none: `dvc exp run -S data\.context=null`"):
        require_columns(table, ["tiers"], "data.context")
