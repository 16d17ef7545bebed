"""Training as the stage and the command line do it: whole groups out of fold, a calibrated checkpoint."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from mirip.data.folds import deal_folds
from mirip.data.split import split_digest
from mirip.errors import DataError
from mirip.features.cache.feature_cache import FeatureCache
from mirip.metrics.calibration import win_probability
from mirip.metrics.image_issues import label_issues
from mirip.metrics.pairwise import pairwise_accuracy
from mirip.models.ranking_data import RankingData
from mirip.models.trainer import Trainer
from mirip.models.training import (
    calibration_folds,
    cross_fitted_scores,
    out_of_fold_scores,
    ranking_data,
    short_keys,
    train_ranker,
    training_key,
)
from mirip.params import HeadParams, TrainParams

CONFIG = TrainParams(
    head=HeadParams(hidden_dim=16, embedding_dim=8, score_hidden_dim=4),
    learning_rate=0.01,
    max_epochs=10,
    images_per_step=128,
    device="cpu",
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


def test_folds_keep_groups_whole_and_share_out_the_best_tier() -> None:
    rng = np.random.default_rng(0)
    groups, rank = rng.integers(0, 60, 300), rng.choice(4, 300, p=[0.3, 0.4, 0.2, 0.1])
    fold = deal_folds(groups, rank, 5, rng)
    assert all(len(set(fold[groups == group])) == 1 for group in set(groups))
    assert set(fold) == set(range(5))
    assert all((rank[fold == k] == 3).any() for k in range(5))


@pytest.mark.slow
def test_no_image_is_scored_by_a_model_that_saw_its_group() -> None:
    """Features name the group and nothing else: seen, they would give the tier away; unseen, they say nothing."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), 4)
    rank = np.repeat(rng.integers(0, 4, 60), 4)
    features = np.eye(60, dtype=np.float32)[groups]
    data = RankingData(features, rank, np.zeros(240, int))
    folds = calibration_folds(data, groups, CONFIG)
    assert np.sum(folds, axis=0).tolist() == [1] * 240
    scores = out_of_fold_scores(data, folds, Trainer(CONFIG), epochs=10)
    assert abs(pairwise_accuracy(scores, rank) - 0.5) < 0.12


@pytest.mark.slow
def test_out_of_fold_scores_of_several_seeds_are_the_mean_of_their_heads() -> None:
    """Brought to one scale: as the heads alone, standardised on what each was trained on."""
    rng = np.random.default_rng(0)
    rank = rng.integers(0, 4, 120)
    features = rng.normal(size=(120, 12)).astype(np.float32)
    features[:, 0] += rank
    data = RankingData(features, rank, np.zeros(120, int))
    folds = calibration_folds(data, np.arange(120), CONFIG)
    both = Trainer(CONFIG.model_copy(update={"seeds": 2}))
    scores = out_of_fold_scores(data, folds, both, epochs=[3, 5])
    expected = np.zeros(120)
    for seed, epochs in ((CONFIG.seed, 3), (CONFIG.seed + 1, 5)):
        alone = Trainer(CONFIG.model_copy(update={"seed": seed}))
        for fold in folds:
            rest = RankingData(features[~fold], rank[~fold], data.context[~fold])
            model = alone.fit_epochs(rest, epochs)
            seen, unseen = (model.score(torch.from_numpy(x)).detach().numpy() for x in (rest.features, features[fold]))
            expected[fold] += (unseen - seen.mean()) / seen.std() / 2
    assert scores == pytest.approx(expected, abs=1e-3)


def test_a_fold_whose_rest_holds_no_fair_pair_is_left_out() -> None:
    """Two contexts, and one of them has all its pairs in one group."""
    rank, context = np.array([0, 1, 0, 0, 0, 0]), np.array([0, 0, 1, 1, 1, 1])
    data = RankingData(np.zeros((6, 2), np.float32), rank, context)
    groups = np.array([0, 0, 1, 2, 3, 4])
    same = CONFIG.model_copy(update={"pair_context": "same"})
    folds = calibration_folds(data, groups, same)
    assert not any(fold[0] for fold in folds)
    assert len(folds) == 4


def test_too_few_groups_to_calibrate_on_are_an_error_before_the_training(splits, cache) -> None:
    few = splits.assign(group_id=splits["tier_rank"].clip(upper=1))
    with pytest.raises(DataError, match="in 2 groups are too few to calibrate"):
        train_ranker(few, cache, Trainer(CONFIG), tiers=["S", "A", "B", "C"])


@pytest.mark.slow
def test_the_checkpoint_carries_what_a_score_means(splits, cache) -> None:
    checkpoint, result = train_ranker(splits, cache, Trainer(CONFIG), tiers=["S", "A", "B", "C"])
    assert checkpoint.split_digest == split_digest(splits)
    assert checkpoint.fingerprint == cache.fingerprint
    assert checkpoint.ordinal_thresholds == sorted(checkpoint.ordinal_thresholds)
    assert len(checkpoint.ordinal_thresholds) == 3
    assert len(checkpoint.score_percentiles) == 101
    few = splits["context"].mask(splits.index < 25, "chalk")  # too few to be a distribution
    rare, _ = train_ranker(splits.assign(context=few), cache, Trainer(CONFIG), tiers=["S", "A", "B", "C"])
    assert sorted(rare.context_percentiles) == ["ink", "oil"]
    test = ranking_data(splits, cache, "test")
    with torch.inference_mode():
        scores = result.model.score(torch.from_numpy(test.features)).numpy()
    better, worse = np.nonzero(test.tier_rank[:, None] > test.tier_rank[None, :])
    claimed = win_probability(scores[better] - scores[worse], checkpoint.temperature)
    assert np.maximum(claimed, 1 - claimed).mean() == pytest.approx((claimed > 0.5).mean(), abs=0.1)


