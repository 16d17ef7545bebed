"""The split: train, val and test with the same share of each tier, and no group in two of them."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mirip.data.duplicates import near_duplicate_labels
from mirip.data.folds import SPLIT_NAMES, allocate, shares_off
from mirip.data.manifest import read_manifest
from mirip.data.tables import read_table, write_table
from mirip.errors import ParamsError, SplitError
from mirip.files import write_json
from mirip.params import Params
from mirip.workspace import Workspace

_COLUMNS = ("image_path", "image_sha256", "tier", "tier_rank", "group_id", "context")
# A tier with fewer groups cannot be in all three splits.
_FEWEST_FOR_SHARES = 10  # images of a split, of which one alone is ten percentage points
_MIN_GROUPS = 3


@dataclass(frozen=True)
class Split:
    """What the stage `split` made.

    Attributes:
        splits: the rows of data/splits.parquet.
        metrics: the values of metrics/split.json.
    """

    splits: pd.DataFrame
    metrics: dict[str, Any]

    def summary(self) -> str:
        """Say the sizes and the largest drift in one line."""
        sizes = ", ".join(f"{self.metrics[f'n_{name}']} {name}" for name in SPLIT_NAMES)
        return f"{sizes}; largest tier drift {self.metrics['max_tier_drift']:.1f} points"


def split(workspace: Workspace, params: Params) -> Split:
    """Split the manifest's images, and write the splits and their metrics.

    Raises:
        DataError: the manifest is missing or damaged.
        SplitError: no split keeps the promises.
    """
    manifest = read_manifest(workspace.manifest)
    splits = DataSplitter(**params.split.model_dump()).split(manifest)
    check_disjoint(splits, manifest, params.prepare.near_duplicate_bits)
    splits["public_id"] = public_ids(splits).astype("str")
    metrics = {
        **counts_by_split(splits),
        "max_tier_drift": round(tier_drift(splits), 6),
        "digest": split_digest(splits),
    }
    write_table(workspace.splits, splits)
    write_json(workspace.metrics("split"), metrics)
    return Split(splits, metrics)


class DataSplitter:
    """Stratified split of whole groups.

    Args:
        train: share of the images in the train split.
        val: share in the val split; 0 leaves it out.
        test: share in the test split; 0 leaves it out.
        seed: decides which groups go where.
        max_tier_drift: percentage points that a tier's share in a split may differ from its share in all.

    Raises:
        ParamsError: the shares are negative or do not add up to 1.
    """

    def __init__(
        self,
        train: float = 0.8,
        val: float = 0.1,
        test: float = 0.1,
        seed: int = 42,
        max_tier_drift: float = 5.0,
    ) -> None:
        self._fractions = np.array([train, val, test], dtype=np.float64)
        if (self._fractions < 0).any() or abs(self._fractions.sum() - 1) > 1e-9:
            raise ParamsError(
                f"train, val and test must be shares that add up to 1, got {train}, {val} and {test}",
                "set split.train, split.val and split.test",
            )
        self._seed = seed
        self._max_tier_drift = max_tier_drift

    def split(self, manifest: pd.DataFrame) -> pd.DataFrame:
        """Put every row in one split, whole groups together.

        Groups are known by the smallest sha256 of their images and ordered by a hash of it and the seed: the
        order of the rows has no say, and new groups of one image move few of the old ones.

        Args:
            manifest: with image_path, image_sha256, tier, tier_rank, group_id and context.

        Returns:
            Those columns and `split` ("train", "val" or "test"), in the manifest's order.

        Raises:
            SplitError: there are too few groups, or no split was found that keeps the shares close.
        """
        if lacking := [name for name in _COLUMNS if name not in manifest]:
            raise SplitError(f"the manifest lacks the columns {', '.join(lacking)}", "run `dvc repro prepare`")
        n_splits = int((self._fractions > 0).sum())
        n_groups = manifest["group_id"].nunique()
        if n_groups < n_splits:
            raise SplitError(
                f"{len(manifest)} images in {n_groups} groups cannot fill {n_splits} splits",
                "give more images, a finer data.group, or set split.val or split.test to 0",
            )
        group_of_row, counts, tiers = self._groups(manifest)
        chosen = allocate(counts, self._fractions, seed=self._seed, max_drift=self._max_tier_drift)  # (n_groups,)
        splits = manifest[list(_COLUMNS)].reset_index(drop=True)
        splits["split"] = pd.Series(np.array(SPLIT_NAMES, dtype=object)[chosen[group_of_row]], dtype="str")
        self._check_tiers(splits, counts, tiers)
        return splits

    def _groups(self, manifest: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """Return the group of each row (N,), tier counts of the groups (G, T) in their order, and the tiers."""
        frame = manifest[["group_id", "image_sha256", "image_path"]]
        keys = (frame["image_sha256"] + " " + frame["image_path"]).groupby(frame["group_id"]).min()
        hashed = [hashlib.sha256(f"{self._seed} {key}".encode()).digest() for key in keys]
        order = sorted(range(len(hashed)), key=hashed.__getitem__)
        place = pd.Series(np.argsort(order), index=keys.index)
        group_of_row = frame["group_id"].map(place).to_numpy(dtype=np.int64)
        tier_of_row, names = pd.factorize(manifest["tier"], sort=True)
        counts = np.zeros((len(keys), len(names)), dtype=np.int64)
        np.add.at(counts, (group_of_row, tier_of_row), 1)
        return group_of_row, counts, [str(name) for name in names]

    def _check_tiers(self, splits: pd.DataFrame, counts: np.ndarray, tiers: list[str]) -> None:
        names = [name for name, fraction in zip(SPLIT_NAMES, self._fractions, strict=True) if fraction > 0]
        shares = pd.crosstab(splits["tier"], splits["split"]).reindex(columns=names, fill_value=0)
        for tier, n_groups in zip(tiers, (counts > 0).sum(axis=0), strict=True):
            empty = [name for name in names if shares.loc[tier, name] == 0]
            if empty and n_groups >= _MIN_GROUPS:
                raise SplitError(
                    f"no split puts tier {tier} ({n_groups} groups) into {empty[0]} without taking another tier away",
                    "give more images, a finer data.group, or set split.val or split.test to 0",
                )
        drift, tier, name = _largest_drift(splits)
        if drift > self._max_tier_drift + 1e-9:
            in_split = (splits.loc[splits["split"] == name, "tier"] == tier).mean()
            in_all = (splits["tier"] == tier).mean()
            raise SplitError(
                f"tier {tier} makes {in_split:.1%} of {name} but {in_all:.1%} of all {len(splits)} images: "
                f"{drift:.1f} points apart, {self._max_tier_drift:g} allowed",
                self._advice_on_drift(splits, names),
            )

    def _advice_on_drift(self, splits: pd.DataFrame, names: list[str]) -> str:
        """Advise to allow more only where the splits are large enough for shares to mean anything."""
        smallest = min(names, key=lambda name: int((splits["split"] == name).sum()))
        n_smallest = int((splits["split"] == smallest).sum())
        if n_smallest >= _FEWEST_FOR_SHARES:
            return "raise split.max_tier_drift, or use fewer splits (split.val or split.test 0)"
        n_needed = math.ceil(_FEWEST_FOR_SHARES / self._fractions[SPLIT_NAMES.index(smallest)])
        return (
            f"{n_smallest} images are too few for {smallest}: give about {n_needed} in all, or evaluate these with "
            "`mirip crossval`, which needs no split"
        )


def counts_by_split(splits: pd.DataFrame) -> dict[str, int]:
    """Return n_<split>, the images, and n_groups_<split>, the groups, of train, val and test."""
    rows = {name: splits[splits["split"] == name] for name in SPLIT_NAMES}
    return {
        **{f"n_{name}": len(found) for name, found in rows.items()},
        **{f"n_groups_{name}": int(found["group_id"].nunique()) for name, found in rows.items()},
    }


def tier_drift(splits: pd.DataFrame) -> float:
    """Return the largest difference between a tier's share in a split and in all, in percentage points.

    Args:
        splits: with `tier` and `split`.
    """
    return _largest_drift(splits)[0]


def check_disjoint(splits: pd.DataFrame, manifest: pd.DataFrame, near_duplicate_bits: int = 4) -> None:
    """Check that no group, file content or chain of near-duplicates is in two splits.

    Args:
        splits: one row a manifest row, in any order.
        manifest: with image_path, image_sha256, perceptual_hash and group_id.
        near_duplicate_bits: perceptual hashes at most so many bits apart are one image.

    Raises:
        SplitError: something is in two splits, or the two tables list different images.
    """
    listed, expected = (sorted(zip(t["image_path"], t["image_sha256"], strict=True)) for t in (splits, manifest))
    if listed != expected:
        raise SplitError("the splits and the manifest list different images", "run `dvc repro split`")
    split_of_row = manifest["image_path"].map(splits.set_index("image_path")["split"]).to_numpy()
    hashes = near_duplicate_labels(manifest["perceptual_hash"].to_numpy(), near_duplicate_bits)
    alone = hashes < 0
    hashes[alone] = hashes.max(initial=-1) + 1 + np.arange(alone.sum())
    for what, labels in (
        ("the group", manifest["group_id"].to_numpy()),
        ("the same file", manifest["image_sha256"].to_numpy()),
        ("a near-duplicate", hashes),
    ):
        rows = pd.DataFrame({"label": labels, "split": split_of_row, "path": manifest["image_path"].to_numpy()})
        firsts = rows.drop_duplicates(["label", "split"])
        torn = firsts[firsts.duplicated("label", keep=False)]
        if not torn.empty:
            pair = torn[torn["label"] == torn["label"].iloc[0]]
            (first, second), (one, other) = pair["path"].iloc[:2], pair["split"].iloc[:2]
            raise SplitError(
                f"{what} is in two splits: {first} in {one}, {second} in {other}", "run `dvc repro prepare split`"
            )


def split_digest(splits: pd.DataFrame) -> str:
    """Return a sha256, in hexadecimal, that names a split whatever the order of its rows.

    Args:
        splits: with image_sha256, image_path, tier and split.
    """
    columns = (splits[name] for name in ("image_sha256", "image_path", "tier", "split"))
    lines = sorted(" ".join(row) for row in zip(*columns, strict=True))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def check_tiers(splits: pd.DataFrame, tiers: Sequence[str]) -> None:
    """Check that the tiers of a split are those of params.yaml, in their order.

    Args:
        splits: with `tier` and `tier_rank`.
        tiers: names, best first.

    Raises:
        SplitError: a tier is not among `tiers`, or has another rank.
    """
    rank = {tier: len(tiers) - 1 - place for place, tier in enumerate(tiers)}
    for tier, found in splits[["tier", "tier_rank"]].drop_duplicates().itertuples(index=False):
        if rank.get(tier) != found:
            raise SplitError(
                f"the split was made with other tiers than {' > '.join(tiers)}: tier {tier} has rank {found}, "
                f"expected {rank.get(tier, 'none')}",
                "run `dvc repro split`",
            )


def public_ids(splits: pd.DataFrame) -> pd.Series:
    """Return the name that each row may have in Git, where paths may name people: 16 hexadecimal digits.

    The stage `split` works them out and keeps them as a column; a split of an earlier version has no such column.

    Args:
        splits: with image_sha256 and image_path, or with public_id.
    """
    if "public_id" in splits:
        return splits["public_id"].rename("id").astype(object)
    named = (f"{sha256} {path}" for sha256, path in zip(splits["image_sha256"], splits["image_path"], strict=True))
    ids = [hashlib.sha256(name.encode()).hexdigest()[:16] for name in named]
    return pd.Series(ids, index=splits.index, name="id", dtype=object)


def read_splits(path: Path | str) -> pd.DataFrame:
    """Read a split.

    Raises:
        DataError: the file is missing, damaged or not a split.
    """
    splits = read_table(path, (*_COLUMNS, "split"), "dvc repro split")
    return splits.assign(public_id=public_ids(splits).astype("str"))


def _largest_drift(splits: pd.DataFrame) -> tuple[float, str, str]:
    """Return the largest drift in percentage points and the tier and the split where it is."""
    table = pd.crosstab(splits["tier"], splits["split"])
    drift = np.abs(shares_off(table.to_numpy().T)).T
    tier, name = np.unravel_index(drift.argmax(), drift.shape)
    return float(drift[tier, name]), str(table.index[tier]), str(table.columns[name])
