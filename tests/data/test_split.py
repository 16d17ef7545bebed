import hashlib
import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirip.data.split import (
    DataSplitter,
    check_disjoint,
    public_ids,
    read_splits,
    split_digest,
    tier_drift,
)
from mirip.data.tables import write_table
from mirip.errors import DataError, ParamsError, SplitError

TIERS = "CBAS"


def _manifest(ranks: list[int], groups: list[int]) -> pd.DataFrame:
    n = len(ranks)
    return pd.DataFrame(
        {
            "image_path": [f"images/{k}.jpg" for k in range(n)],
            "image_sha256": [hashlib.sha256(str(k).encode()).hexdigest() for k in range(n)],
            "perceptual_hash": np.random.default_rng(n).integers(1, 2**64, size=n, dtype=np.uint64),
            "tier": [TIERS[rank] for rank in ranks],
            "tier_rank": np.array(ranks, dtype=np.int8),
            "group_id": pd.factorize(np.array(groups))[0].astype(np.int64),
            "context": [""] * n,
        }
    )


def _typical(n: int = 600, n_groups: int = 400, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    ranks = rng.choice(4, size=n, p=[0.25, 0.4, 0.25, 0.1])
    return _manifest(ranks.tolist(), rng.integers(n_groups, size=n).tolist())


_MANIFESTS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 25)), min_size=3, max_size=80).map(
    lambda rows: _manifest([rank for rank, _ in rows], [group for _, group in rows])
)


def _has_split_with_every_tier(manifest: pd.DataFrame) -> bool:
    """Try every split; only a handful of groups can make it impossible."""
    counts = pd.crosstab(manifest["group_id"], manifest["tier"]).to_numpy() > 0
    assert len(counts) <= 8, "so many groups can be split"
    counts = counts[:, counts.sum(axis=0) >= 3]
    return any(
        set(splits) == {0, 1, 2} and all(counts[np.array(splits) == split].any(axis=0).all() for split in range(3))
        for splits in itertools.product(range(3), repeat=len(counts))
    )


@pytest.mark.slow
@settings(max_examples=60)
@given(_MANIFESTS, st.integers(0, 100))
def test_whole_groups_every_row_once_and_no_empty_split(manifest: pd.DataFrame, seed: int) -> None:
    if manifest["group_id"].nunique() < 3:
        with pytest.raises(SplitError, match="cannot fill 3 splits"):
            DataSplitter(seed=seed).split(manifest)
        return
    try:
        splits = DataSplitter(seed=seed, max_tier_drift=100).split(manifest)
    except SplitError:
        assert not _has_split_with_every_tier(manifest)
        return
    assert splits["image_path"].tolist() == manifest["image_path"].tolist()
    assert set(splits["split"]) == {"train", "val", "test"}
    assert (splits.groupby("group_id")["split"].nunique() == 1).all()
    per_tier = splits.groupby("tier")["group_id"].nunique()
    sides = splits.groupby("tier")["split"].nunique()
    assert all(sides[tier] == 3 for tier, n in per_tier.items() if n >= 3)
    check_disjoint(splits, manifest)


@pytest.mark.slow
@settings(max_examples=30)
@given(_MANIFESTS, st.randoms(use_true_random=False))
def test_the_order_of_rows_and_the_group_numbers_have_no_say(manifest: pd.DataFrame, random: object) -> None:
    order = list(range(len(manifest)))
    random.shuffle(order)  # type: ignore[attr-defined]
    shuffled = manifest.iloc[order].reset_index(drop=True)
    shuffled["group_id"] = pd.factorize(shuffled["group_id"])[0]
    splitter = DataSplitter(max_tier_drift=100)
    try:
        first = splitter.split(manifest)
    except SplitError:
        with pytest.raises(SplitError):
            splitter.split(shuffled)
        return
    second = splitter.split(shuffled)
    assert dict(zip(first["image_path"], first["split"], strict=True)) == dict(
        zip(second["image_path"], second["split"], strict=True)
    )
    assert split_digest(first) == split_digest(second)


@pytest.mark.slow
@given(st.lists(st.tuples(st.sampled_from("SAB"), st.sampled_from(["train", "val", "test"])), min_size=1))
def test_drift_is_the_largest_difference_of_shares(rows: list[tuple[str, str]]) -> None:
    splits = pd.DataFrame(rows, columns=["tier", "split"])
    expected = 0.0
    for split in set(splits["split"]):
        for tier in set(splits["tier"]):
            in_split = [t for t, s in rows if s == split]
            expected = max(expected, abs(in_split.count(tier) / len(in_split) - (splits["tier"] == tier).mean()) * 100)
    assert tier_drift(splits) == pytest.approx(expected)


@pytest.mark.parametrize("seed", [0, 1, 42])
def test_a_typical_table_is_split_80_10_10_with_little_drift(seed: int) -> None:
    splits = DataSplitter(seed=seed).split(_typical())
    sizes = splits["split"].value_counts()
    assert sizes.to_dict() == pytest.approx({"train": 480, "val": 60, "test": 60}, abs=2)
    assert tier_drift(splits) < 1.5


def test_the_seed_decides_the_split() -> None:
    manifest = _typical()
    first, again, other = (DataSplitter(seed=seed).split(manifest) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first, again)
    assert (first["split"] != other["split"]).mean() > 0.2


