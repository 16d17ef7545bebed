"""The background of a result: the data, the speed, and where the result comes from."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from mirip.data.folds import SPLIT_NAMES
from mirip.data.split import counts_by_split
from mirip.report import formatting as fmt

# Each requirement: what, its metric, decimals, unit, limit, and the metric that holds the verdict.
_REQUIREMENTS = (
    (
        "One pair, from decoded pixels (p50)",
        "pair_latency_ms_p50",
        None,
        "ms",
        "under 100 ms on a GPU",
        "pair_latency_verdict",
    ),
    ("GPU memory at batch 32", "peak_memory_gib_batch_32", 2, "GiB", "under 12 GB", "memory_verdict"),
    ("Training on 10,000 images, 100 epochs", "train_seconds_10k", 1, "s", "under 6 h", "train_verdict"),
)
# What was measured beside them: what, its metric, decimals, unit.
_MEASURED = (
    ("One pair, p95", "pair_latency_ms_p95", None, "ms"),
    ("One pair, from file bytes (p50)", "pair_latency_from_file_ms_p50", None, "ms"),
    ("One pair, from cached features (p50)", "pair_latency_cached_ms_p50", None, "ms"),
    ("Images per second", "images_per_second", 1, ""),
)


def counts(splits: pd.DataFrame, tiers: Sequence[str]) -> list[dict[str, Any]]:
    """Return images by tier and split, a row a tier, then images and groups in all.

    Args:
        splits: of data/splits.parquet: tier, split, group_id.
        tiers: names, best first.
    """
    rows = []
    for tier in tiers:
        own = splits[splits["tier"] == tier]
        share = len(own) / len(splits) if len(splits) else None
        rows.append({"name": f"Tier {tier}", **_by_split(own, "n_"), "all": len(own), "share": share})
    rows.append({"name": "Images", **_by_split(splits, "n_"), "all": len(splits), "share": None})
    n_groups = int(splits["group_id"].nunique())
    return [*rows, {"name": "Groups", **_by_split(splits, "n_groups_"), "all": n_groups, "share": None}]


def _by_split(rows: pd.DataFrame, prefix: str) -> dict[str, int]:
    found = counts_by_split(rows)
    return {name: found[f"{prefix}{name}"] for name in SPLIT_NAMES}


# Counts of metrics/data.json that a reader should know of where they are not 0.
_ODD = {
    "n_repaired": "with damage that the decoder repaired (column repaired of the manifest)",
    "n_contradicting": "of identical files with different tiers",
    "n_unlisted": "below data.images in no row of the metadata",
}


def remarks(data: Mapping[str, Any], n_rejected: int) -> list[str]:
    """Say what `prepare` found: rows left out, images converted, duplicates."""
    said = [f"{fmt.plural(n_rejected, 'row')} left out of {fmt.number(data.get('n_rows'), 0)} in the metadata."]
    kinds = {name.removeprefix("converted_"): n for name, n in data.items() if name.startswith("converted_") and n}
    if kinds:
        converted = ", ".join(f"{n} {kind.replace('_', ' ')}" for kind, n in kinds.items())
        said.append(f"Converted to upright 8-bit RGB: {converted}.")
    said.extend(f"{fmt.plural(n, 'image')} {what}." for name, what in _ODD.items() if (n := data.get(name)))
    said.append(
        f"Identical files: {fmt.number(data.get('n_duplicates'), 0)}. Near-duplicates: "
        f"{fmt.number(data.get('n_near_duplicates'), 0)}. Both are always put in one split."
    )
    return said


def requirements(benchmark: Mapping[str, Any], imported: bool) -> list[dict[str, str]]:
    """Return each performance requirement with what was measured and its verdict, then what else was measured.

    Args:
        benchmark: the scalars of metrics/benchmark.json.
        imported: whether the features were imported, so that no image goes through a backbone here.
    """
    required = [
        {
            "what": what,
            "measured": _measured(benchmark.get(name), digits, unit),
            "limit": limit,
            # Imported features need no backbone, so a GPU would not help to measure it.
            **_verdict(benchmark.get(verdict), needs_gpu=not imported and verdict != "train_verdict"),
        }
        for what, name, digits, unit, limit, verdict in _REQUIREMENTS
    ]
    others = [
        {"what": what, "measured": _measured(benchmark.get(name), digits, unit), "limit": "", "verdict": "", "tone": ""}
        for what, name, digits, unit in _MEASURED
    ]
    return required + others


def _measured(value: Any, digits: int | None, unit: str) -> str:
    """Return a measured value; without a number of decimals, two below 10 and none above."""
    if digits is None:
        digits = 2 if fmt.known(value) and value < 10 else 0
    return fmt.number(value, digits, unit)


def _verdict(verdict: Any, *, needs_gpu: bool) -> dict[str, str]:
    if verdict == "not_measured":
        return {"verdict": "not measured off GPU" if needs_gpu else "not measured", "tone": "open"}
    tones = {"met": "good", "missed": "bad"}
    return {"verdict": fmt.text(verdict), "tone": tones.get(str(verdict), "open")}
