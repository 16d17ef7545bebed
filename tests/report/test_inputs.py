"""What the page is made of."""

from pathlib import Path

from mirip.data.tables import read_csv
from mirip.report.inputs import code_sha256


def test_the_hash_of_the_code_tells_an_edit_and_not_the_folder(tmp_path: Path) -> None:
    for copy in ("one", "two"):
        (tmp_path / copy / "package" / "inner").mkdir(parents=True)
        (tmp_path / copy / "package" / "inner" / "a.py").write_text("1\n")
        (tmp_path / copy / "package" / "page.html").write_text(copy)
    one, two = (tmp_path / copy / "package" for copy in ("one", "two"))
    assert code_sha256(one) == code_sha256(two)
    (two / "inner" / "a.py").write_text("2\n")
    assert code_sha256(one) != code_sha256(two)


def test_a_tier_named_na_stays_a_name(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_text("id,tier,score\n0012,NA,1.5\n0013,,\n")
    table = read_csv(path, ("id", "tier", "score"), "dvc repro evaluate")
    assert table["tier"][0] == "NA"
    assert table["id"][0] == "0012"
