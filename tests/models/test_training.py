"""Training as the stage and the command line do it: whole groups out of fold, a calibrated checkpoint."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from made_ranking_data import QUICK as CONFIG

from mirip.data.split import split_digest
from mirip.errors import DataError
from mirip.features.cache.feature_cache import FeatureCache
from mirip.metrics.calibration import win_probability
from mirip.models.trainer import Trainer
from mirip.models.training import (
    ranking_data,
    short_keys,
    train_ranker,
    training_key,
)


@pytest.fixture(scope="module")
def splits() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    n = 500
    rank = rng.choice(4, size=n, p=[0.25, 0.4, 0.25, 0.1])
    return pd.DataFrame(
        {
            "image_path": [f"{k}.jpg" for k in range(n)],
            "image_sha256": [hashlib.sha256(str(k).encode()).hexdigest() for k in range(n)],
            "tier": ["CBAS"[r] for r in rank],
            "tier_rank": rank.astype(np.int8),
            "group_id": rng.integers(0, 200, n),
            "context": rng.choice(["oil", "ink"], n),
            "split": rng.choice(["train", "val", "test"], n, p=[0.8, 0.1, 0.1]),
        }
    )


@pytest.fixture(scope="module")
def cache(splits: pd.DataFrame) -> FeatureCache:
    rng = np.random.default_rng(1)
    order = np.argsort(splits["image_sha256"].to_numpy())
    features = rng.normal(size=(len(splits), 12))
    features[:, 0] += splits["tier_rank"].to_numpy()
    keys = splits["image_sha256"].to_numpy()[order].astype("S64")
    return FeatureCache(Path("x.h5"), keys, features[order].astype(np.float16), "f" * 64, {"pooling": "cls"}, "d" * 64)


def test_a_split_comes_in_the_order_of_the_file(splits, cache) -> None:
    val = ranking_data(splits, cache, "val")
    rows = splits[splits["split"] == "val"]
    assert val.tier_rank.tolist() == rows["tier_rank"].tolist()
    np.testing.assert_array_equal(val.features, cache.rows(rows["image_sha256"].tolist()))
    assert len({(code, name) for code, name in zip(val.context, rows["context"], strict=True)}) == 2


def test_too_few_groups_to_calibrate_on_are_an_error_before_the_training(splits, cache) -> None:
    few = splits.assign(group_id=splits["tier_rank"].clip(upper=1))
    with pytest.raises(DataError, match="in 2 groups are too few to calibrate"):
        train_ranker(few, cache, Trainer(CONFIG), tiers=["S", "A", "B", "C"])


@pytest.mark.slow
def test_the_checkpoint_carries_what_a_score_means(splits, cache) -> None:
    found = train_ranker(splits, cache, Trainer(CONFIG), tiers=["S", "A", "B", "C"])
    checkpoint = found.checkpoint
    assert checkpoint.split_digest == split_digest(splits)
    assert checkpoint.fingerprint == cache.fingerprint
    assert checkpoint.ordinal_thresholds == sorted(checkpoint.ordinal_thresholds)
    assert len(checkpoint.ordinal_thresholds) == 3
    assert len(checkpoint.score_percentiles) == 101
    few = splits["context"].mask(splits.index < 25, "chalk")  # too few to be a distribution
    rare = train_ranker(splits.assign(context=few), cache, Trainer(CONFIG), tiers=["S", "A", "B", "C"]).checkpoint
    assert sorted(rare.context_percentiles) == ["ink", "oil"]
    test = ranking_data(splits, cache, "test")
    with torch.inference_mode():
        scores = found.result.model.score(torch.from_numpy(test.features)).numpy()
    better, worse = np.nonzero(test.tier_rank[:, None] > test.tier_rank[None, :])
    claimed = win_probability(scores[better] - scores[worse], checkpoint.temperature)
    assert np.maximum(claimed, 1 - claimed).mean() == pytest.approx((claimed > 0.5).mean(), abs=0.1)


@pytest.mark.slow
def test_the_test_split_has_no_say(splits, cache) -> None:
    """Not even in the standardisation: with the test split's features spoiled, the model is the same."""
    spoiled = cache.features.copy()
    test_keys = splits.loc[splits["split"] == "test", "image_sha256"].to_numpy().astype("S64")
    spoiled[np.isin(cache.keys, test_keys)] = 1000
    other = FeatureCache(cache.path, cache.keys, spoiled, cache.fingerprint, cache.recipe, cache.content_digest)
    first = train_ranker(splits, cache, Trainer(CONFIG), tiers=["S", "A", "B", "C"]).checkpoint
    second = train_ranker(splits, other, Trainer(CONFIG), tiers=["S", "A", "B", "C"]).checkpoint
    assert all(value.equal(second.model_state_dict[name]) for name, value in first.model_state_dict.items())
    assert first.temperature == second.temperature


@pytest.mark.slow
def test_a_training_can_be_interrupted_and_resumed(splits, cache, tmp_path) -> None:
    config = CONFIG.model_copy(update={"save_every_n_epochs": 3, "early_stopping_patience": 10})
    trainer = Trainer(config, checkpoint_dir=tmp_path)
    through = train_ranker(splits, cache, trainer, tiers=["S", "A", "B", "C"]).checkpoint
    for late in ("epoch_0006.pt", "epoch_0009.pt"):
        (tmp_path / late).unlink()
    resumed = train_ranker(splits, cache, trainer, tiers=["S", "A", "B", "C"], resume=True).checkpoint
    assert all(value.equal(resumed.model_state_dict[name]) for name, value in through.model_state_dict.items())


def test_a_training_is_named_by_all_that_decides_it(splits, cache) -> None:
    train, val = ranking_data(splits, cache, "train"), ranking_data(splits, cache, "val")
    upside_down = replace(train, tier_rank=3 - train.tier_rank)
    other_context = replace(train, context=1 - train.context)
    keys = [
        training_key(CONFIG, train, val),
        training_key(CONFIG.model_copy(update={"seed": 1}), train, val),
        training_key(CONFIG, upside_down, val),
        training_key(CONFIG, other_context, val),
        training_key(CONFIG, train, train),
    ]
    assert len(set(keys)) == 5


@pytest.mark.slow
def test_the_checkpoint_knows_the_images_it_has_seen(splits, cache) -> None:
    checkpoint = train_ranker(splits, cache, Trainer(CONFIG), tiers=["S", "A", "B", "C"]).checkpoint
    seen = np.isin(short_keys(splits["image_sha256"].tolist()), checkpoint.seen_images.numpy())
    assert (seen == (splits["split"] != "test")).all()


def test_images_unlike_those_of_the_training_are_told_apart(splits, tmp_path) -> None:
    """About one in a hundred of its kind is farther out than what is stored; what lies elsewhere is."""
    from mirip.metrics.unlikeness import FeatureSpread
    from mirip.models.ranking_data import RankingData
    from mirip.models.training import _spread

    rng = np.random.default_rng(0)
    features = rng.normal(size=(600, 24)).astype(np.float32)
    data = RankingData(features[:400], np.arange(400) % 4, np.zeros(400, int), np.arange(400))
    stored = _spread(data, 0)
    assert stored is not None
    spread = FeatureSpread(**{name: stored[name].numpy() for name in FeatureSpread._fields})
    above = float(stored["unlike_above"])
    assert (spread.distance(features[400:]) > above).mean() < 0.05
    assert (spread.distance(features[400:] + 30) > above).all()
    assert _spread(data.rows(np.arange(50)), 0) is None
