import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mirip.errors import DataError
from mirip.features.cache import FeatureCache
from mirip.models.judgement import baseline_scores, judged_side, public_scores


@pytest.fixture
def splits():
    """Sixty images, two thirds of them on the train side."""
    rank = np.arange(60) % 4
    keys = [hashlib.sha256(str(k).encode()).hexdigest() for k in range(60)]
    side = np.where(np.arange(60) < 40, "train", "test")
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


def test_baselines_see_no_label_of_the_judged_side(splits, cache):
    test = judged_side(splits)
    relabelled = splits.assign(tier_rank=splits["tier_rank"].where(splits["split"] == "train", 0))
    test_x = cache.rows(test["image_sha256"].tolist())
    first, second = (baseline_scores(table, cache, test_x) for table in (splits, relabelled))
    assert list(first) == ["knn", "ridge"]
    for name in first:
        assert np.array_equal(first[name], second[name])


def test_public_scores_tell_groups_apart_and_name_nobody(splits):
    test = judged_side(splits)
    scores = public_scores(test, np.arange(20.0))
    assert scores["id"].is_unique
    assert scores["group"].nunique() == test["group_id"].nunique()
    assert "anna" not in scores.to_csv()
    assert "oil" not in scores.to_csv()


@pytest.mark.parametrize(("kept", "found"), [(["S"], "S"), ([], "none")])
def test_a_test_side_without_a_pair_is_refused(splits, kept, found):
    usable = (splits["split"] == "train") | splits["tier"].isin(kept)
    with pytest.raises(DataError, match=f"of the tiers {found}, so no pair to judge: raise split.test"):
        judged_side(splits[usable])
