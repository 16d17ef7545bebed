import math

import numpy as np
import published_names
import pytest
from whole_intervals import paired_difference_interval

from mirip.metrics.calibration import tier_probabilities
from mirip.metrics.intervals import accuracy_interval
from mirip.metrics.pairwise import pairwise_accuracy
from mirip.models.evaluator import Evaluator
from mirip.randomness import stream

TIERS = ("S", "A", "B", "C")


@pytest.fixture
def scored():
    """Scores of a good model, tier ranks, groups of two, two contexts."""
    rng = np.random.default_rng(0)
    rank = rng.choice(4, size=120, p=[0.25, 0.4, 0.25, 0.1])
    return rank + rng.normal(size=120), rank, np.arange(120) // 2, np.where(np.arange(120) % 3, "oil", "ink")


def evaluate(scored, evaluator=None, **options):
    scores, rank, group, context = scored
    arguments = {"tiers": TIERS, "group_id": group, "context": context, "temperature": 0.8, **options}
    return (evaluator or Evaluator(n_bootstrap=300)).evaluate(scores, rank, **arguments)


def test_all_names_are_there_flat_with_and_without_baselines(scored):
    plain = evaluate(scored).metrics
    full = evaluate(scored, baselines={"knn": scored[1] * 0.0, "ridge": scored[0]}).metrics
    for metrics in (plain, full):
        assert set(published_names.EVALUATE) <= set(metrics)
        assert all(isinstance(value, float | int | str) for value in metrics.values())
    assert math.isnan(plain["baseline_ridge_accuracy"])
    assert full["baseline_knn_accuracy"] == 0.5
    assert full["baseline_ridge_accuracy"] == full["pairwise_accuracy"]


def test_headline_values_are_those_of_the_metrics(scored):
    scores, rank, _, context = scored
    metrics = evaluate(scored).metrics
    assert metrics["pairwise_accuracy"] == pairwise_accuracy(scores, rank)
    assert metrics["pairwise_accuracy_within_context"] == pairwise_accuracy(scores, rank, context=context)
    assert metrics["pairwise_accuracy_ci_low"] < metrics["pairwise_accuracy"] < metrics["pairwise_accuracy_ci_high"]
    assert (metrics["n_images"], metrics["n_groups"]) == (120, 60)
    assert metrics["verdict"] == "met"


def test_without_context_every_pair_is_within_it(scored):
    metrics = evaluate(scored, context=None).metrics
    for end in ("", "_ci_low", "_ci_high"):
        assert metrics[f"pairwise_accuracy_within_context{end}"] == metrics[f"pairwise_accuracy{end}"]
    assert metrics["verdict_on"] == "all_pairs"


def test_of_several_contexts_the_verdict_is_on_the_pairs_within_one(scored):
    scores, rank, group, context = scored
    metrics = evaluate(scored).metrics
    rng = stream(Evaluator().seed, "bootstrap")
    expected = accuracy_interval(scores, rank, group, rng=rng, context=context)
    assert metrics["verdict_on"] == "within_context"
    found = [metrics[f"pairwise_accuracy_within_context_ci_{end}"] for end in ("low", "high")]
    assert found == pytest.approx(expected[:2], abs=0.02)


