"""The headline and what stands next to it."""

import numpy as np
import pandas as pd

from mirip.report import headline

BASELINES = pd.DataFrame(
    {
        "model": ["chance", "knn", "ridge", "logistic", "unheard of", "mirip"],
        "pairwise_accuracy": [0.5, 0.62, 0.78, 0.7, 0.8, 0.75],
        "margin": [0.25, 0.13, -0.03, 0.05, -0.05, 0.0],
        "margin_ci_low": [0.2, 0.03, -0.09, np.nan, -0.08, 0.0],
        "margin_ci_high": [0.3, 0.24, 0.03, np.nan, -0.02, 0.0],
    }
)
SCORES = pd.DataFrame({"id": ["a"], "tier": ["S"], "score": [1.0]})


def test_each_simpler_model_is_compared_the_strongest_first() -> None:
    rows = headline.baselines(BASELINES, small_sample=False)
    assert [(row["name"], row["verdict"]) for row in rows] == [
        ("unheard of", "worse, beyond noise"),
        ("ridge", "within noise: no difference is shown"),
        ("logistic", "not available"),
        ("knn", "better, beyond noise"),
    ]
    assert rows[1]["margin"] == "−3.0 (−9.0 to +3.0)"
    assert rows[0]["what"] == ""


def test_a_small_test_split_decides_nothing() -> None:
    rows = headline.baselines(BASELINES, small_sample=True)
    assert {row["verdict"] for row in rows} == {"undecided: too few groups", "not available"}


def test_chance_alone_is_no_baseline() -> None:
    assert headline.baselines(BASELINES.iloc[[0, 5]], small_sample=False) == []


def test_the_spread_over_seeds_is_shown_where_there_is_one() -> None:
    spread = {
        f"pairwise_accuracy_seed_{which}": value for which, value in (("sd", 0.012), ("min", 0.71), ("max", 0.74))
    }
    note, _ = headline.notes(spread, SCORES.assign(score_seed_42=1.0, score_seed_43=1.0))
    assert "has 2 heads" in note
    assert "71.0 % to 74.0 %, with a standard deviation of 1.2 points" in note
    assert "has several heads" in headline.notes(spread, SCORES)[0]


def test_members_are_told_with_weight_and_what_they_reach_alone() -> None:
    table = pd.DataFrame({"member": ["head", "ridge"], "weight": [0.25, 0.75], "pairwise_accuracy": [0.7, 0.712]})
    head, ridge = headline.members(table)
    assert (head["name"], head["weight"], head["accuracy"]) == ("head", "25 %", "70.0 %")
    assert ridge["what"] == "ridge regression on the same features"
    assert headline.members(table.iloc[:0]) == []


def test_one_seed_has_no_spread() -> None:
    (note,) = headline.notes({}, SCORES)
    assert note.startswith("The best of many models on one test split looks better than it is")


def test_a_calibration_error_is_compared_with_what_chance_would_leave() -> None:
    inside = headline.calibration_sentence({"ece": 0.02, "ece_if_calibrated_high": 0.08, "brier": 0.2})
    assert "below 0.080. The error of this model is not larger" in inside
    assert "probably off" in headline.calibration_sentence({"ece": 0.1, "ece_if_calibrated_high": 0.08})


def test_without_that_range_nothing_is_concluded() -> None:
    assert headline.calibration_sentence({"ece": 0.02}) == ("Calibration error 0.020 (ECE), Brier score not available.")


def test_close_calls_are_counted() -> None:
    close = {"min_confidence": 0.6, "too_close_to_call": 0.199, "pairwise_accuracy_called": 0.798}
    assert headline.close_calls(close) == (
        "At less than 60 % confidence a pair is too close to call: 19.9 % of them. Of the rest, 79.8 % are right."
    )
    none = headline.close_calls(close | {"too_close_to_call": 1.0, "pairwise_accuracy_called": None})
    assert none.endswith("100.0 % of them. None is called.")
    assert "not available" in headline.close_calls({})


def test_what_the_accuracy_comes_from_is_said_where_it_is_known() -> None:
    assert headline.counted({"n_pairs": 1269, "n_images": 60, "n_groups": 43}) == (
        ": 1,269 pairs of 60 images in 43 groups that training never saw"
    )
    assert headline.counted({"n_pairs": 1269, "n_images": None, "n_groups": 43}) == ""
