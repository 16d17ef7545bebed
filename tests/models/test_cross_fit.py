"""Out of fold: no image is scored by a model that saw its group, and nothing scored chose its own model."""

import numpy as np
import pytest
import torch
from made_ranking_data import QUICK as CONFIG

from mirip.data.folds import deal_folds
from mirip.metrics.image_issues import label_issues
from mirip.metrics.pairwise import pairwise_accuracy
from mirip.models.cross_fit import cross_fit, learned_weights, training_folds
from mirip.models.ranking_data import RankingData
from mirip.models.scores import NO_FOLD
from mirip.models.trainer import Trainer, TrainingConfig

ALL = CONFIG.model_copy(update={"members": ("head", "ridge", "logistic")})


def made(n: int, seed: int, signal: float = 1.0, per_group: int = 2) -> RankingData:
    rng = np.random.default_rng(seed)
    rank = rng.integers(0, 4, n)
    features = rng.normal(size=(n, 12)).astype(np.float32)
    features[:, 0] += signal * rank
    return RankingData(features, rank, np.zeros(n, dtype=np.int64), np.arange(n) // per_group)


def test_folds_keep_groups_whole_and_share_out_the_best_tier() -> None:
    rng = np.random.default_rng(0)
    groups, rank = rng.integers(0, 60, 300), rng.choice(4, 300, p=[0.3, 0.4, 0.2, 0.1])
    fold = deal_folds(groups, rank, 5, rng)
    assert all(len(set(fold[groups == group])) == 1 for group in set(groups))
    assert set(fold) == set(range(5))
    assert all((rank[fold == k] == 3).any() for k in range(5))


@pytest.mark.parametrize("config", [CONFIG, ALL], ids=["head", "all members"])
def test_no_image_is_scored_by_a_model_that_saw_its_group(config) -> None:
    """Features name the group and nothing else: seen, they would give the tier away; unseen, they say nothing."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), 4)
    rank = np.repeat(rng.integers(0, 4, 60), 4)
    data = RankingData(np.eye(60, dtype=np.float32)[groups], rank, np.zeros(240, int), groups)
    found = cross_fit(data, config, epochs=[10])
    assert (found.fold != NO_FOLD).all()
    assert all(len(set(found.fold[groups == group])) == 1 for group in range(60))
    assert abs(pairwise_accuracy(found.scores, rank, context=found.fold) - 0.5) < 0.12


def test_each_fold_is_scored_by_the_model_trained_on_the_others() -> None:
    data = made(200, 0)
    config = ALL.model_copy(update={"seeds": 2})
    found = cross_fit(data, config, epochs=[3, 5])
    for k in range(5):
        rest = data.rows(found.fold != k)
        model = Trainer(config).fit_epochs(rest, [3, 5])
        with torch.inference_mode():
            kinds = model.by_kind(model.score_members(torch.from_numpy(data.features[found.fold == k]))).numpy()
        assert found.by_kind[:, found.fold == k] == pytest.approx(kinds, abs=1e-4)


def test_the_same_bytes_come_out_each_time() -> None:
    data, val = made(200, 0), made(50, 1)
    first, second = (cross_fit(data, ALL, epochs=[4], val=val) for _ in range(2))
    assert first.scores.tobytes() == second.scores.tobytes()
    assert first.val_scores is not None
    assert second.val_scores is not None
    assert first.val_scores.tobytes() == second.val_scores.tobytes()


def test_what_is_scored_has_no_say_in_its_own_weights_and_epoch() -> None:
    """With the labels of a fold turned round, the other folds' members change, its own score does not but by those."""
    data, val = made(200, 0), made(50, 1)
    found = cross_fit(data, ALL, epochs=[4], val=val)
    upside_down = RankingData(val.features, 3 - val.tier_rank, val.context, val.group)
    other = cross_fit(data, ALL, epochs=[4], val=upside_down)
    assert np.array_equal(found.val_scores, other.val_scores)
    for k in range(5):
        inside = found.fold == k
        by_others = learned_weights(found.by_kind[:, ~inside], data.tier_rank[~inside], found.fold[~inside], seed=42)
        assert found.scores[inside] == pytest.approx(by_others @ found.by_kind[:, inside])


@pytest.mark.slow
def test_random_tiers_are_ranked_at_chance() -> None:
    """Weights and epochs that had seen what they score would lift it: the mean over sets stays within its error."""
    accuracies = []
    for seed in range(20):
        data, val = made(120, seed, signal=0.0), made(40, 100 + seed, signal=0.0)
        found = cross_fit(data, ALL, epochs=[5], val=val)
        scores = np.concatenate([found.scores, found.val_scores])
        fold = np.concatenate([found.fold, np.full(len(val), 5)])
        accuracies.append(pairwise_accuracy(scores, np.concatenate([data.tier_rank, val.tier_rank]), context=fold))
    error = np.std(accuracies, ddof=1) / np.sqrt(len(accuracies))
    assert abs(np.mean(accuracies) - 0.5) < 3 * error


def test_a_fold_whose_rest_holds_no_fair_pair_has_no_scores() -> None:
    """Two contexts, and one of them has all its pairs in one group."""
    rank, context = np.array([0, 1, 0, 0, 0, 0]), np.array([0, 0, 1, 1, 1, 1])
    data = RankingData(np.zeros((6, 2), np.float32), rank, context, np.array([0, 0, 1, 2, 3, 4]))
    fold = training_folds(data, CONFIG.model_copy(update={"pair_context": "same"}))
    assert (fold == NO_FOLD).tolist() == [True, True, False, False, False, False]


def test_where_no_fold_holds_a_pair_the_validation_split_has_no_scores() -> None:
    data, val = made(40, 0), made(10, 1)
    by_tier = RankingData(data.features, np.repeat([0, 1], 20), data.context, np.repeat(np.arange(4), 10))
    found = cross_fit(by_tier, CONFIG.model_copy(update={"calibration_folds": 4}), epochs=[1], val=val)
    assert np.isnan(found.val_scores).all()
    assert np.isfinite(found.scores).all()


def test_the_members_that_tell_more_count_for_more() -> None:
    rng = np.random.default_rng(0)
    rank = rng.integers(0, 4, 2000)
    told, noise = (rank + rng.normal(size=2000)) / 1.5, rng.normal(size=2000)
    weights = learned_weights(np.stack([told, noise]), rank, np.zeros(2000, dtype=int), seed=0)
    assert weights.sum() == pytest.approx(1)
    assert weights[0] > 0.9


def test_few_images_leave_the_weights_nearly_equal() -> None:
    rng = np.random.default_rng(0)
    rank = rng.integers(0, 4, 20)
    told, noise = (rank + rng.normal(size=20)) / 1.5, rng.normal(size=20)
    weights = learned_weights(np.stack([told, noise]), rank, np.zeros(20, dtype=int), seed=0)
    assert 0.5 < weights[0] < 0.85


@pytest.mark.parametrize("rank", [[1, 1, 1, 1], [0, 1, 2, 3]])
def test_without_a_pair_of_one_block_or_without_a_signal_the_weights_are_equal(rank) -> None:
    by_kind = np.zeros((3, 4))
    weights = learned_weights(by_kind, np.array(rank), np.arange(4) if rank[0] == 0 else np.zeros(4, int), seed=0)
    assert weights == pytest.approx([1 / 3] * 3)


def test_only_fair_pairs_decide_the_weights_where_training_uses_only_those() -> None:
    """One member orders within contexts, the other tells the context, which tells the tier."""
    rng = np.random.default_rng(0)
    context = np.repeat([0, 1], 200)
    rank = np.clip(context * 2 + rng.integers(0, 2, 400), 0, 3)
    by_kind = np.stack([rank - 2 * context + rng.normal(size=400), context + 0.01 * rng.normal(size=400)])
    pooled = learned_weights(by_kind, rank, np.zeros(400, dtype=int), seed=0)
    fair = learned_weights(by_kind, rank, context, seed=0)
    assert fair[0] > pooled[0] + 0.2


@pytest.mark.slow
def test_labels_that_were_flipped_are_the_label_issues() -> None:
    data = made(400, 0, signal=2.0)
    flipped = np.random.default_rng(3).choice(400, 40, replace=False)
    rank = data.tier_rank.copy()
    rank[flipped] = 3 - rank[flipped]
    found = cross_fit(RankingData(data.features, rank, data.context, data.group), CONFIG, epochs=[10])
    assert np.isin(flipped, label_issues(found.scores, rank, found.fold)["row"]).mean() > 0.5


def test_a_tracked_training_is_not_published_for_each_fold(monkeypatch) -> None:
    monkeypatch.setattr("mirip.models.trainer.pkgutil.resolve_name", lambda name: pytest.fail("published"))
    config = TrainingConfig(**(CONFIG.model_dump() | {"max_epochs": 2}))
    cross_fit(made(60, 0), config, epochs=[1], val=made(20, 1))
