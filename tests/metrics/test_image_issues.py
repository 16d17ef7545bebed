import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirip.metrics import image_issues
from mirip.metrics.image_issues import label_issues, near_duplicates, outliers


def collection(seed, n=400, dim=64, inner=12):
    """Features (n, dim) of a lower inner dimension, as a backbone's are, and sides 80/10/10."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, inner)) @ rng.normal(size=(inner, dim)) + 5
    return features, rng.choice(["train", "val", "test"], n, p=[0.8, 0.1, 0.1]), rng


def test_a_near_duplicate_across_the_split_is_found():
    features, side, rng = collection(0)
    test, train = np.flatnonzero(side == "test")[3], np.flatnonzero(side == "train")[5]
    features[test] = features[train] + 0.05 * rng.normal(size=64)
    near = near_duplicates(features, side, rng=rng)
    assert near.pairs[["row", "other_row"]].to_numpy().tolist() == [[test, train]]
    assert near.pairs["relative_distance"][0] < near.threshold < 1
    assert near.pairs["cosine"][0] > 0.99
    assert near.n_searched == near.n_candidates == (side != "train").sum()


def test_a_pair_of_two_small_splits_is_told_once():
    features, side, rng = collection(1)
    features[np.flatnonzero(side == "test")[0]] = features[np.flatnonzero(side == "val")[0]]
    assert len(near_duplicates(features, side, rng=rng).pairs) == 1


def test_near_duplicates_in_one_split_do_no_harm():
    features, side, rng = collection(2)
    first, second = np.flatnonzero(side == "test")[:2]
    features[first] = features[second]
    assert near_duplicates(features, side, rng=rng).pairs.empty


@pytest.mark.parametrize("inner", [2, 4, 12, 40])
def test_images_that_are_all_different_rarely_show_one(inner):
    found = [
        len(near_duplicates(*collection(seed, inner=inner)[:2], rng=np.random.default_rng(0)).pairs)
        for seed in range(50)
    ]
    assert np.mean(np.array(found) > 0) <= 0.04


def test_many_images_are_drawn_and_their_number_is_told(monkeypatch):
    features, side, rng = collection(3)
    monkeypatch.setattr(image_issues, "_BLOCK", 64)
    features[side == "test"] = features[np.flatnonzero(side == "train")[: (side == "test").sum()]]
    near = near_duplicates(features, side, rng=rng, max_searched=30)
    assert near.n_searched == 30 < near.n_candidates


def test_the_nearest_is_that_of_comparing_all(monkeypatch):
    features, side, _ = collection(4)
    monkeypatch.setattr(image_issues, "_BLOCK", 37)
    code = np.unique(side, return_inverse=True)[1]
    standard = (features - features.mean(axis=0)) / features.std(axis=0)
    unit = standard / np.linalg.norm(standard, axis=1, keepdims=True)
    cosine = np.where(code[:, None] == code[None, :], -2, unit @ unit.T)
    nearest, chord = image_issues._nearest(features, code, np.arange(len(code)))
    assert np.array_equal(nearest, cosine.argmax(axis=1))
    assert chord == pytest.approx(np.sqrt(2 - 2 * cosine.max(axis=1)), abs=1e-5)


def test_one_split_alone_has_nothing_to_look_up():
    near = near_duplicates(np.ones((5, 3)), np.array(["train"] * 5), rng=np.random.default_rng(0))
    assert near.pairs.empty
    assert near.n_searched == 0


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


def test_the_worst_label_issues_come_first_and_no_more_than_asked_for():
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


def test_a_ranker_that_agrees_with_all_labels_has_no_label_issue():
    rank = np.arange(40) % 4
    assert label_issues(rank.astype(float), rank, np.zeros(40)).empty


def artworks(seed=0, n=400, dim=64, inner=10):
    """Images that vary along ten directions, and a little along all."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, inner)) @ rng.normal(size=(inner, dim)) + 0.1 * rng.normal(size=(n, dim))


@pytest.mark.parametrize("kind", ["far along the usual directions", "off the usual directions"])
def test_the_odd_ones_come_first(kind):
    features = artworks()
    odd = [7, 190, 333]
    if kind.startswith("far"):
        features[odd] *= 6
    else:
        features[odd] += 5 * np.random.default_rng(1).normal(size=(3, 64))
    table = outliers(features, rng=np.random.default_rng(0))
    assert set(table["row"][:3]) == set(odd)
    assert table["distance"][2] > 2 * table["distance"][3]
    assert len(table) == 20


def test_distances_are_in_robust_deviations_above_the_median():
    table = outliers(artworks(n=2000), count=2000, rng=np.random.default_rng(0))
    assert 2.5 < table["distance"][0] < 8
    assert (table["distance"] > 2).mean() < 0.1


def test_a_feature_that_never_varies_changes_nothing():
    features = artworks()
    features[:, 0] = 3.0
    assert np.isfinite(outliers(features, rng=np.random.default_rng(0))["distance"]).all()


def test_the_same_images_give_the_same_list():
    first, second = (outliers(artworks(), rng=np.random.default_rng(0)) for _ in range(2))
    assert first.equals(second)


def test_of_a_handful_none_is_an_outlier():
    assert outliers(artworks(n=5), rng=np.random.default_rng(0)).empty
