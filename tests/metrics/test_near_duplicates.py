import numpy as np
import pytest

from mirip.metrics import duplicates
from mirip.metrics.near_duplicates import near_duplicates


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


def test_a_pair_of_two_small_sides_is_told_once():
    features, side, rng = collection(1)
    features[np.flatnonzero(side == "test")[0]] = features[np.flatnonzero(side == "val")[0]]
    assert len(near_duplicates(features, side, rng=rng).pairs) == 1


def test_near_duplicates_on_one_side_do_no_harm():
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
    monkeypatch.setattr(duplicates, "_BLOCK", 64)
    features[side == "test"] = features[np.flatnonzero(side == "train")[: (side == "test").sum()]]
    near = near_duplicates(features, side, rng=rng, max_searched=30)
    assert near.n_searched == 30 < near.n_candidates


def test_the_nearest_is_that_of_comparing_all(monkeypatch):
    features, side, _ = collection(4)
    monkeypatch.setattr(duplicates, "_BLOCK", 37)
    code = np.unique(side, return_inverse=True)[1]
    standard = (features - features.mean(axis=0)) / features.std(axis=0)
    unit = standard / np.linalg.norm(standard, axis=1, keepdims=True)
    cosine = np.where(code[:, None] == code[None, :], -2, unit @ unit.T)
    nearest, chord = duplicates._nearest(features, code, np.arange(len(code)))
    assert np.array_equal(nearest, cosine.argmax(axis=1))
    assert chord == pytest.approx(np.sqrt(2 - 2 * cosine.max(axis=1)), abs=1e-5)


def test_one_side_alone_has_nothing_to_look_up():
    near = near_duplicates(np.ones((5, 3)), np.array(["train"] * 5), rng=np.random.default_rng(0))
    assert near.pairs.empty
    assert near.n_searched == 0
