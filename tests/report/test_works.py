"""The highest and lowest scored test works."""

import pandas as pd
import pytest

from mirip.data.split import public_id
from mirip.errors import DataError
from mirip.report.works import extreme_works


def tables(n: int) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    hashes, paths = [f"{index:064x}" for index in range(n)], [f"{index}.jpg" for index in range(n)]
    splits = pd.DataFrame({"image_sha256": hashes, "image_path": paths, "split": "test"})
    ids = [public_id(*key) for key in zip(hashes, paths, strict=True)]
    scores = pd.DataFrame({"id": ids, "tier": "S", "score": [float(index) for index in range(n)]}).sample(
        frac=1, random_state=0
    )
    return scores, splits, pd.DataFrame({"image_sha256": hashes[1:], "jpeg": [b"x"] * (n - 1)})


def test_the_highest_come_from_the_top_and_the_lowest_from_the_bottom() -> None:
    highest, lowest = extreme_works(*tables(10), 6)
    assert [work.image_path for work in highest] == ["9.jpg", "8.jpg", "7.jpg"]
    assert [work.image_path for work in lowest] == ["0.jpg", "1.jpg", "2.jpg"]


def test_no_work_is_shown_twice() -> None:
    highest, lowest = extreme_works(*tables(5), 24)
    paths = [work.image_path for work in highest + lowest]
    assert len(paths) == len(set(paths)) == 4


def test_a_work_without_thumbnail_has_no_picture() -> None:
    highest, lowest = extreme_works(*tables(4), 4)
    assert highest[0].data_uri == "data:image/jpeg;base64,eA=="
    assert lowest[0].data_uri is None


def test_scores_of_another_split_are_refused() -> None:
    scores, splits, thumbnails = tables(4)
    splits.loc[0, "image_path"] = "renamed.jpg"
    with pytest.raises(DataError, match="dvc repro evaluate"):
        extreme_works(scores, splits, thumbnails, 4)