@pytest.mark.slow
def test_all_splits_are_scored_by_models_that_saw_none_of_the_group(splits, cache) -> None:
    checkpoint, result = train_ranker(splits, cache, Trainer(CONFIG), tiers=["S", "A", "B", "C"])
    assert checkpoint.best_epoch == result.best_epoch
    scores, fold = cross_fitted_scores(splits, cache, checkpoint, n_folds=4, rng=np.random.default_rng(0))
    assert np.isfinite(scores).all()
    assert set(fold) == set(range(4))
    rank, groups = splits["tier_rank"].to_numpy(), splits["group_id"].to_numpy()
    assert 0.7 < pairwise_accuracy(scores, rank, context=fold) < 0.95
    first = fold == 0
    data = RankingData(cache.rows(splits["image_sha256"].tolist()), rank, np.zeros(len(rank), int))
    rest = RankingData(data.features[~first], rank[~first], data.context[~first])
    by_hand = Trainer(CONFIG).fit_epochs(rest, result.best_epoch)
    import torch

    with torch.inference_mode():
        np.testing.assert_allclose(scores[first], by_hand.score(torch.from_numpy(data.features[first])), rtol=1e-5)
    assert not set(groups[first]) & set(groups[~first])


@pytest.mark.slow
def test_labels_that_were_flipped_are_the_label_issues(splits, cache) -> None:
    clear = cache.features.astype(np.float32)
    rank_by_key = splits.set_index("image_sha256")["tier_rank"]
    clear[:, 1] = 2 * rank_by_key[[key.decode() for key in cache.keys]].to_numpy()
    told = FeatureCache(cache.path, cache.keys, clear, cache.fingerprint, cache.recipe, cache.content_digest)
    flipped = np.random.default_rng(3).choice(len(splits), len(splits) // 10, replace=False)
    rank = splits["tier_rank"].to_numpy().copy()
    rank[flipped] = 3 - rank[flipped]
    wrong = splits.assign(tier_rank=rank, tier=["CBAS"[r] for r in rank])
    checkpoint, _ = train_ranker(wrong, told, Trainer(CONFIG), tiers=["S", "A", "B", "C"])
    scores, fold = cross_fitted_scores(wrong, told, checkpoint, n_folds=5, rng=np.random.default_rng(0))
    assert np.isin(flipped, label_issues(scores, rank, fold)["row"]).mean() > 0.5


@pytest.mark.slow
def test_more_folds_than_groups_are_an_error(splits, cache) -> None:
    checkpoint, _ = train_ranker(splits, cache, Trainer(CONFIG), tiers=["S", "A", "B", "C"])
    few = splits.assign(group_id=splits["group_id"] % 4)
    with pytest.raises(DataError, match="4 groups cannot be dealt to 5 folds"):
        cross_fitted_scores(few, cache, checkpoint, n_folds=5, rng=np.random.default_rng(0))


@pytest.mark.slow
def test_the_test_split_has_no_say(splits, cache) -> None:
    """Not even in the standardisation: with the test split's features spoiled, the model is the same."""
    spoiled = cache.features.copy()
    test_keys = splits.loc[splits["split"] == "test", "image_sha256"].to_numpy().astype("S64")
    spoiled[np.isin(cache.keys, test_keys)] = 1000
    other = FeatureCache(cache.path, cache.keys, spoiled, cache.fingerprint, cache.recipe, cache.content_digest)
    first, _ = train_ranker(splits, cache, Trainer(CONFIG), tiers=["S", "A", "B", "C"])
    second, _ = train_ranker(splits, other, Trainer(CONFIG), tiers=["S", "A", "B", "C"])
    assert all(value.equal(second.model_state_dict[name]) for name, value in first.model_state_dict.items())
    assert first.temperature == second.temperature


@pytest.mark.slow
def test_a_training_can_be_interrupted_and_resumed(splits, cache, tmp_path) -> None:
    config = CONFIG.model_copy(update={"save_every_n_epochs": 3, "early_stopping_patience": 10})
    trainer = Trainer(config, checkpoint_dir=tmp_path)
    through, _ = train_ranker(splits, cache, trainer, tiers=["S", "A", "B", "C"])
    for late in ("epoch_0006.pt", "epoch_0009.pt"):
        (tmp_path / late).unlink()
    resumed, _ = train_ranker(splits, cache, trainer, tiers=["S", "A", "B", "C"], resume=True)
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
    checkpoint, _ = train_ranker(splits, cache, Trainer(CONFIG), tiers=["S", "A", "B", "C"])
    seen = np.isin(short_keys(splits["image_sha256"].tolist()), checkpoint.seen_images.numpy())
    assert (seen == (splits["split"] != "test")).all()