@pytest.mark.slow
def test_a_large_group_has_a_chance_of_every_split() -> None:
    ranks = (np.arange(300) % 4).tolist()
    manifest = _manifest(ranks, [0] * 8 + list(range(1, 293)))
    found = {DataSplitter(seed=seed).split(manifest)["split"][0] for seed in range(40)}
    assert found == {"train", "val", "test"}


def test_a_few_new_groups_move_few_of_the_old_ones() -> None:
    manifest = _typical(600, 600)
    manifest["group_id"] = range(600)
    fewer = manifest.iloc[:-5].reset_index(drop=True)
    all_splits = DataSplitter().split(manifest)["split"].iloc[:-5]
    assert (all_splits.to_numpy() != DataSplitter().split(fewer)["split"].to_numpy()).mean() < 0.05


def test_a_large_table_is_no_slower_than_its_size() -> None:
    splits = DataSplitter().split(_typical(50_000, 20_000))
    assert tier_drift(splits) < 0.1


def test_splits_of_no_share_are_left_out() -> None:
    splits = DataSplitter(train=0.9, val=0.1, test=0.0).split(_typical())
    assert set(splits["split"]) == {"train", "val"}


def test_impossible_tier_shares_name_tier_split_drift_and_way_out() -> None:
    manifest = _manifest([3] * 30 + [0] * 30 + [1] * 30, [0] * 30 + [1] * 30 + [2] * 30)
    with pytest.raises(
        SplitError, match=r"tier \w makes 100\.0% of \w+ but 33\.3% .*66\.7 points apart, 5 allowed: raise split\.max_"
    ):
        DataSplitter().split(manifest)


def test_few_images_are_told_how_many_are_needed_and_not_to_allow_more_drift() -> None:
    manifest = _manifest([3, 3, 2, 2, 1, 1, 0, 0], list(range(8)))
    with pytest.raises(
        SplitError, match=r"2 images are too few for test: give about 100 in all, or.*crossval"
    ) as caught:
        DataSplitter().split(manifest)
    assert "raise" not in caught.value.advice


def test_shares_must_add_up() -> None:
    with pytest.raises(ParamsError, match=r"add up to 1, got 0\.8, 0\.1 and 0\.2"):
        DataSplitter(test=0.2)


def test_a_manifest_without_groups_is_refused() -> None:
    with pytest.raises(SplitError, match="lacks the columns group_id"):
        DataSplitter().split(_typical().drop(columns="group_id"))


@pytest.fixture
def disjoint() -> tuple[pd.DataFrame, pd.DataFrame]:
    manifest = _typical(60, 40)
    return DataSplitter(max_tier_drift=50).split(manifest), manifest


def _two_rows_apart(splits: pd.DataFrame) -> tuple[int, int]:
    return int(splits.index[splits["split"] == "train"][0]), int(splits.index[splits["split"] == "test"][0])


@pytest.mark.parametrize(
    ("column", "message"),
    [("group_id", "the group"), ("image_sha256", "the same file"), ("perceptual_hash", "a near-duplicate")],
)
def test_nothing_may_be_in_two_splits(disjoint: tuple[pd.DataFrame, pd.DataFrame], column: str, message: str) -> None:
    splits, manifest = disjoint
    check_disjoint(splits, manifest)
    first, second = _two_rows_apart(splits)
    value = manifest.loc[first, column]
    manifest.loc[second, column] = value ^ np.uint64(0b1111) if column == "perceptual_hash" else value
    if column == "image_sha256":
        splits.loc[second, column] = value
    with pytest.raises(SplitError, match=f"{message} is in two splits: images/") as caught:
        check_disjoint(splits, manifest)
    assert "in train" in str(caught.value)
    assert "in test" in str(caught.value)


def test_blank_images_may_be_in_two_splits(disjoint: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    splits, manifest = disjoint
    manifest["perceptual_hash"] = np.uint64(0)
    check_disjoint(splits, manifest)


def test_splits_of_another_manifest_are_refused(disjoint: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    splits, manifest = disjoint
    with pytest.raises(SplitError, match="list different images: run `dvc repro split`"):
        check_disjoint(splits.iloc[1:], manifest)


def test_the_digest_names_path_tier_and_split(disjoint: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    splits, _ = disjoint
    digest = split_digest(splits)
    assert len(digest) == 64
    assert split_digest(splits.iloc[::-1]) == digest
    for column in ("image_path", "tier", "split", "image_sha256"):
        changed = splits.copy()
        changed.loc[0, column] = "other"
        assert split_digest(changed) != digest


def test_a_public_id_is_the_start_of_a_hash_of_content_and_path() -> None:
    splits = pd.DataFrame({"image_sha256": ["ab"], "image_path": ["c d.jpg"]}, index=[7])
    assert public_ids(splits).to_dict() == {7: hashlib.sha256(b"ab c d.jpg").hexdigest()[:16]}
    assert public_ids(splits.assign(public_id="kept")).to_dict() == {7: "kept"}


def test_splits_read_back_or_say_what_to_run(tmp_path: Path, disjoint: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    path = tmp_path / "splits.parquet"
    with pytest.raises(DataError, match="run `dvc repro split`"):
        read_splits(path)
    write_table(path, disjoint[0])
    named = disjoint[0].assign(public_id=public_ids(disjoint[0]).astype("str"))
    pd.testing.assert_frame_equal(read_splits(path), named)  # written by a version without public ids
    write_table(path, named)
    pd.testing.assert_frame_equal(read_splits(path), named)
