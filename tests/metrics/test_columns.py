from functools import partial

import numpy as np
import pandas as pd
import pytest

from mirip.data.file_data import FILE_DATA
from mirip.errors import ParamsError
from mirip.metrics import columns
from mirip.metrics.columns import Column, column_of

STATISTICS = ("brightness", "contrast", "colourfulness", "edge_density")
shortcut_columns = partial(columns.shortcut_columns, statistics=STATISTICS, families={})


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (np.arange(20), "number"),
        (np.arange(20) % 7, "category"),
        (np.arange(20) % 7 / 2, "number"),
        ([f"{k / 10}" for k in range(20)], "number"),
        ([f"2024-01-{k + 1:02d}" for k in range(20)], "number"),
        (pd.date_range("2024-01-01", periods=20), "number"),
        (["oil", "ink"] * 10, "category"),
        ([True, False] * 10, "category"),
        (["oil", None] * 10, "category"),
        ([1.5, None] * 10, "number"),
    ],
)
def test_a_column_is_read_as_numbers_or_categories(values, kind):
    column = column_of("c", pd.Series(values))
    assert isinstance(column, Column)
    assert column.kind == kind
    assert len(column.values) == 20


@pytest.mark.parametrize(
    ("values", "reason"), [(["same"] * 20, "one value"), ([f"artwork {k}" for k in range(20)], "20 values in 20 rows")]
)
def test_a_column_that_can_predict_nothing_is_left_out_with_a_reason(values, reason):
    assert reason in column_of("c", pd.Series(values))


def test_a_number_is_cut_into_tenths_and_missing():
    values = np.append(np.arange(100.0), np.nan)
    codes = Column("c", "number", values).codes
    assert np.bincount(codes).tolist() == [1] + [10] * 10
    assert Column("c", "number", np.array([np.nan, np.nan])).codes.tolist() == [0, 0]


def manifest_of_two(**columns):
    n = 30
    paths = [f"images/{k}.jpg" for k in range(n)]
    known = {
        "image_path": paths,
        "width_px": range(20, 50),
        "height_px": 30,
        "file_bytes": range(n),
        "format": "JPEG",
        "row": range(n),
    }
    statistics = dict.fromkeys((*STATISTICS, "jpeg_quality"), range(n))
    table = pd.DataFrame({**known, **statistics, **dict.fromkeys(FILE_DATA, "")}, index=range(n))
    return table.assign(context="here", **{f"meta_{name}": values for name, values in columns.items()})


def test_a_predictor_looks_at_the_file_and_at_each_column_of_the_metadata():
    shortcuts, left_out = shortcut_columns(
        manifest_of_two(
            school=["a", "b"] * 15, title=[f"untitled {k}" for k in range(30)], artist=["x", "y", "z"] * 10
        ),
        group=["artist"],
        context=["school"],
        ignore=[],
    )
    assert [column.name for column in shortcuts["resolution and aspect"]] == ["width_px", "aspect"]
    assert shortcuts["resolution and aspect"][1] is shortcuts["aspect"][0]
    assert shortcuts["resolution"][0].values.tolist() == [30 * width for width in range(20, 50)]
    assert {"file size", "row order", "school"} <= set(shortcuts)
    assert not {"title", "artist", "file format", "context"} & set(shortcuts)
    assert left_out["artist"] == "a column of data.group"
    assert left_out["title"].startswith("30 values in 30 rows")


def test_each_statistic_of_the_image_is_a_predictor_of_its_own_and_all_of_them_one():
    shortcuts, _ = shortcut_columns(manifest_of_two(), group=[], context=[], ignore=[])
    statistics = ["brightness", "contrast", "colourfulness", "edge density"]
    alone = [shortcuts[name] for name in statistics]
    assert [column.name for columns in alone for column in columns] == [name.replace(" ", "_") for name in statistics]
    assert shortcuts["brightness and colour"] == [column for columns in alone for column in columns]


def test_of_several_columns_of_which_one_is_left_there_is_no_predictor_of_several():
    table = manifest_of_two().assign(contrast=0, colourfulness=0, edge_density=0)
    shortcuts, left_out = shortcut_columns(table, group=[], context=[], ignore=[])
    assert "brightness" in shortcuts
    assert "brightness and colour" not in shortcuts
    assert {"contrast", "colourfulness", "edge_density"} <= set(left_out)


