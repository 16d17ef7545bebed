import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mirip.errors import DataError
from mirip.features.cache.feature_cache import FeatureCache
from mirip.models.baselines import baseline_scores
from mirip.models.evaluation import images_in_test_split
from mirip.models.scores import Scores, public_scores
from mirip.models.training import ranking_data
from mirip.params import HeadParams, TrainParams

CONFIG = TrainParams(
    head=HeadParams(hidden_dim=8, embedding_dim=4, score_hidden_dim=2), max_epochs=15, learning_rate=0.01, device="cpu"
)


@pytest.fixture
def splits():
    """Sixty images, half of them on the train split."""
    rank = np.arange(60) % 4
    keys = [hashlib.sha256(str(k).encode()).hexdigest() for k in range(60)]
    side = np.repeat(["train", "val", "test"], [32, 8, 20])
    return pd.DataFrame(
        {
            "image_path": [f"anna/{k}.jpg" for k in range(60)],
            "image_sha256": keys,
            "tier": ["CBAS"[r] for r in rank],
            "tier_rank": rank.astype(np.int8),
            "group_id": np.arange(60) // 2,
            "context": "oil",
            "split": side,
        }
    )


@pytest.fixture
def cache(splits):
    """Features of which the first follows the tier."""
    features = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float16)
    features[:, 0] += splits["tier_rank"].to_numpy()
    order = np.argsort(splits["image_sha256"])
    keys = splits["image_sha256"].to_numpy(dtype="S64")[order]
    return FeatureCache(Path("tiny.h5"), keys, features[order], "f" * 64, {}, "d" * 64)


def scores_of(splits, cache, test_x):
    train, val = (ranking_data(splits, cache, split) for split in ("train", "val"))
    return baseline_scores(train, val, test_x, CONFIG)


def test_baselines_see_no_label_of_the_test_split(splits, cache):
    test = images_in_test_split(splits)
    relabelled = splits.assign(tier_rank=splits["tier_rank"].where(splits["split"] != "test", 0))
    test_x = cache.rows(test["image_sha256"].tolist())
    first, second = (scores_of(table, cache, test_x) for table in (splits, relabelled))
    assert list(first) == ["knn", "ridge", "logistic", "linear"]
    for name in first:
        assert np.array_equal(first[name], second[name])


def test_the_linear_head_alone_looks_at_the_validation_split(splits, cache):
    """It chooses its epoch there; the classical ones have no epoch to choose."""
    test_x = cache.rows(images_in_test_split(splits)["image_sha256"].tolist())
    relabelled = splits.assign(tier_rank=splits["tier_rank"].where(splits["split"] != "val", 3 - splits["tier_rank"]))
    first, second = (scores_of(table, cache, test_x) for table in (splits, relabelled))
    assert [name for name in first if not np.array_equal(first[name], second[name])] == ["linear"]


def test_each_seed_has_a_column_behind_the_score(splits):
    test = images_in_test_split(splits)
    by_seed = {7: np.arange(20.0), 8: np.arange(20.0)[::-1]}
    scores = public_scores(test, Scores(np.zeros(20), by_seed))
    assert list(scores)[-3:] == ["score", "score_seed_7", "score_seed_8"]
    assert scores["score_seed_8"].tolist() == by_seed[8].tolist()


def test_each_kind_of_members_has_a_column_behind_the_seeds(splits):
    test = images_in_test_split(splits)
    scores = public_scores(
        test, Scores(np.zeros(20), {7: np.ones(20)}, {"head": np.arange(20.0), "ridge": np.ones(20)})
    )
    assert list(scores)[-4:] == ["score", "score_seed_7", "score_head", "score_ridge"]
    assert scores["score_head"].tolist() == list(range(20))


def test_public_scores_tell_groups_apart_and_name_nobody(splits):
    test = images_in_test_split(splits)
    scores = public_scores(test, Scores(np.arange(20.0), {}))
    assert scores["id"].is_unique
    assert scores["group"].nunique() == test["group_id"].nunique()
    assert "anna" not in scores.to_csv()
    assert "oil" not in scores.to_csv()


@pytest.mark.parametrize(("kept", "found"), [(["S"], "S"), ([], "none")])
def test_a_test_split_without_a_pair_is_refused(splits, kept, found):
    usable = (splits["split"] == "train") | splits["tier"].isin(kept)
    with pytest.raises(DataError, match=f"of the tiers {found}, so no pair to evaluate: raise split.test"):
        images_in_test_split(splits[usable])
