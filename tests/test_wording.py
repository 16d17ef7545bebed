import pytest

from mirip.wording import counted, size


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


def test_one_is_singular() -> None:
    assert (counted(0, "row"), counted(1, "row"), counted(2, "row")) == ("0 rows", "1 row", "2 rows")
    assert counted(2000, "row", ",") == "2,000 rows"
