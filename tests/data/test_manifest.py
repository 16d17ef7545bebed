import io
import tracemalloc
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mirip.data.file_data import FILE_DATA
from mirip.data.inspection import Accepted
from mirip.data.manifest import _IMAGE_TYPES, Prepared, _Inspected, build_manifest, read_manifest
from mirip.data.metadata import read_metadata
from mirip.data.statistics import STATISTICS
from mirip.data.tables import write_table
from mirip.errors import DataError, MetadataError
from mirip.files import sha256_file

TIERS = ("S", "A", "B", "C")


def _image(seed: int, size: tuple[int, int] = (96, 64)) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(256, size=(8, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def _jpeg(path: Path, seed: int, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    _image(seed).save(path, "JPEG", **options)


def _prepared(root: Path, rows: list[dict[str, Any]], **options: Any) -> Prepared:
    return build_manifest(pd.DataFrame(rows), root, tiers=TIERS, **options)


@pytest.fixture
def messy(tmp_path: Path) -> tuple[Path, pd.DataFrame]:
    """Images and metadata with one of every kind of fault."""
    root = tmp_path / "images"
    for seed in range(4):
        _jpeg(root / f"good_{seed}.jpg", seed)
    (root / "text.jpg").write_text("I am not an image")
    (root / "cut.jpg").write_bytes((root / "good_0.jpg").read_bytes()[:-400])
    Image.new("L", (300, 400)).save(root / "huge.png")
    _jpeg(tmp_path / "secret.jpg", 9)
    rows = [
        ("good_0.jpg", "S"),
        ("text.jpg", "A"),
        ("cut.jpg", "A"),
        ("good_1.jpg", "A"),
        ("huge.png", "A"),
        ("../secret.jpg", "B"),
        ("gone.jpg", "B"),
        ("good_2.jpg", "Z"),
        ("./good_0.jpg", "C"),
        ("good_3.jpg", "C"),
        ("good_3.jpg", "C"),
        ("cut.jpg", "A"),
    ]
    return root, pd.DataFrame(rows, columns=["image_path", "tier"])


def test_every_fault_is_rejected_with_row_path_and_reason(messy: tuple[Path, pd.DataFrame]) -> None:
    root, metadata = messy
    prepared = build_manifest(metadata, root, tiers=TIERS, max_image_pixels=100_000)
    assert prepared.manifest["image_path"].tolist() == ["good_0.jpg", "good_1.jpg", "good_3.jpg"]
    assert prepared.manifest["row"].tolist() == [1, 4, 10]
    rejected = {row.row: (row.image_path, row.reason) for row in prepared.rejected.itertuples()}
    expected = {
        2: ("text.jpg", "not an image"),
        3: ("cut.jpg", "cut off"),
        5: ("huge.png", "too large: 300 x 400"),
        6: ("../secret.jpg", "leads out"),
        7: ("gone.jpg", "missing"),
        8: ("good_2.jpg", "tier 'Z' is not among data.tiers (S, A, B, C)"),
        9: ("./good_0.jpg", "listed twice: first in row 1, where its tier is 'S': the two rows contradict each other"),
        11: ("good_3.jpg", "listed twice: first in row 10"),
        12: ("cut.jpg", "listed twice: first in row 3"),
    }
    assert list(rejected) == list(expected)
    for row, (path, part) in expected.items():
        assert rejected[row][0] == path
        assert part in rejected[row][1]
    kinds = {name: n for name, n in prepared.counts.items() if name.startswith("rejected_")}
    assert kinds.pop("rejected_listed_twice") == 3
    assert kinds.pop("rejected_unsupported") == 0
    assert set(kinds.values()) == {1}
    assert prepared.counts["n_rows"] == 12
    assert prepared.counts["n_images"] + prepared.counts["n_rejected"] == 12


def test_the_manifest_tells_what_the_file_is(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    _jpeg(tmp_path / "a.jpg", 1, exif=exif, quality=90)
    rows = [{"image_path": "a.jpg", "tier": "A", "dept": "oil", "theme": 3, "year": 2020}]
    prepared = _prepared(tmp_path, rows, context=("dept", "theme"))
    row = prepared.manifest.iloc[0]
    assert row["image_sha256"] == sha256_file(tmp_path / "a.jpg")
    assert (row["width_px"], row["height_px"]) == (64, 96)
    assert row["file_bytes"] == (tmp_path / "a.jpg").stat().st_size
    assert (row["format"], row["jpeg_quality"]) == ("JPEG", 90)
    assert (row["tier"], row["tier_rank"], row["context"]) == ("A", 2, "oil / 3")
    assert (row["meta_dept"], row["meta_theme"], row["meta_year"]) == ("oil", "3", "2020")
    assert prepared.counts["converted_sideways_exif"] == 1
    assert prepared.counts["n_tier_A"] == 1
    assert prepared.manifest.dtypes.astype(str).to_dict() == {
        "image_path": "str",
        "row": "int64",
        "image_sha256": "str",
        "width_px": "int32",
        "height_px": "int32",
        "file_bytes": "int64",
        "format": "str",
        "perceptual_hash": "uint64",
        **dict.fromkeys(STATISTICS, "float32"),
        "jpeg_quality": "float32",
        **{name: dtype for name, (_, dtype) in FILE_DATA.items()},
        "repaired": "str",
        "tier": "str",
        "tier_rank": "int8",
        "group_id": "int64",
        "context": "str",
        "meta_dept": "str",
        "meta_theme": "str",
        "meta_year": "str",
    }


def test_groups_close_over_columns_copies_and_near_copies(tmp_path: Path) -> None:
    for seed in range(5):
        _jpeg(tmp_path / f"{seed}.jpg", seed, quality=95)
    (tmp_path / "copy_of_1.jpg").write_bytes((tmp_path / "1.jpg").read_bytes())
    _image(2).resize((90, 60)).save(tmp_path / "like_2.jpg", quality=70)
    rows = [
        {"image_path": "0.jpg", "tier": "S", "artist": "kim", "post": None},
        {"image_path": "1.jpg", "tier": "S", "artist": "lee", "post": 1},
        {"image_path": "2.jpg", "tier": "S", "artist": None, "post": 2},
        {"image_path": "3.jpg", "tier": "S", "artist": " ", "post": 1},
        {"image_path": "4.jpg", "tier": "S", "artist": None, "post": None},
        {"image_path": "copy_of_1.jpg", "tier": "A", "artist": "kim", "post": None},
        {"image_path": "like_2.jpg", "tier": "A", "artist": "choi", "post": None},
    ]
    prepared = _prepared(tmp_path, rows, group=("artist", "post"))
    assert prepared.manifest["group_id"].tolist() == [0, 0, 1, 0, 2, 0, 1]
    counts = prepared.counts
    assert (counts["n_groups"], counts["n_duplicates"], counts["n_near_duplicates"]) == (3, 1, 1)


def test_blank_pages_do_not_tie_artists_together(tmp_path: Path) -> None:
    for number in range(3):
        Image.new("L", (50 + number, 50), 255).save(tmp_path / f"{number}.png")
    prepared = _prepared(tmp_path, [{"image_path": f"{n}.png", "tier": "S"} for n in range(3)])
    assert prepared.manifest["group_id"].tolist() == [0, 1, 2]
    assert prepared.counts["n_near_duplicates"] == 0


def test_thumbnails_are_small_distinct_and_sorted(tmp_path: Path) -> None:
    for seed in range(3):
        _jpeg(tmp_path / f"{seed}.jpg", seed)
    (tmp_path / "copy.jpg").write_bytes((tmp_path / "0.jpg").read_bytes())
    rows = [{"image_path": name, "tier": "S"} for name in ("0.jpg", "1.jpg", "2.jpg", "copy.jpg")]
    thumbnails = pd.concat(_prepared(tmp_path, rows, thumbnail_px=32).thumbnails.tables())
    assert thumbnails["image_sha256"].tolist() == sorted(sha256_file(tmp_path / f"{n}.jpg") for n in range(3))
    for data in thumbnails["jpeg"]:
        with Image.open(io.BytesIO(data)) as image:
            assert (image.format, image.size) == ("JPEG", (32, 21))


def test_the_number_of_threads_changes_nothing(messy: tuple[Path, pd.DataFrame]) -> None:
    root, metadata = messy
    one, many = (build_manifest(metadata, root, tiers=TIERS, workers=workers) for workers in (1, 5))
    pd.testing.assert_frame_equal(one.manifest, many.manifest)
    pd.testing.assert_frame_equal(one.rejected, many.rejected)
    pd.testing.assert_frame_equal(*(pd.concat(each.thumbnails.tables()) for each in (one, many)))


def test_windows_separators_are_understood(tmp_path: Path) -> None:
    _jpeg(tmp_path / "sub" / "a.jpg", 1)
    prepared = _prepared(tmp_path, [{"image_path": "sub\\a.jpg", "tier": "S"}])
    assert prepared.manifest["image_path"].tolist() == ["sub/a.jpg"]


def test_nothing_usable_gives_an_empty_manifest(tmp_path: Path) -> None:
    prepared = _prepared(tmp_path, [{"image_path": "", "tier": "S", "artist": "x"}], group=("artist",))
    assert (len(prepared.manifest), len(prepared.thumbnails)) == (0, 0)
    assert "empty path" in prepared.rejected["reason"][0]
    assert "tier" in prepared.manifest


def test_progress_counts_every_row(messy: tuple[Path, pd.DataFrame]) -> None:
    root, metadata = messy
    done: list[int] = []
    build_manifest(metadata, root, tiers=TIERS, on_progress=done.append)
    assert sum(done) == len(metadata)


def test_what_the_params_point_at_must_be_there(tmp_path: Path) -> None:
    rows = [{"image_path": "a.jpg", "tier": "S"}]
    with pytest.raises(DataError, match=r"is not a folder: set data\.images"):
        _prepared(tmp_path / "nowhere", rows)
    with pytest.raises(MetadataError, match=r"data\.group names the column 'artist'"):
        _prepared(tmp_path, rows, group=("artist",))
    with pytest.raises(MetadataError, match=r"data\.context names the column 'theme'"):
        _prepared(tmp_path, rows, context=("theme",))


def test_a_written_manifest_reads_back_and_has_the_same_bytes_twice(messy: tuple[Path, pd.DataFrame]) -> None:
    root, metadata = messy
    for name in ("one", "two"):
        write_table(root / name, build_manifest(metadata, root, tiers=TIERS).manifest)
    assert (root / "one").read_bytes() == (root / "two").read_bytes()
    pd.testing.assert_frame_equal(read_manifest(root / "one"), build_manifest(metadata, root, tiers=TIERS).manifest)


def _copies(root: Path, names: list[str]) -> None:
    for seed, name in enumerate(names):
        _jpeg(root / name, seed)


def test_one_name_in_two_unicode_forms_is_one_group_one_context_and_one_tier(tmp_path: Path) -> None:
    _copies(tmp_path, ["0.jpg", "1.jpg"])
    rows = [
        {"image_path": f"{number}.jpg", "tier": unicodedata.normalize(form, "가"), "student": name, "theme": name}
        for number, (form, name) in enumerate((form, unicodedata.normalize(form, "김철수")) for form in ("NFC", "NFD"))
    ]
    prepared = build_manifest(pd.DataFrame(rows), tmp_path, tiers=("가", "나"), group=("student",), context=("theme",))
    assert prepared.manifest["group_id"].tolist() == [0, 0]
    assert prepared.manifest["context"].nunique() == 1
    assert prepared.manifest["tier"].tolist() == ["가", "가"]


def test_a_folder_in_another_unicode_form_loses_no_file(tmp_path: Path) -> None:
    nfd, nfc = (unicodedata.normalize(form, "학생/가.jpg") for form in ("NFD", "NFC"))
    _copies(tmp_path, [nfd])
    prepared = _prepared(tmp_path, [{"image_path": nfc, "tier": "S"}])
    assert prepared.manifest["image_path"].tolist() == [nfc]
    assert prepared.counts["n_unlisted"] == 0
    twice = _prepared(tmp_path, [{"image_path": path, "tier": "S"} for path in (nfd, nfc)])
    assert "listed twice" in twice.rejected["reason"].item()


def test_a_group_of_any_name_stays_together_and_an_empty_one_ties_nothing(tmp_path: Path) -> None:
    _copies(tmp_path, [f"{number}.jpg" for number in range(8)])
    students = ["NA", "NA", "null", "null", "None", "None", "", ""]
    rows = [{"image_path": f"{number}.jpg", "tier": "S", "student": name} for number, name in enumerate(students)]
    assert _prepared(tmp_path, rows, group=("student",)).manifest["group_id"].tolist() == [0, 0, 1, 1, 2, 2, 3, 4]


@pytest.mark.parametrize("file_format", ["csv", "parquet", "xlsx"])
def test_long_ids_with_a_hole_stay_apart(tmp_path: Path, file_format: str) -> None:
    _copies(tmp_path, [f"{number}.jpg" for number in range(4)])
    ids = [20241234567890120 + number for number in range(3)]
    table = pd.DataFrame({"image_path": [f"{number}.jpg" for number in range(4)], "tier": "S"})
    table["student"] = pd.Series([*ids, pd.NA], dtype="Int64")
    path = tmp_path / f"metadata.{file_format}"
    if file_format == "xlsx":
        table.astype({"student": "string"}).to_excel(path, index=False)  # as text: a number is rounded by the program
    else:
        table.to_csv(path, index=False) if file_format == "csv" else table.to_parquet(path)
    prepared = build_manifest(read_metadata(path), tmp_path, tiers=TIERS, group=("student",))
    assert prepared.counts["n_groups"] == 4
    assert prepared.manifest["meta_student"].tolist()[:3] == [str(number) for number in ids]


def test_no_value_of_a_users_own_column_stops_a_run(tmp_path: Path) -> None:
    _copies(tmp_path, ["0.jpg", "1.jpg"])
    odd = [2**64, -(2**70), 1e308, float("inf"), [1, {}], b"\xff", pd.Timestamp(0), object, None, True]
    for value in odd:
        rows = [
            {"image_path": f"{number}.jpg", "tier": "S", "theirs": own} for number, own in enumerate((value, "text"))
        ]
        write_table(tmp_path / "manifest", _prepared(tmp_path, rows).manifest)
        assert len(read_manifest(tmp_path / "manifest")) == 2


def test_small_and_full_width_tiers_are_taken_for_what_they_mean_and_said(tmp_path: Path) -> None:
    _copies(tmp_path, ["0.jpg", "1.jpg"])
    prepared = _prepared(tmp_path, [{"image_path": f"{n}.jpg", "tier": tier} for n, tier in enumerate(("s", "\uff21"))])
    assert prepared.manifest["tier"].tolist() == ["S", "A"]
    assert len(prepared.notices) == 2


def test_a_tier_of_a_number_is_the_same_from_csv_and_parquet(tmp_path: Path) -> None:
    _copies(tmp_path, ["0.jpg", "1.jpg"])
    for tiers in ([1.0, 2.0], ["1.0", "2.0"], [1, 2], ["1", "2"]):
        rows = pd.DataFrame({"image_path": ["0.jpg", "1.jpg"], "tier": tiers})
        assert build_manifest(rows, tmp_path, tiers=("1", "2")).manifest["tier"].tolist() == ["1", "2"]


def test_a_group_column_that_is_mostly_empty_is_a_warning(tmp_path: Path) -> None:
    _copies(tmp_path, [f"{number}.jpg" for number in range(4)])
    rows = [{"image_path": f"{n}.jpg", "tier": "S", "student": "kim" if n == 0 else "", "x": "y"} for n in range(4)]
    prepared = _prepared(tmp_path, rows, group=("student",))
    assert "data.group: the column student is empty in 75% of the rows" in prepared.notices[0]
    assert prepared.counts["n_without_group"] == 3
    assert _prepared(tmp_path, rows, group=("x",)).notices == ()


def test_identical_files_of_different_tiers_are_said_to_contradict(tmp_path: Path) -> None:
    _copies(tmp_path, ["a.jpg", "c.jpg"])
    (tmp_path / "b.jpg").write_bytes((tmp_path / "a.jpg").read_bytes())
    rows = [{"image_path": name, "tier": tier} for name, tier in (("a.jpg", "S"), ("b.jpg", "C"), ("c.jpg", "C"))]
    prepared = _prepared(tmp_path, rows)
    assert prepared.counts["n_contradicting"] == 2
    assert "different tiers, which contradict: a.jpg (S), b.jpg (C)" in prepared.notices[0]


def test_a_row_without_a_tier_does_not_stand_in_the_way_of_another(tmp_path: Path) -> None:
    _copies(tmp_path, ["a.jpg"])
    prepared = _prepared(tmp_path, [{"image_path": "a.jpg", "tier": tier} for tier in ("X", "", "S")])
    assert prepared.manifest["tier"].tolist() == ["S"]
    assert "contradict" not in " ".join(prepared.rejected["reason"])


def test_a_repaired_image_is_marked_and_counted(tmp_path: Path) -> None:
    _copies(tmp_path, ["a.jpg", "b.jpg"])
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:-2])
    prepared = _prepared(tmp_path, [{"image_path": name, "tier": "S"} for name in ("a.jpg", "b.jpg")])
    assert prepared.manifest["repaired"].tolist() == ["the mark of its end is missing", ""]
    assert prepared.counts["n_repaired"] == 1
    assert "a.jpg (the mark of its end is missing)" in prepared.notices[0]


def test_images_that_no_row_names_are_counted(tmp_path: Path) -> None:
    _copies(tmp_path, ["a.jpg", "sub/b.JPG", "c.heic"])
    (tmp_path / "metadata.csv").write_text("not an image")
    prepared = _prepared(tmp_path, [{"image_path": "a.jpg", "tier": "S"}])
    assert prepared.counts["n_unlisted"] == 2
    assert "2 images are below data.images and in no row: c.heic, sub/b.JPG" in prepared.notices[0]


@pytest.mark.slow
def test_real_paintings_all_pass(savoias: Path) -> None:
    metadata = read_metadata(savoias / "metadata.csv")
    prepared = build_manifest(metadata, savoias, tiers=TIERS, context=("category",))
    assert (prepared.counts["n_images"], prepared.counts["n_rejected"]) == (520, 0)
    assert prepared.counts["n_duplicates"] == 10
    assert prepared.counts["n_near_duplicates"] == 0


def test_what_is_seen_of_many_images_takes_little_memory() -> None:
    n = 10_000
    values = {name: "" if dtype == "str" else 1 for name, dtype in _IMAGE_TYPES.items()}
    tracemalloc.start()
    try:
        seen = _Inspected(None)
        for number in range(n):
            seen.add(Accepted(values | {"image_sha256": f"{number:064x}"}, bytes(5000), ()))
        columns = seen.columns()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(columns) == len(seen.thumbnails) == n
    assert peak < 2000 * n  # a thumbnail alone takes more
