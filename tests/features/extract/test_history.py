from pathlib import Path

import pytest

from mirip.features.extract.history import (
    ExtractionSummary,
    Rate,
    known_rates,
    last_extraction,
    last_listing,
    remember_extraction,
    remember_rate,
)

SUMMARY = ExtractionSummary(2, 1, 1, 8, "f" * 64, "d" * 64, 1.5)
PATHS = {"a" * 64: "1.png", "b" * 64: "folder/2.png"}


def rate(hardware: str, images: int = 100) -> Rate:
    return Rate("cpu", hardware, images, 20.0, "2026-01-02")


def test_what_is_remembered_is_known_by_features_file(main_repository: Path) -> None:
    path = main_repository / "features" / "tiny.h5"
    remember_extraction(path, SUMMARY, PATHS)
    assert last_extraction(path) == SUMMARY
    assert last_listing(path) == {"1.png": "a" * 64, "folder/2.png": "b" * 64}
    assert last_extraction(main_repository / "runs" / "tiny.h5") is None
    assert last_listing(main_repository / "runs" / "tiny.h5") is None


@pytest.mark.parametrize("name", [".dvc/tmp/exps/abc/features/tiny.h5", ".mirip/scratch/features.h5", "../out.h5"])
def test_scratch_files_and_those_elsewhere_have_no_memory(main_repository: Path, name: str) -> None:
    remember_extraction(main_repository / name, SUMMARY, PATHS)
    assert last_listing(main_repository / name) is None
    assert not list(main_repository.rglob("listing.parquet"))


def test_a_damaged_memory_is_none(main_repository: Path) -> None:
    path = main_repository / "features" / "tiny.h5"
    remember_extraction(path, SUMMARY, PATHS)
    remember_rate("f" * 64, rate("a"))
    for kept in (main_repository / ".mirip").rglob("*.*"):
        kept.write_bytes(b"\x00nonsense")
    assert (last_extraction(path), last_listing(path), known_rates("f" * 64)) == (None, None, [])


def test_a_folder_that_cannot_be_written_is_no_failure(main_repository: Path) -> None:
    (main_repository / ".mirip").write_text("a file where a folder should be")
    remember_extraction(main_repository / "features" / "tiny.h5", SUMMARY, PATHS)
    remember_rate("f" * 64, rate("a"))
    assert known_rates("f" * 64) == []


def test_the_last_rate_of_each_device_is_kept(main_repository: Path) -> None:
    for hardware, images in (("a", 100), ("b", 100), ("a", 200), ("b", 3)):
        remember_rate("f" * 64, rate(hardware, images))
    assert known_rates("f" * 64) == [rate("b"), rate("a", 200)]
    assert rate("a", 200).images_per_second == 10