def test_where_the_school_decides_the_tier_its_model_meets_no_target():
    """Good schools have good tiers, and the model knows the school alone: over all pairs it looks excellent."""
    rng = np.random.default_rng(0)
    school = np.repeat(np.arange(10), 30)
    rank = np.clip((school + rng.normal(0, 0.8, 300)) // 2.5, 0, 3).astype(int)
    scores = school + 0.01 * rng.normal(size=300)
    found = evaluate((scores, rank, np.arange(300), school))
    assert found.metrics["pairwise_accuracy"] > 0.9
    assert found.metrics["pairwise_accuracy_ci_low"] > found.metrics["target_accuracy"]
    assert found.metrics["pairwise_accuracy_within_context"] < 0.6
    assert found.metrics["verdict"] != "met"
    assert "beyond that interval: the context tells something of the tier" in found.summary()


def test_where_each_school_has_one_tier_nothing_is_decided():
    school = np.repeat(np.arange(4), 20)
    found = evaluate((school + 0.0, school, np.arange(80), school)).metrics
    assert np.isnan(found["pairwise_accuracy_within_context"])
    assert (found["verdict"], found["verdict_on"]) == ("undecided", "within_context")


def test_the_target_is_held_against_the_interval(scored):
    def verdict(target):
        return evaluate(scored, Evaluator(target_accuracy=target, n_bootstrap=300)).metrics["verdict"]

    accuracy = evaluate(scored).metrics["pairwise_accuracy"]
    assert [verdict(0.6), verdict(accuracy - 0.01), verdict(0.99)] == ["met", "undecided", "missed"]


def test_a_small_sample_is_at_best_undecided_and_says_so(scored):
    scores, rank, _, context = scored
    few = evaluate((scores, rank, np.arange(120) % 12, context))
    assert few.metrics["small_sample"]
    assert few.metrics["verdict"] == "undecided"
    assert "small sample: 12 groups" in few.summary()
    assert "small sample" not in evaluate(scored).summary()


def test_tier_pairs_and_gaps_add_up(scored):
    evaluation = evaluate(scored)
    pairs, gaps = evaluation.tier_pairs, evaluation.gaps
    assert list(pairs["better"] + pairs["worse"]) == ["SA", "SB", "SC", "AB", "AC", "BC"]
    assert pairs["n_pairs"].sum() == gaps["n_pairs"].sum() == evaluation.metrics["n_pairs"]
    total = (pairs["n_pairs"] * pairs["accuracy"]).sum() / pairs["n_pairs"].sum()
    assert total == pytest.approx(evaluation.metrics["pairwise_accuracy"])
    assert pairs["accuracy"].mean() == pytest.approx(evaluation.metrics["pairwise_accuracy_macro"])
    assert gaps["accuracy"].is_monotonic_increasing


def test_the_baselines_are_compared_on_the_same_resamples(scored):
    scores, rank, group, _ = scored
    other = rank + 2 * np.random.default_rng(1).normal(size=120)
    table = evaluate(scored, Evaluator(n_bootstrap=300, seed=9), baselines={"ridge": other}).baseline_table.set_index(
        "model"
    )
    assert list(table.index) == ["chance", "ridge", "mirip"]
    assert table.loc["chance", ["pairwise_accuracy", "ci_low", "ci_high"]].tolist() == [0.5, 0.5, 0.5]
    expected = paired_difference_interval(scores, other, rank, group, rng=stream(9, "bootstrap"), n_bootstrap=300)
    assert tuple(table.loc["ridge", ["margin_ci_low", "margin_ci_high"]]) == pytest.approx(expected[:2])
    assert table.loc["mirip", "margin"] == 0


@pytest.mark.parametrize(
    ("baseline", "words"),
    [
        (lambda scores, rank: np.random.default_rng(0).normal(size=len(rank)), "better than ridge"),
        (lambda scores, rank: scores + 0.2 * np.random.default_rng(0).normal(size=len(rank)), "within noise of ridge"),
        (lambda scores, rank: rank + 0.0, "worse than ridge"),
    ],
)
def test_the_summary_says_in_words_how_it_compares_with_ridge(scored, baseline, words):
    scores, rank, _, _ = scored
    summary = evaluate(scored, baselines={"ridge": baseline(scores, rank)}).summary()
    assert words in summary
    assert "target 0.60 met" in summary


def test_the_spread_over_seeds_is_told_where_there_are_several(scored):
    scores, rank, _, _ = scored
    noise = np.random.default_rng(3).normal(size=(3, 120))
    evaluation = evaluate(scored, seed_scores={7 + k: scores + noise[k] for k in range(3)})
    by_seed = [pairwise_accuracy(scores + one, rank) for one in noise]
    names = [f"pairwise_accuracy_seed_{which}" for which in ("sd", "min", "max")]
    assert [evaluation.metrics[name] for name in names] == pytest.approx(
        [np.std(by_seed, ddof=1), min(by_seed), max(by_seed)]
    )
    assert f"with single heads it reaches {min(by_seed):.3f} to {max(by_seed):.3f}" in evaluation.summary()
    plain = evaluate(scored)
    assert not set(names) & set(plain.metrics)
    assert "single members" not in plain.summary()


def test_no_signal_is_never_met():
    rng = np.random.default_rng(0)
    verdicts = {
        Evaluator(n_bootstrap=200)
        .evaluate(rng.normal(size=150), rng.integers(0, 4, 150), tiers=TIERS)
        .metrics["verdict"]
        for _ in range(20)
    }
    assert verdicts <= {"undecided", "missed"}


def test_calibration_follows_the_temperature(scored):
    calibrated, boasting = (evaluate(scored, temperature=t) for t in (0.8, 0.05))
    assert calibrated.metrics["ece"] < boasting.metrics["ece"]
    assert calibrated.metrics["brier"] < boasting.metrics["brier"]
    assert calibrated.reliability["n_pairs"].sum() == calibrated.metrics["n_pairs"]
    assert calibrated.coverage["coverage"].is_monotonic_decreasing


def test_a_tier_without_images_has_no_accuracy(scored):
    scores, rank, group, context = scored
    kept = rank < 3
    pairs = evaluate((scores[kept], rank[kept], group[kept], context[kept])).tier_pairs
    absent = pairs["better"] == "S"
    assert (pairs.loc[absent, "n_pairs"] == 0).all()
    assert pairs.loc[absent, "accuracy"].isna().all()
    assert pairs.loc[~absent, "accuracy"].notna().all()


def test_a_rank_without_a_tier_is_refused(scored):
    with pytest.raises(ValueError, match="n_tiers is 2"):
        evaluate(scored, tiers=("good", "bad"))


def test_the_same_seed_gives_the_same_metrics(scored):
    first, second = (evaluate(scored, baselines={"ridge": scored[1]}) for _ in range(2))
    assert first.metrics == pytest.approx(second.metrics, nan_ok=True)
    assert first.baseline_table.equals(second.baseline_table)


def test_pairs_of_two_folds_count_nowhere(scored):
    scores, rank, group, context = scored
    fold = np.arange(120) % 3
    shifted = (scores + 100 * fold, rank, group, context)
    baselines = {"ridge": -50 * fold + scores}
    found = evaluate(shifted, fold=fold, baselines=baselines)
    alike = evaluate(scored, fold=fold, baselines={"ridge": scores})
    assert found.metrics == pytest.approx(alike.metrics, nan_ok=True)
    assert found.metrics["pairwise_accuracy"] == pytest.approx(pairwise_accuracy(scores, rank, context=fold))
    assert found.reliability["n_pairs"].sum() == found.metrics["n_pairs"] < evaluate(scored).metrics["n_pairs"]


def test_one_fold_is_no_fold(scored):
    assert evaluate(scored, fold=np.ones(120)).metrics == pytest.approx(evaluate(scored).metrics, nan_ok=True)


def test_what_is_too_close_to_call_is_left_open(scored):
    metrics = evaluate(scored, Evaluator(n_bootstrap=100, min_confidence=0.8)).metrics
    row = evaluate(scored).coverage.set_index("min_confidence").loc[0.8]
    assert metrics["too_close_to_call"] == pytest.approx(1 - row["coverage"])
    assert metrics["pairwise_accuracy_called"] == row["accuracy"] > metrics["pairwise_accuracy"]


def test_where_every_pair_is_too_close_no_accuracy_is_claimed(scored):
    metrics = evaluate(scored, temperature=1e6).metrics
    assert metrics["too_close_to_call"] == 1
    assert math.isnan(metrics["pairwise_accuracy_called"])


def test_the_range_of_a_calibrated_model_is_about_each_bin(scored):
    probability = tier_probabilities(scored[0], 1.2, [0.5, 2.0, 3.5])
    found = evaluate(scored, tier_probability=probability)
    known = found.reliability.dropna()
    assert len(known) > 5
    assert (known["low"] < known["confidence"]).all()
    assert (known["high"] > known["confidence"]).all()
    assert 0 < found.metrics["ece_if_calibrated_high"] < 0.3
    assert math.isnan(evaluate(scored).metrics["ece_if_calibrated_high"])
