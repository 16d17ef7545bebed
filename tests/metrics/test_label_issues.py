import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirip.metrics.label_issues import label_issues

rows = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=40
)  # score, tier, fold: ties are many


@given(rows)
def test_shares_are_those_of_counting_one_by_one(values):
    score, tier, fold = (np.array(column) for column in zip(*values, strict=True))
    table = label_issues(score.astype(float), tier, fold, count=100).set_index("row")
    for i in range(len(score)):
        others = [j for j in range(len(score)) if fold[j] == fold[i] and tier[j] != tier[i]]
        wrong = [0.5 if score[i] == score[j] else (score[i] > score[j]) != (tier[i] > tier[j]) for j in others]
        share = np.mean(wrong) if wrong else 0.0
        assert table["misordered_share"].get(i, 0.0) == pytest.approx(share)
        if i in table.index:
            mates = score[fold == fold[i]]
            below = np.mean((mates < score[i]) + 0.5 * (mates == score[i]))
            assert table.loc[i, "score_percentile"] == pytest.approx(100 * below)


def test_the_most_contradicted_come_first_and_no_more_than_asked_for():
    rng = np.random.default_rng(0)
    rank, fold = rng.integers(0, 4, 300), rng.integers(0, 5, 300)
    table = label_issues(rank + rng.normal(size=300), rank, fold)
    assert len(table) == 50
    assert table["misordered_share"].is_monotonic_decreasing


@pytest.mark.parametrize("seed", range(10))
def test_the_list_holds_most_of_ten_percent_flipped_labels(seed):
    rng = np.random.default_rng(seed)
    truth, fold = rng.choice(4, 400, p=[0.1, 0.49, 0.31, 0.1]), rng.integers(0, 5, 400)
    flipped = rng.choice(400, 40, replace=False)
    labels = truth.copy()
    labels[flipped] = 3 - labels[flipped]
    found = label_issues(truth + 0.5 * rng.normal(size=400), labels, fold)["row"]
    assert np.isin(flipped, found).mean() > 0.5


def test_a_ranker_that_agrees_with_all_labels_contradicts_none():
    rank = np.arange(40) % 4
    assert label_issues(rank.astype(float), rank, np.zeros(40)).empty
