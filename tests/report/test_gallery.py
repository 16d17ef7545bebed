"""Artworks as thumbnails, found by their public id."""

import pandas as pd
import pytest

from mirip.data.split import public_ids
from mirip.errors import DataError
from mirip.report.gallery import Gallery


def tables(n: int) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, bytes]]:
    hashes, paths = [f"{index:064x}" for index in range(n)], [f"{index}.jpg" for index in range(n)]
    splits = pd.DataFrame({"image_sha256": hashes, "image_path": paths, "split": "test", "tier": "S"})
    ids = public_ids(splits)
    scores = pd.DataFrame({"id": ids, "tier": "S", "score": [float(index) for index in range(n)]}).sample(
        frac=1, random_state=0
    )
    return scores, splits, dict.fromkeys(hashes[1:], b"x")


def test_the_highest_come_from_the_top_and_the_lowest_from_the_bottom() -> None:
    scores, *rest = tables(10)
    highest, lowest = Gallery(*rest).extremes(scores, 6)
    assert [artwork.image_path for artwork in highest] == ["9.jpg", "8.jpg", "7.jpg"]
    assert [artwork.image_path for artwork in lowest] == ["0.jpg", "1.jpg", "2.jpg"]
    assert highest[0].remarks == ("score 9.00",)


def test_no_work_is_shown_twice() -> None:
    scores, *rest = tables(5)
    highest, lowest = Gallery(*rest).extremes(scores, 24)
    paths = [artwork.image_path for artwork in highest + lowest]
    assert len(paths) == len(set(paths)) == 4


def test_a_work_without_thumbnail_has_no_image() -> None:
    scores, *rest = tables(4)
    highest, lowest = Gallery(*rest).extremes(scores, 4)
    assert highest[0].data_uri == "data:image/jpeg;base64,eA=="
    assert lowest[0].data_uri is None


def test_scores_of_another_split_are_refused() -> None:
    scores, splits, thumbnails = tables(4)
    splits.loc[0, "image_path"] = "renamed.jpg"
    with pytest.raises(DataError, match="dvc repro evaluate"):
        Gallery(splits, thumbnails).extremes(scores, 4)


def test_fewer_scores_than_test_artworks_are_refused() -> None:
    scores, splits, thumbnails = tables(4)
    with pytest.raises(DataError, match=r"3 artworks, the test split 4"):
        Gallery(splits, thumbnails).extremes(scores.head(3), 4)


def test_a_label_issue_says_percentile_and_share() -> None:
    scores, *rest = tables(4)
    table = pd.DataFrame({"id": scores["id"], "score_percentile": 93.0, "misordered_share": 0.8})
    artworks = Gallery(*rest).label_issues(table, 2)
    assert [artwork.remarks for artwork in artworks] == [("above 93 %", "wrong in 80 %")] * 2
    assert [artwork.image_path for artwork in artworks] == [f"{place}.jpg" for place in scores.index[:2]]


def test_an_outlier_says_how_far_it_is() -> None:
    scores, *rest = tables(3)
    table = pd.DataFrame({"id": scores["id"], "distance": [7.18, 2.0, 1.0]})
    assert [artwork.remarks for artwork in Gallery(*rest).outliers(table, 1)] == [("distance 7.2",)]


def test_near_duplicates_come_in_pairs_with_their_splits() -> None:
    scores, *rest = tables(3)
    first, second, _ = scores["id"]
    table = pd.DataFrame({"id": [first], "split": ["test"], "other_id": [second], "other_split": ["train"]})
    ((one, other),) = Gallery(*rest).near_duplicates(table, 6)
    assert (one.remarks, other.remarks) == (("test split",), ("train split",))
    assert one.image_path != other.image_path


@pytest.mark.parametrize("source", ["label_issues", "outliers"])
def test_a_table_of_the_audit_of_another_split_is_refused(source: str) -> None:
    _, *rest = tables(3)
    table = pd.DataFrame({"id": ["0" * 16], "score_percentile": 1.0, "misordered_share": 1.0, "distance": 1.0})
    with pytest.raises(DataError, match=f"metrics/audit/{source}.csv is not of the split.*dvc repro audit"):
        getattr(Gallery(*rest), source)(table, 1)
