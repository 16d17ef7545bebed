import unicodedata

import pandas as pd
import pytest

from mirip.data.labels import label_text, match_tiers


def test_labels_are_compared_in_one_unicode_form() -> None:
    forms = [unicodedata.normalize(form, "김철수") for form in ("NFC", "NFD")]
    assert label_text(pd.Series(forms)).nunique() == 1


@pytest.mark.parametrize("value", ["NA", "null", "None", "nan", "N/A", "-"])
def test_no_word_means_that_nothing_is_known(value: str) -> None:
    assert label_text(pd.Series([value, "", None])).tolist() == [value, "", ""]


def test_numbers_mean_the_same_whatever_wrote_them() -> None:
    assert label_text(pd.Series([1.0, float("nan"), 2.5])).tolist() == ["1", "", "2.5"]
    assert label_text(pd.Series(["1.0", "1", "01", "1.50"])).tolist() == ["1", "1", "01", "1.50"]
    assert label_text(pd.Series([20241234567890123, 20241234567890124])).nunique() == 2


def test_the_rows_keep_their_order_and_their_index() -> None:
    column = label_text(pd.Series(["b", "a", None, "b"], index=[4, 3, 2, 1]))
    assert column.tolist() == ["b", "a", "", "b"]
    assert column.index.tolist() == [4, 3, 2, 1]


def test_full_width_letters_and_small_letters_are_taken_for_the_tier_that_they_mean() -> None:
    found, notices = match_tiers(pd.Series(["S", "s", "\uff33", "a", "x", ""]), ("S", "A", "B"))
    assert found.tolist() == ["S", "S", "S", "A", "x", ""]
    assert notices == [
        "tier 'a' is taken as A (1 of the rows)",
        "tier 's' is taken as S (1 of the rows)",
        "tier '\uff33' is taken as S (1 of the rows)",
    ]
    assert match_tiers(pd.Series(["\uff11"]), ("1", "2"))[0].tolist() == ["1"]


def test_tiers_that_differ_in_size_alone_stay_apart() -> None:
    found, notices = match_tiers(pd.Series(["A", "a", "\uff21"]), ("A", "a"))
    assert found.tolist() == ["A", "a", "\uff21"]
    assert notices == []
