from pathlib import Path

import pandas as pd
import pytest

from mirip.data.tables import read_table, write_table
from mirip.errors import DataError


def test_a_table_reads_back(tmp_path: Path) -> None:
    table = pd.DataFrame({"name": ["a", "b"], "n": [1, 2]})
    write_table(tmp_path / "t.parquet", table)
    pd.testing.assert_frame_equal(read_table(tmp_path / "t.parquet", ["name"], "dvc repro x"), table)


def test_a_missing_damaged_or_other_file_says_what_to_run(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    with pytest.raises(DataError, match="is not found: run `dvc repro x`"):
        read_table(path, [], "dvc repro x")
    path.write_bytes(b"rubbish")
    with pytest.raises(DataError, match=r"is damaged .*: run `dvc repro x`") as caught:
        read_table(path, [], "dvc repro x")
    assert "\n" not in str(caught.value)
    write_table(path, pd.DataFrame({"n": [1]}))
    with pytest.raises(DataError, match="lacks the columns name: run `dvc repro x`"):
        read_table(path, ["n", "name"], "dvc repro x")


def test_mixed_types_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    mixed = pd.DataFrame({"n": pd.Series([1, "a"], dtype=object)})
    with pytest.raises(DataError, match="mixes types"):
        write_table(tmp_path / "t.parquet", mixed)
    assert list(tmp_path.iterdir()) == []
