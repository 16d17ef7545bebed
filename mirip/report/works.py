"""The test works that the model scored highest and lowest, with their pictures."""

import base64
from dataclasses import dataclass

import pandas as pd

from mirip.data.split import public_id
from mirip.errors import DataError


@dataclass(frozen=True)
class Work:
    """One test work: its path in the user's data, tier, score, and small JPEG as a data URI (None if there is none)."""

    image_path: str
    tier: str
    score: float
    data_uri: str | None


def extreme_works(
    scores: pd.DataFrame, splits: pd.DataFrame, thumbnails: pd.DataFrame, n: int
) -> tuple[list[Work], list[Work]]:
    """Return the works scored highest and lowest, `n` together at most, none twice.

    Args:
        scores: of metrics/scores.csv: id, tier, score.
        splits: of data/splits.parquet: image_sha256, image_path, split.
        thumbnails: of data/thumbnails.parquet: image_sha256, jpeg.
        n: number of works, half of them from each end.

    Raises:
        DataError: scores and splits are not of one run.
    """
    test = splits[splits["split"] == "test"]
    ids = [public_id(*key) for key in zip(test["image_sha256"], test["image_path"], strict=True)]
    named = scores.merge(
        test[["image_sha256", "image_path"]].assign(id=ids), on="id", how="left", validate="one_to_one"
    )
    if len(named) != len(test) or named["image_path"].isna().any():
        raise DataError(
            f"metrics/scores.csv ({len(scores)} works) is not of the split in data/splits.parquet ({len(test)} test "
            "works): run `dvc repro evaluate`"
        )
    named = named.sort_values(["score", "id"], ascending=[False, True], ignore_index=True)
    each = min(n, len(named)) // 2
    jpegs = dict(zip(thumbnails["image_sha256"], thumbnails["jpeg"], strict=True))
    works = [
        Work(path, tier, score, _data_uri(jpegs.get(sha256)))
        for path, tier, score, sha256 in zip(
            named["image_path"], named["tier"].astype(str), named["score"], named["image_sha256"], strict=True
        )
    ]
    return works[:each], works[::-1][:each]


def _data_uri(jpeg: bytes | None) -> str | None:
    return None if jpeg is None else f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}"
