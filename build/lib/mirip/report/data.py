"""What the page says of the data: how many works of which tier stand on which side, and what was left out."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from mirip.report import formatting as fmt

SPLIT_NAMES = ("train", "val", "test")


def counts(splits: pd.DataFrame, tiers: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return images by tier and side, a row a tier, then images and groups in all."""
    rows = []
    for tier in tiers:
        own = splits[splits["tier"] == tier]
        share = len(own) / len(splits) if len(splits) else None
        rows.append({"name": f"Tier {tier}", **_by_split(own, len), "all": len(own), "share": share})
    rows.append({"name": "Images", **_by_split(splits, len), "all": len(splits), "share": None})
    groups = {"name": "Groups", **_by_split(splits, _n_groups), "all": _n_groups(splits), "share": None}
    return [*rows, groups]


def _by_split(rows: pd.DataFrame, measure: Any) -> dict[str, int]:
    return {side: int(measure(rows[rows["split"] == side])) for side in SPLIT_NAMES}


def _n_groups(rows: pd.DataFrame) -> int:
    return int(rows["group_id"].nunique())


def remarks(data: Mapping[str, Any], n_rejected: int) -> list[str]:
    """Say what prepare found: files left out, converted, and alike."""
    said = [f"{fmt.plural(n_rejected, 'row')} left out of {fmt.number(data.get('n_rows'), 0)} in the metadata."]
    converted = _kinds(data, "converted_")
    if converted:
        said.append(f"Converted to upright 8-bit RGB: {converted}.")
    said.append(
        f"Identical files: {fmt.number(data.get('n_duplicates'), 0)}; near-duplicates: "
        f"{fmt.number(data.get('n_near_duplicates'), 0)}; both always stand in one split of the split."
    )
    return said


def _kinds(data: Mapping[str, Any], prefix: str) -> str:
    kinds = {
        name.removeprefix(prefix).replace("_", " "): n for name, n in data.items() if name.startswith(prefix) and n
    }
    return ", ".join(f"{n} {kind}" for kind, n in kinds.items())
