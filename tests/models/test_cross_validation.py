import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mirip.errors import DataError
from mirip.features.cache.feature_cache import FeatureCache
from mirip.models.baselines import BASELINES
from mirip.models.cross_validation import cross_validate, held_out_folds
from mirip.params import EvaluateParams, HeadParams, TrainParams

TIERS = ("S", "A", "B", "C")
TRAIN = TrainParams(
    head=HeadParams(hidden_dim=16, embedding_dim=8, score_hidden_dim=4),
    learning_rate=0.01,
    max_epochs=8,
    images_per_step=128,
    calibration_folds=2,
    device="cpu",
)
EVALUATE = EvaluateParams(n_bootstrap=200)


def images_of(n: int, *, seed: int = 0, contexts: int = 3) -> pd.DataFrame:
    """Artworks in groups of about two; a group stays within one context."""
    rng = np.random.default_rng(seed)
    rank, group = rng.choice(4, size=n, p=[0.25, 0.4, 0.25, 0.1]), rng.integers(0, n // 2, n)
    return pd.DataFrame(
        {
            "image_path": [f"{k}.jpg" for k in range(n)],
            "image_sha256": [hashlib.sha256(f"{seed} {k}".encode()).hexdigest() for k in range(n)],
            "tier": ["CBAS"[r] for r in rank],
            "tier_rank": rank.astype(np.int8),
            "group_id": group,
            "context": [("oil", "ink", "clay", "wood")[g % contexts] for g in group],
        }
    )


def cache_of(images: pd.DataFrame, signal: float = 1.0) -> FeatureCache:
    """Features of which the first follows the tier by `signal`."""
    features = np.random.default_rng(1).normal(size=(len(images), 12)).astype(np.float16)
    features[:, 0] += signal * images["tier_rank"].to_numpy()
    order = np.argsort(images["image_sha256"].to_numpy())
    keys = images["image_sha256"].to_numpy(dtype="S64")[order]
    return FeatureCache(Path("tiny.h5"), keys, features[order], "f" * 64, {}, "d" * 64)


def validated(images, cache, **options):
    return cross_validate(images, cache, TRAIN, EVALUATE, tiers=TIERS, **options)


@pytest.fixture(scope="module")
def images():
    return images_of(300)


@pytest.fixture(scope="module")
def found(images):
    return validated(images, cache_of(images))


@pytest.mark.slow
def test_the_accuracy_is_that_of_the_pairs_within_folds(images, found):
    metrics, folds = found.evaluation.metrics, found.folds
    assert metrics["n_pairs"] == folds["n_pairs"].sum() < 0.3 * len(images) ** 2 / 2
    assert metrics["pairwise_accuracy"] == pytest.approx(
        np.average(folds["pairwise_accuracy"], weights=folds["n_pairs"])
    )
    assert metrics["baseline_ridge_accuracy"] == pytest.approx(
        np.average(folds["ridge_accuracy"], weights=folds["n_pairs"])
    )
    assert found.evaluation.baseline_table["model"].tolist() == ["chance", *BASELINES, "mirip"]
    assert metrics["baseline_logistic_accuracy"] > 0.7
    assert metrics["n_images"] == len(images)
    assert metrics["pairwise_accuracy"] > 0.7
    assert metrics["pairwise_accuracy_ci_low"] < metrics["pairwise_accuracy"] < metrics["pairwise_accuracy_ci_high"]


@pytest.mark.slow
def test_the_same_call_gives_the_same_result(images, found):
    again = validated(images, cache_of(images))
    assert np.array_equal(again.scores, found.scores)
    assert again.evaluation.metrics == found.evaluation.metrics


@pytest.mark.slow
def test_labels_of_what_is_held_out_have_no_say_in_its_scores(images):
    """Nor in the epoch, nor in the temperature that the scores are divided by."""
    cache, oil = cache_of(images), (images["context"] == "oil").to_numpy()
    rng = np.random.default_rng(2)
    rank = np.where(oil, rng.permutation(images["tier_rank"]), images["tier_rank"]).astype(np.int8)
    relabelled = images.assign(tier_rank=rank, tier=["CBAS"[r] for r in rank])
    first, second = (validated(table, cache, by="context") for table in (images, relabelled))
    assert np.array_equal(first.scores[oil], second.scores[oil])
    assert not np.array_equal(first.scores[~oil], second.scores[~oil])


@pytest.mark.slow
def test_a_group_that_reaches_into_the_held_out_context_is_not_trained_on(images):
    torn = images.assign(context=np.where(np.arange(300) % 10 == 0, "oil", images["context"]))
    in_oil = torn.loc[torn["context"] == "oil", "group_id"].unique()
    kept = torn[(torn["context"] == "oil") | ~torn["group_id"].isin(in_oil)].reset_index(drop=True)
    assert len(kept) < len(torn)
    whole, fewer = (validated(table, cache_of(images), by="context") for table in (torn, kept))
    assert np.array_equal(
        whole.scores[(torn["context"] == "oil").to_numpy()], fewer.scores[(kept["context"] == "oil").to_numpy()]
    )


@pytest.mark.slow
def test_without_any_signal_it_is_one_half():
    accuracies = []
    for seed in range(4):
        images = images_of(240, seed=seed)
        accuracies.append(validated(images, cache_of(images, 0.0), n_folds=3).evaluation.metrics["pairwise_accuracy"])
    assert np.mean(accuracies) == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize("by", ["tier", "group"])
def test_folds_hold_whole_groups_and_every_image_once(images, by):
    fold, names = held_out_folds(images, by, 4, seed=0)
    assert names == ["1", "2", "3", "4"]
    assert (pd.Series(fold).groupby(images["group_id"]).nunique() == 1).all()
    assert np.bincount(fold).min() > 0.8 * len(images) / 4


def test_folds_by_tier_hold_their_share_of_every_tier(images):
    fold, _ = held_out_folds(images, "tier", 5, seed=0)
    shares = pd.crosstab(fold, images["tier"], normalize="index")
    assert (shares - images["tier"].value_counts(normalize=True)).abs().to_numpy().max() < 0.03


def test_few_groups_are_left_out_one_at_a_time(images):
    fold, names = held_out_folds(images.assign(group_id=images["group_id"] % 3), "group", 5, seed=0)
    assert len(names) == 3
    assert (pd.Series(images["group_id"] % 3).groupby(fold).nunique() == 1).all()


def test_contexts_are_left_out_one_at_a_time(images):
    fold, names = held_out_folds(images, "context", 5, seed=0)
    assert names == ["clay", "ink", "oil"]
    assert [names[k] for k in fold] == images["context"].tolist()


def test_another_seed_deals_other_folds(images):
    first, again, other = (held_out_folds(images, "tier", 5, seed=seed)[0] for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.slow
def test_a_context_of_one_tier_has_scores_but_no_accuracy(images):
    one_tier = images.assign(context=np.where(images["tier"] == "A", "etching", images["context"]))
    one_tier["group_id"] = np.arange(len(images))
    found = validated(one_tier, cache_of(images), by="context")
    row = found.folds.set_index("left_out").loc["etching"]
    assert row["n_pairs"] == 0
    assert np.isnan(row["pairwise_accuracy"])
    assert found.evaluation.metrics["kendall_tau_b"] > 0.2
    assert found.evaluation.metrics["spearman"] > 0.2
    assert np.isfinite(found.scores).all()
    assert "NaN" in found.table()


@pytest.mark.parametrize(
    ("change", "options", "says"),
    [
        ({"context": "oil"}, {"by": "context"}, "all images are of one context"),
        ({"group_id": 0}, {"by": "group"}, "1 groups cannot fill 1 folds"),
        ({}, {"n_folds": 500}, "groups cannot fill 500 folds"),
        ({}, {"n_folds": 1}, "cannot fill 1 folds"),
    ],
)
def test_what_cannot_be_folded_is_one_line(images, change, options, says):
    with pytest.raises(DataError, match=says):
        validated(images.assign(**change), cache_of(images), **options)


@pytest.mark.slow
def test_a_fold_that_leaves_one_tier_to_train_on_says_which(images):
    rank = np.where(images["context"] == "oil", images["tier_rank"], 0).astype(np.int8)
    lone = images.assign(tier_rank=rank, tier=["CBAS"[r] for r in rank])
    with pytest.raises(DataError, match=r"without oil .* images of 1 tiers"):
        validated(lone, cache_of(images), by="context")
