"""The audit on the page."""

import numpy as np
import pandas as pd
import pytest

from mirip.metrics import findings as found_by_audit
from mirip.metrics.columns import Column
from mirip.metrics.image_issues import NearDuplicates
from mirip.report import audit

SHORTCUTS = pd.DataFrame(
    {
        "shortcut": ["file size", "row order"],
        "pairwise_accuracy": [0.71, 0.5],
        "ci_low": [0.66, np.nan],
        "ci_high": [0.76, np.nan],
        "margin": [-0.05, 0.16],
        "margin_ci_low": [-0.08, np.nan],
        "margin_ci_high": [-0.02, np.nan],
        "p_value": [0.0005, 1.0],
    }
)
SCALARS = {"out_of_fold_accuracy": 0.66, "out_of_fold_accuracy_ci_low": 0.6, "out_of_fold_accuracy_ci_high": 0.7}


def table(n: int, severity: str = "warning") -> pd.DataFrame:
    finding = found_by_audit.Finding("shortcut: file size", severity, 0.71, 0.001, "do this")  # type: ignore[arg-type]
    return found_by_audit.as_table([finding] * n)


def test_the_value_of_every_kind_of_finding_is_said_in_words() -> None:
    near = NearDuplicates(pd.DataFrame({"row": [0, 1], "other_row": [5, 6]}), 10, 10, 1.0, 0.5)
    column = [Column("school", "category", np.zeros(4, dtype=np.int64))]
    found = [
        *found_by_audit.shortcut_findings(SHORTCUTS),
        *found_by_audit.column_findings(column, np.array([0.34]), np.array([0.001]), {}),
        *found_by_audit.column_findings(column, np.array([0.97]), np.array([0.001]), {}),
        *found_by_audit.duplicate_findings(near, ["a and b"]),
    ]
    assert [audit.value_in_words(finding.name, finding.value) for finding in found] == [
        "accuracy 71.0 %",
        "takes away 34.0 % of the tier's entropy",
        "takes away 97.0 % of the tier's entropy",
        "2 pairs",
    ]


def test_a_finding_of_another_kind_keeps_its_value() -> None:
    assert audit.value_in_words("something new", 0.1234) == "0.123"
    assert audit.value_in_words("shortcut: x", float("nan")) == "value not available"


def test_a_finding_that_is_no_test_says_so() -> None:
    listed = audit.findings({}, table(1).assign(p_value=float("nan")))
    assert listed["first"][0]["p"] == "no test"
    assert audit.findings({}, table(1))["first"][0]["p"] == "family-wise p 0.0010"


def test_no_finding_says_what_was_looked_for() -> None:
    listed = audit.findings({"n_findings": 0}, table(0))
    assert (listed["first"], listed["in_short"]) == ([], "")
    assert "no near-duplicate" in listed["none"]
    assert "above" not in listed["none"]


def test_of_no_audit_nothing_is_claimed() -> None:
    assert audit.findings({}, table(0))["none"] == "None."


def test_hundreds_of_findings_are_folded_and_cut() -> None:
    listed = audit.findings({}, pd.concat([table(1, "critical"), table(300)], ignore_index=True))
    assert len(listed["first"]) == audit.FIRST_SHOWN
    assert len(listed["first"]) + len(listed["more"]) == listed["n_listed"] == audit.MOST_LISTED
    assert listed["n"] == 301
    assert (listed["in_short"], listed["tone"]) == ("1 critical finding, 300 warnings", "bad")


def test_the_model_is_next_to_the_predictors_with_its_accuracy_out_of_fold() -> None:
    model, file_size, row_order = audit.shortcut_rows(SCALARS, SHORTCUTS)
    assert (model["name"], model["accuracy"]) == ("the model", 0.66)
    assert file_size["margin"] == "−5.0 (−8.0 to −2.0)"
    assert (
        0 < file_size["chance"] < file_size["at"]["low"] < file_size["at"]["accuracy"] < file_size["at"]["high"] < 100
    )
    assert file_size["target"] == model["at"]["accuracy"]
    assert row_order["margin"] == "+16.0"
    assert not row_order["drawn"]


def test_without_values_no_line_is_drawn() -> None:
    (model,) = audit.shortcut_rows({}, SHORTCUTS.head(0))
    assert not model["drawn"]
    assert model["target"] is None


@pytest.mark.parametrize(("left_out", "said"), [("artist", "Not looked at: artist."), ("", "headline's.")])
def test_columns_that_were_left_out_are_named(left_out: str, said: str) -> None:
    assert audit.how({"n_folds": 5, "columns_left_out": left_out}).endswith(said)


def test_what_the_audit_did_not_measure_is_not_available() -> None:
    assert {value for _, value, _ in audit.tiles({})} == {"not available"}


def test_groups_of_one_artwork_each_are_not_said_to_hold_similar_ones() -> None:
    alone, several = (
        audit.tiles({"n_images": 420, "n_groups": n_groups, "n_effective_images": 420})[2] for n_groups in (420, 300)
    )
    assert alone == ("Independent images", "420", "of 420; each is its own group")
    assert several == ("Independent images", "420", "of 420; artworks of one group are similar")
