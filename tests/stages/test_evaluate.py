import json
from pathlib import Path

import pandas as pd
import published_names
import pytest

from mirip.data.split import DataSplitter, read_splits
from mirip.data.tables import write_table
from mirip.experiments.scores import compare_scores, read_scores
from mirip.metrics.pairwise import pairwise_accuracy
from mirip.params import load_params
from mirip.workspace import Workspace
from stages import evaluate, run

WORKSPACE = Workspace()
TABLES = {
    "tier_pairs": ["better", "worse", "n_pairs", "accuracy", "pair"],
    "gaps": ["tier_gap", "n_pairs", "accuracy"],
    "reliability": ["bin", "confidence", "accuracy", "n_pairs", "low", "high"],
    "members": ["member", "weight", "pairwise_accuracy"],
    "coverage": ["min_confidence", "coverage", "accuracy"],
    "baselines": ["model", "pairwise_accuracy", "ci_low", "ci_high", "margin", "margin_ci_low", "margin_ci_high"],
    "scores_by_tier": ["tier", "score"],
}


def fails(trained_project):
    """Run the stage, which must fail and write nothing; return its message."""
    before = trained_project.outputs()
    with pytest.raises(SystemExit) as stop:
        run(evaluate.main)
    assert trained_project.outputs() == before
    assert "\n" not in str(stop.value)
    return str(stop.value)


def test_writes_every_table_and_every_name(trained_project, capsys):
    run(evaluate.main)
    metrics = json.loads(WORKSPACE.metrics("evaluate").read_text())
    assert set(metrics) >= published_names.EVALUATE
    assert not any(isinstance(value, list | dict) for value in metrics.values())
    assert {path.stem for path in WORKSPACE.tables("evaluate").iterdir()} == set(TABLES)
    for name, columns in TABLES.items():
        assert list(pd.read_csv(WORKSPACE.tables("evaluate") / f"{name}.csv")) == columns
    assert pd.read_csv(WORKSPACE.tables("evaluate") / "baselines.csv")["model"].tolist() == [
        "chance",
        "knn",
        "ridge",
        "logistic",
        "linear",
        "mirip",
    ]
    printed = capsys.readouterr().out
    assert "evaluate: pairwise accuracy 0." in printed
    assert "ridge" in printed


def test_learned_quality_is_above_chance_and_every_metric_is_of_the_test_split(trained_project):
    run(evaluate.main)
    metrics = json.loads(WORKSPACE.metrics("evaluate").read_text())
    splits = read_splits(WORKSPACE.splits)
    assert metrics["n_images"] == (splits["split"] == "test").sum()
    assert metrics["pairwise_accuracy"] > 0.7
    assert metrics["baseline_ridge_accuracy"] > 0.7


def test_the_public_scores_give_the_metric_and_name_nobody(trained_project):
    run(evaluate.main)
    scores = pd.read_csv(WORKSPACE.scores, dtype={"id": str, "group": str, "context": str})
    assert list(scores) == ["id", "group", "tier", "tier_rank", "context", "score"]
    metrics = json.loads(WORKSPACE.metrics("evaluate").read_text())
    assert pairwise_accuracy(scores["score"], scores["tier_rank"]) == pytest.approx(metrics["pairwise_accuracy"])
    assert scores["group"].nunique() == metrics["n_groups"]
    text = WORKSPACE.scores.read_text()
    assert not any(word in text for word in ("oil", "ink", "artist", "images/"))
    assert scores["id"].str.fullmatch("[0-9a-f]{16}").all()


def test_a_comparison_of_the_public_scores_shows_the_same_interval(trained_project):
    run(evaluate.main)
    metrics, scores = json.loads(WORKSPACE.metrics("evaluate").read_text()), read_scores(str(WORKSPACE.scores))
    settings = load_params().evaluate
    found = compare_scores(scores, scores, n_bootstrap=settings.n_bootstrap, seed=settings.seed).interval_a
    assert found.low == pytest.approx(metrics["pairwise_accuracy_within_context_ci_low"])
    assert found.high == pytest.approx(metrics["pairwise_accuracy_within_context_ci_high"])


def test_a_model_of_several_seeds_shows_its_spread(trained_project):
    trained_project.train(seeds=2, seed=5)
    run(evaluate.main)
    metrics = json.loads(WORKSPACE.metrics("evaluate").read_text())
    scores = pd.read_csv(WORKSPACE.scores)
    assert list(scores)[-3:] == ["score", "score_seed_5", "score_seed_6"]
    assert scores["score"].to_numpy() == pytest.approx((scores["score_seed_5"] + scores["score_seed_6"]).to_numpy() / 2)
    by_seed = [pairwise_accuracy(scores[f"score_seed_{seed}"], scores["tier_rank"]) for seed in (5, 6)]
    assert metrics["pairwise_accuracy_seed_min"] == pytest.approx(min(by_seed))
    assert metrics["pairwise_accuracy_seed_max"] == pytest.approx(max(by_seed))


def test_a_second_run_gives_the_same_bytes_and_removes_old_tables(trained_project):
    run(evaluate.main)
    first = trained_project.outputs()
    (WORKSPACE.tables("evaluate") / "of_an_older_version.csv").write_text("a\n1\n")
    run(evaluate.main)
    assert trained_project.outputs() == first


@pytest.mark.slow
def test_from_the_second_model_on_it_says_how_many_were_evaluated_here(trained_project, capsys):
    run(evaluate.main)
    run(evaluate.main)
    assert "evaluated on this test split" not in capsys.readouterr().out
    metrics = trained_project.outputs()
    WORKSPACE.model.write_bytes(WORKSPACE.model.read_bytes() + b" ")  # another model, as far as bytes tell
    run(evaluate.main)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "evaluate: the 2nd model evaluated on this test split: choose by val_pairwise_accuracy"
    assert trained_project.outputs() == metrics


def test_another_split_is_refused(trained_project):
    splits = read_splits(WORKSPACE.splits)
    write_table(WORKSPACE.splits, DataSplitter(0.6, 0.1, 0.3, seed=1).split(splits.drop(columns="split")))
    assert "was trained on the split" in fails(trained_project)


def test_other_tiers_are_refused(trained_project):
    trained_project.write_params(data={"tiers": ["S", "A", "B", "D"]})
    assert "the split was made with other tiers than S > A > B > D: tier C has rank 0" in fails(trained_project)


def test_a_model_trained_upside_down_is_refused(trained_project):
    trained_project.write_params(data={"tiers": ["C", "B", "A", "S"]})
    splits = read_splits(WORKSPACE.splits)
    write_table(WORKSPACE.splits, splits.assign(tier_rank=3 - splits["tier_rank"]))
    assert "was trained on the tiers S, A, B, C, here is C, B, A, S" in fails(trained_project)


@pytest.mark.parametrize("missing", ["data/splits.parquet", "features/tiny.h5", "models/best_model.pt"])
def test_a_missing_file_is_one_line_that_says_what_to_run(trained_project, missing):
    Path(missing).unlink()
    message = fails(trained_project)
    assert missing in message
    assert "dvc repro" in message
