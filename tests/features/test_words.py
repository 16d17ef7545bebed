import pytest

from mirip.features.words import aligned, counted, duration, size


def test_columns_are_padded_to_one_width() -> None:
    assert aligned([["a", "1 row", "last"], ["bcd", "20 rows", ""]]) == ["a      1 row  last", "bcd  20 rows"]
    assert aligned([]) == []


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (2048, "2 KiB"),
        (1023 * 1024, "1023 KiB"),
        (1.21 * 2**20, "1.21 MiB"),
        (3 * 2**40, "3072 GiB"),
    ],
)
def test_sizes_have_a_unit_that_fits(n_bytes: float, text: str) -> None:
    assert size(n_bytes) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "0 s"), (99, "99 s"), (600, "10 min"), (9000, "2.5 h")])
def test_durations_have_a_unit_that_fits(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_one_is_singular() -> None:
    assert (counted(0, "row"), counted(1, "row"), counted(2, "row")) == ("0 rows", "1 row", "2 rows")
