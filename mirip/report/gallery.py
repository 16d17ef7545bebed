"""Artworks as thumbnails, each with what the page says of it."""

import base64
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mirip.data.split import public_ids
from mirip.data.thumbnails import StoredThumbnails
from mirip.errors import DataError
from mirip.report import formatting as fmt

_SCORES = ("metrics/scores.csv", "evaluate")
_LABEL_ISSUES = ("metrics/audit/label_issues.csv", "audit")
_OUTLIERS = ("metrics/audit/outliers.csv", "audit")
_NEAR_DUPLICATES = ("metrics/audit/near_duplicates.csv", "audit")


@dataclass(frozen=True)
class Artwork:
    """One artwork: its path in the user's data, its tier, remarks, and a small JPEG as a data URI, or None."""

    image_path: str
    tier: str
    remarks: tuple[str, ...]
    data_uri: str | None


class Gallery:
    """Finds artworks by their public id.

    Every method raises DataError where a table names an id that the split does not have: it is then of another split.

    Args:
        splits: of data/splits.parquet: image_sha256, image_path, split, tier.
        thumbnails: of data/thumbnails.parquet; a mapping image_sha256 -> JPEG is as good.
    """

    def __init__(self, splits: pd.DataFrame, thumbnails: StoredThumbnails | Mapping[str, bytes]) -> None:
        self._rows = splits[["image_sha256", "image_path", "split", "tier"]].reset_index(drop=True)
        self._place = {name: place for place, name in enumerate(public_ids(splits))}
        self._jpegs = thumbnails

    def extremes(self, scores: pd.DataFrame, n: int) -> tuple[list[Artwork], list[Artwork]]:
        """Return the test artworks scored highest and lowest, `n` together at most, none twice.

        Args:
            scores: of metrics/scores.csv: id, score.
            n: number of artworks, half of them from each end.
        """
        n_test = int((self._rows["split"] == "test").sum())
        if len(scores) != n_test:
            raise _of_another_split(_SCORES, f"it has {len(scores)} artworks, the test split {n_test}")
        ordered = scores.sort_values(["score", "id"], ascending=[False, True], ignore_index=True)
        each = min(n, len(ordered)) // 2
        ends = (ordered.head(each), ordered.tail(each).iloc[::-1])
        highest, lowest = (
            self._artworks(end["id"], [(f"score {fmt.number(score)}",) for score in end["score"]], _SCORES)
            for end in ends
        )
        return highest, lowest

    def label_issues(self, table: pd.DataFrame, n: int) -> list[Artwork]:
        """Return the first `n` artworks of metrics/audit/label_issues.csv."""
        shown = table.head(n)
        said = [
            (f"above {fmt.percent(percentile / 100, 0)}", f"wrong in {fmt.percent(share, 0)}")
            for percentile, share in zip(shown["score_percentile"], shown["misordered_share"], strict=True)
        ]
        return self._artworks(shown["id"], said, _LABEL_ISSUES)

    def label_issue_rows(self, table: pd.DataFrame) -> list[dict[Hashable, Any]]:
        """Return all rows of metrics/audit/label_issues.csv, each with the `path` of its file."""
        rows = table.to_dict("records")
        return [{**row, "path": str(self._find(row["id"], _LABEL_ISSUES)["image_path"])} for row in rows]

    def outliers(self, table: pd.DataFrame, n: int) -> list[Artwork]:
        """Return the first `n` artworks of metrics/audit/outliers.csv."""
        shown = table.head(n)
        said = [(f"distance {fmt.number(distance, 1)}",) for distance in shown["distance"]]
        return self._artworks(shown["id"], said, _OUTLIERS)

    def near_duplicates(self, table: pd.DataFrame, n: int) -> list[tuple[Artwork, Artwork]]:
        """Return the first `n` pairs of metrics/audit/near_duplicates.csv."""
        shown = table.head(n)
        first, second = (
            self._artworks(
                shown[f"{which}id"], [(f"{split} split",) for split in shown[f"{which}split"]], _NEAR_DUPLICATES
            )
            for which in ("", "other_")
        )
        return list(zip(first, second, strict=True))

    def _artworks(
        self, ids: Iterable[str], remarks: Iterable[tuple[str, ...]], source: tuple[str, str]
    ) -> list[Artwork]:
        """Return artworks in the order of their ids, each with its remarks; `source` is a file and its stage."""
        found = []
        for name, said in zip(ids, remarks, strict=True):
            row = self._find(name, source)
            jpeg = self._jpegs.get(row["image_sha256"])
            found.append(Artwork(str(row["image_path"]), str(row["tier"]), said, _data_uri(jpeg)))
        return found

    def _find(self, name: str, source: tuple[str, str]) -> "pd.Series":
        if (place := self._place.get(name)) is None:
            raise _of_another_split(source, f"the split has no artwork {name}")
        return self._rows.iloc[place]


def _of_another_split(source: tuple[str, str], found: str) -> DataError:
    path, stage = source
    return DataError(f"{path} is not of the split in data/splits.parquet ({found})", f"run `dvc repro {stage}`")


def _data_uri(jpeg: bytes | None) -> str | None:
    return None if jpeg is None else f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}"
