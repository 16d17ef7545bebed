"""Plots: inline SVG that is deterministic, themeable and safe to stand in a page."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from mirip.report.plots import (
    baselines_svg,
    coverage_svg,
    curves_svg,
    reliability_svg,
    scores_by_tier_svg,
    tier_pairs_svg,
)

TIERS = ("S", "A", "B", "C")

BASELINES = pd.DataFrame(
    {
        "model": ["chance", "knn", "ridge", "mirip"],
        "pairwise_accuracy": [0.5, 0.58, 0.66, 0.683],
        "ci_low": [0.5, 0.52, 0.6, 0.62],
        "ci_high": [0.5, 0.64, 0.71, 0.74],
    }
)
TIER_PAIRS = pd.DataFrame(
    {"better": ["S", "S", "A"], "worse": ["A", "B", "B"], "n_pairs": [1200, 0, 7], "accuracy": [0.7, np.nan, 0.4]}
)
CURVES = pd.DataFrame(
    {
        "epoch": [1, 2, 3],
        "train_loss": [0.7, 0.6, 0.5],
        "val_loss": [0.7, 0.65, np.nan],
        "train_pairwise_accuracy": [0.5, 0.6, 0.7],
        "val_pairwise_accuracy": [0.5, 0.55, 0.56],
    }
)
RELIABILITY = pd.DataFrame(
    {
        "bin": [1, 2, 3],
        "confidence": [0.55, np.nan, 0.72],
        "accuracy": [0.6, np.nan, 0.7],
        "n_pairs": [9, 0, 12],
        "low": [0.4, np.nan, 0.58],
        "high": [0.7, np.nan, 0.86],
    }
)
COVERAGE = pd.DataFrame({"min_confidence": [0.5, 0.6, 0.7], "coverage": [1.0, 0.8, 0.3], "accuracy": [0.75, 0.8, 0.91]})


def scores_plot(tiers: tuple[str, ...] = TIERS, n: int = 40) -> str:
    rng = np.random.default_rng(0)
    return scores_by_tier_svg(rng.choice(tiers, n), rng.normal(size=n), tiers)


DRAWINGS: dict[str, Callable[[], str]] = {
    "baselines": lambda: baselines_svg(BASELINES, 0.6),
    "tier-pairs": lambda: tier_pairs_svg(TIER_PAIRS, ("S", "A", "B")),
    "scores-by-tier": scores_plot,
    "curves": lambda: curves_svg(CURVES, 2),
    "reliability": lambda: reliability_svg(RELIABILITY),
    "coverage": lambda: coverage_svg(COVERAGE, 0.6),
}


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize("name", DRAWINGS)
def test_equal_values_give_equal_bytes(name: str) -> None:
    assert DRAWINGS[name]() == DRAWINGS[name]()


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_drawing_carries_no_date_no_style_sheet_and_no_fixed_size(name: str) -> None:
    svg = DRAWINGS[name]()
    root = ET.fromstring(svg)
    assert root.get("width") is None
    assert root.get("role") == "img"
    assert root.get("aria-label")
    assert "<style" not in svg
    assert "<metadata" not in svg
    assert not re.search(r"\b20\d\d-\d\d", svg)


@pytest.mark.parametrize("name", DRAWINGS)
def test_identifiers_are_the_drawings_own_and_every_reference_is_met(name: str) -> None:
    svg = DRAWINGS[name]()
    identifiers = re.findall(r'\bid="([^"]+)"', svg)
    assert all(identifier.startswith(f"{name}-") for identifier in identifiers)
    assert set(re.findall(r'(?:url\(|href=")#([^")]+)', svg)) <= set(identifiers)


@pytest.mark.parametrize("name", DRAWINGS)
def test_colours_are_variables_that_a_dark_page_may_set(name: str) -> None:
    bare = re.sub(r"var\(--plot-\w+, #[0-9a-f]{6}\)", "", DRAWINGS[name]())
    assert "var(" not in bare
    assert "#000000" not in bare
    assert "var(--plot-" in DRAWINGS[name]()


def test_the_baselines_show_each_models_accuracy() -> None:
    assert {"mirip", "68.3 %", "66.0 %", "58.0 %", "50.0 %", "target 60.0 %"} <= set(
        texts(baselines_svg(BASELINES, 0.6))
    )


def test_a_value_that_is_not_there_is_said_not_drawn() -> None:
    baselines = BASELINES.assign(pairwise_accuracy=[0.5, np.nan, 0.66, 0.68], ci_low=np.nan, ci_high=np.nan)
    assert "not available" in texts(baselines_svg(baselines, 0.6))


def test_a_tier_pair_without_pairs_says_so() -> None:
    shown = texts(tier_pairs_svg(TIER_PAIRS, ("S", "A", "B")))
    assert {"70.0 %", "40.0 %", "1,200 pairs", "no pairs"} <= set(shown)


def test_names_are_written_as_they_are() -> None:
    tiers = ("$x^2$", "<b>")
    svg = scores_plot(tiers)
    assert "<b>" not in svg
    assert any(text.startswith("$x^2$") for text in texts(svg))


def test_a_tier_of_many_artworks_is_thinned_out() -> None:
    assert len(scores_plot(n=20_000)) < 150_000


def test_a_single_epoch_and_an_empty_bin_can_be_drawn() -> None:
    assert "kept: epoch 1" in texts(curves_svg(CURVES.head(1), 1))
    assert "stated probability" in texts(reliability_svg(RELIABILITY.iloc[1:2]))


def test_two_tiers_are_one_cell() -> None:
    pairs = pd.DataFrame({"better": ["S"], "worse": ["A"], "n_pairs": [4], "accuracy": [1.0]})
    assert "100.0 %" in texts(tier_pairs_svg(pairs, ("S", "A")))


def test_the_band_of_a_perfectly_calibrated_model_is_drawn_where_it_is_known() -> None:
    assert "fill-opacity" in reliability_svg(RELIABILITY.iloc[[0, 2]].assign(accuracy=0.5))
    bare = reliability_svg(RELIABILITY.assign(low=np.nan, high=np.nan))
    assert reliability_svg(RELIABILITY) != bare
    assert "stated probability" in texts(bare)


def test_the_active_confidence_is_named_on_the_coverage_curve() -> None:
    assert "≥ 60 %" in texts(coverage_svg(COVERAGE, 0.6))
    assert "≥ 60 %" not in texts(coverage_svg(COVERAGE, 0.7))


def test_a_share_of_nothing_is_not_negative() -> None:
    assert "0 %" in texts(coverage_svg(COVERAGE))


def test_a_test_split_without_pairs_has_no_coverage_curve() -> None:
    assert "no pairs" in texts(coverage_svg(COVERAGE.head(0), 0.6))
