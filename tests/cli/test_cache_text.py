from pathlib import Path

import pytest

from mirip.cli.cache_text import advised, aligned, duration
from mirip.features.cache.verification import Mend


def test_columns_are_padded_to_one_width() -> None:
    assert aligned([["a", "1 row", "last"], ["bcd", "20 rows", ""]]) == ["a      1 row  last", "bcd  20 rows"]
    assert aligned([]) == []


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "0 s"), (99, "99 s"), (600, "10 min"), (9000, "2.5 h")])
def test_durations_have_a_unit_that_fits(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("mends", "imported", "advice"),
    [
        ({Mend.EXTRACT}, False, "run `dvc repro extract`"),
        (
            {Mend.REWRITE, Mend.EXTRACT},
            False,
            "remove a.h5 and run `dvc repro extract`, which takes what is sound from the store",
        ),
        (
            {Mend.REWRITE, Mend.CLEAR_STORE},
            False,
            "remove a.h5 and the files of the store that are named above and run `dvc repro extract`, which takes what "
            "is sound from the store",
        ),
        (
            {Mend.CLEAR_STORE},
            True,
            "remove the files of the store that are named above: what only they hold must be imported again",
        ),
        (
            {Mend.RECOMPUTE},
            True,
            "remove a.h5 and run `dvc repro extract`, which takes what is sound from the store; rows that are bad "
            "after that are so in the store too: remove store as well and import them again",
        ),
    ],
)
def test_advice_removes_what_is_damaged_and_nothing_else(mends: set[Mend], imported: bool, advice: str) -> None:
    assert advised(mends, Path("a.h5"), Path("store"), imported=imported) == advice
