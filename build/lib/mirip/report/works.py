"""Works as small pictures, each with what the page says of it."""

import base64
from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from mirip.data.split import public_id
from mirip.errors import DataError
from mirip.report import formatting as fmt


@dataclass(frozen=True)
class Work:
    """One work: its path in the user's data, its tier, what is said of it, and a small JPEG as a data URI, if any."""

    image_path: str
    tier: str
    remarks: tuple[str, ...]
    data_uri: str | None


class Gallery:
    """Finds works by their public id.

    Args:
        splits: of data/splits.parquet: image_sha256, image_path, split, tier.
        thumbnails: of data/thumbnails.parquet: image_sha256, jpeg.
    """

    def __init__(self, splits: pd.DataFrame, thumbnails: pd.DataFrame) -> None:
        self._rows = splits[["image_sha256", "image_path", "split", "tier"]].reset_index(drop=True)
        ids = [public_id(*key) for key in zip(splits["image_sha256"], splits["image_path"], strict=True)]
        self._place = {name: place for place, name in enumerate(ids)}
        self._jpegs = dict(zip(thumbnails["image_sha256"], thumbnails["jpeg"], strict=True))

    def paths(self, ids: Iterable[str], source: str, stage: str) -> list[str]:
        """Return the paths of works, in their order.

        Raises:
            DataError: an id is not of the split: `source`, which `stage` writes, is of another.
        """
        return [str(self._find(name, source, stage)["image_path"]) for name in ids]

    def works(self, ids: Iterable[str], remarks: Iterable[tuple[str, ...]], source: str, stage: str) -> list[Work]:
        """Return works in the order of their ids, each with its remarks.

        Raises:
            DataError: see `paths`.
        """
        found = []
        for name, said in zip(ids, remarks, strict=True):
            row = self._find(name, source, stage)
            jpeg = self._jpegs.get(row["image_sha256"])
            found.append(Work(str(row["image_path"]), str(row["tier"]), said, _data_uri(jpeg)))
        return found

    def extremes(self, scores: pd.DataFrame, n: int) -> tuple[list[Work], list[Work]]:
        """Return the test works scored highest and lowest, `n` together at most, none twice.

        Args:
            scores: of metrics/scores.csv: id, score.
            n: number of works, half of them from each end.

        Raises:
            DataError: scores and splits are not of one run.
        """
        n_test = int((self._rows["split"] == "test").sum())
        if len(scores) != n_test:
            raise _of_another_split(f"metrics/scores.csv ({len(scores)} works)", "evaluate", f"{n_test} test works")
        ordered = scores.sort_values(["score", "id"], ascending=[False, True], ignore_index=True)
        each = min(n, len(ordered)) // 2
        ends = (ordered.head(each), ordered.tail(each).iloc[::-1])
        highest, lowest = (
            self.works(
                end["id"],
                [(f"score {fmt.number(score)}",) for score in end["score"]],
                "metrics/scores.csv",
                "evaluate",
            )
            for end in ends
        )
        return highest, lowest

    def label_issues(self, table: pd.DataFrame, n: int) -> list[Work]:
        """Return the first `n` works of metrics/audit/label_issues.csv.

        Raises:
            DataError: see `paths`.
        """
        shown = table.head(n)
        said = [
            (f"above {fmt.percent(percentile / 100, 0)}", f"wrong in {fmt.percent(share, 0)}")
            for percentile, share in zip(shown["score_percentile"], shown["misordered_share"], strict=True)
        ]
        return self.works(shown["id"], said, "metrics/audit/label_issues.csv", "audit")

    def outliers(self, table: pd.DataFrame, n: int) -> list[Work]:
        """Return the first `n` works of metrics/audit/outliers.csv.

        Raises:
            DataError: see `paths`.
        """
        shown = table.head(n)
        said = [(f"distance {fmt.number(distance, 1)}",) for distance in shown["distance"]]
        return self.works(shown["id"], said, "metrics/audit/outliers.csv", "audit")

    def near_duplicates(self, table: pd.DataFrame, n: int) -> list[tuple[Work, Work]]:
        """Return the first `n` pairs of metrics/audit/near_duplicates.csv.

        Raises:
            DataError: see `paths`.
        """
        shown = table.head(n)
        sides = [
            self.works(shown[f"{which}id"], [(f"{side} side",) for side in shown[f"{which}side"]], _PAIRS, "audit")
            for which in ("", "other_")
        ]
        return list(zip(*sides, strict=True))

    def _find(self, name: str, source: str, stage: str) -> "pd.Series":
        if (place := self._place.get(name)) is None:
            raise _of_another_split(source, stage, f"no work {name}")
        return self._rows.iloc[place]


_PAIRS = "metrics/audit/near_duplicates.csv"


def _of_another_split(source: str, stage: str, found: str) -> DataError:
    return DataError(f"{source} is not of the split in data/splits.parquet ({found}): run `dvc repro {stage}`")


def _data_uri(jpeg: bytes | None) -> str | None:
    return None if jpeg is None else f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}"