def test_a_context_of_several_columns_is_also_taken_as_one():
    table = manifest_of_two(school=["a", "b"] * 15, theme=["rain", "sun", "snow"] * 10)
    table["context"] = table["meta_school"] + table["meta_theme"]
    options = {"group": [], "context": ["school", "theme"]}
    assert "context" in shortcut_columns(table, **options, ignore=[])[0]
    assert "context" not in shortcut_columns(table, **options, ignore=["theme"])[0]


def test_a_column_named_like_one_of_ours_is_looked_at_as_well():
    table = manifest_of_two(**{"format": ["A3", "A4"] * 15, "file size": ["big", "small", "tiny"] * 10})
    shortcuts, left_out = shortcut_columns(table, group=[], context=[], ignore=[])
    assert {"column format", "file size", "column file size"} <= set(shortcuts)
    assert [column.name for column in shortcuts["file size"]] == ["file_bytes"]
    assert left_out["format"] == "one value throughout"
    _, left_out = shortcut_columns(table, group=[], context=[], ignore=["format"])
    assert left_out["column format"] == "in audit.ignore"


def test_a_family_of_statistics_is_one_predictor():
    table = manifest_of_two(school=["a", "b"] * 15).assign(frame_step=range(30), frame_warm=range(30, 0, -1))
    shortcuts, _ = columns.shortcut_columns(
        table,
        statistics=(*STATISTICS, "frame_step", "frame_warm"),
        families={"frame": "frame"},
        group=[],
        context=[],
        ignore=[],
    )
    assert [column.name for column in shortcuts["frame"]] == ["frame_step", "frame_warm"]
    assert not {"frame step", "frame warm"} & set(shortcuts)
    assert {"frame_step", "brightness"} <= {column.name for column in shortcuts["brightness and colour"]}


def test_the_order_of_the_rows_can_be_ignored():
    shortcuts, left_out = shortcut_columns(manifest_of_two(), group=[], context=[], ignore=["row"])
    assert "row order" not in shortcuts
    assert left_out["row order"] == "in audit.ignore"
    with pytest.raises(ParamsError, match=r"audit\.ignore names line"):
        shortcut_columns(manifest_of_two(), group=[], context=[], ignore=["line"])


def test_what_a_path_tells():
    paths = pd.Series(
        [
            "entries/2023/seoul/IMG_20230412_0007.jpg",
            "entries/2023/busan/scan-2023-05-01 (3).png",
            "entries/2024/seoul/12.jpg",
            "entries\\2024\\가\\그림_99999999.jpg",
        ],
        index=[3, 1, 2, 0],
    )
    told = columns.path_columns(paths)
    assert told.index.tolist() == [3, 1, 2, 0]
    assert told["folder"].tolist() == ["2023", "2023", "2024", "2024"]
    assert told["folder_of_two"].tolist() == ["2023/seoul", "2023/busan", "2024/seoul", "2024/가"]
    assert told["name_word"].fillna("").tolist() == ["img", "scan", "", "그림"]
    assert told["name_number"].tolist() == [7, 3, 12, 99999999]
    assert told["name_date"].dt.strftime("%Y-%m-%d").fillna("").tolist() == ["2023-04-12", "2023-05-01", "", ""]


@pytest.mark.parametrize("paths", [["a.jpg"] * 3, ["x/a.jpg", "x/b.jpg"], ["a", "b/c"], []])
def test_paths_without_folders_or_with_one_tell_no_folder_or_that_they_differ(paths):
    told = columns.path_columns(pd.Series(paths, dtype=object))
    assert len(told) == len(paths)
    assert told["folder"].nunique() <= 1


def test_folder_and_date_of_the_file_are_predictors():
    paths = [f"images/{'good' if k % 2 else 'poor'}/work_2024-01-{k % 28 + 1:02d}.jpg" for k in range(30)]
    shortcuts, _ = shortcut_columns(manifest_of_two().assign(image_path=paths), group=[], context=[], ignore=[])
    assert {"folder", "date in the file name"} <= set(shortcuts)
