import numpy as np
import pytest
from stray_flags import with_stray_flags

from mirip.errors import DataError
from mirip.metrics.pairwise import pairwise_accuracy
from mirip.models import baselines, linear
from mirip.models.baselines import BASELINES, baseline_scores, knn_scores, linear_scores
from mirip.models.linear import _held_out, _PrincipalAxes, _until_it_falls, fit_linear_rankers
from mirip.models.ranking_data import RankingData
from mirip.params import TrainParams


def ridge_scores(train_x, rank, test_x, group=None, seed=42):
    return fit_linear_rankers(train_x, rank, group=group, methods=["ridge"], seed=seed)["ridge"].score(test_x)


def logistic_scores(train_x, rank, test_x, group=None, seed=42):
    return fit_linear_rankers(train_x, rank, group=group, methods=["logistic"], seed=seed)["logistic"].score(test_x)


CLOSED_FORM = [ridge_scores, knn_scores, logistic_scores]


@pytest.fixture
def drawn():
    """Features of 240 artworks, of which a few directions tell the tier."""
    rng = np.random.default_rng(0)
    rank = rng.integers(0, 4, 240)
    features = rng.normal(size=(240, 30))
    features[:, :3] += rank[:, None] * np.array([1.0, -1.0, 0.5])
    return features.astype(np.float16), rank.astype(np.int8)


@pytest.mark.parametrize("baseline", CLOSED_FORM)
def test_a_baseline_learns_what_features_tell_of_the_tier(baseline, drawn):
    x, rank = drawn
    scores = baseline(x[:200], rank[:200], x[200:])
    assert scores.shape == (40,)
    assert scores.dtype == np.float64
    assert pairwise_accuracy(scores, rank[200:]) > 0.85


@pytest.mark.parametrize("baseline", CLOSED_FORM)
def test_the_scale_of_a_feature_does_not_matter(baseline, drawn):
    x, rank = drawn
    x = x.astype(np.float64)
    stretched = x * np.linspace(0.1, 50, 30) + np.arange(30)
    assert baseline(x[:200], rank[:200], x[200:]) == pytest.approx(
        baseline(stretched[:200], rank[:200], stretched[200:]), abs=1e-6
    )


@pytest.mark.parametrize("baseline", CLOSED_FORM)
def test_a_constant_feature_and_few_images_are_survived(baseline, drawn):
    x, rank = drawn
    x = x[:8].astype(np.float32)
    x[:, 5] = 3
    assert np.isfinite(baseline(x[:5], rank[:5], x[5:])).all()


@pytest.mark.parametrize(("n", "d"), [(60, 100), (300, 40)])
def test_ridge_is_that_of_scikit_learn_at_every_penalty(n, d):
    from sklearn.linear_model import Ridge

    rng = np.random.default_rng(0)
    x, rank, test = rng.normal(size=(n, d)), rng.integers(0, 4, n).astype(float), rng.normal(size=(7, d))
    alphas = np.array([0.1, 10.0, 1e4])
    axes = _PrincipalAxes.of(x, np.zeros(n, dtype=np.int64))
    x, test = ((each - axes.mean) * axes.scale for each in (x, test))
    found = rank.mean() + test @ axes.axes @ axes.ridge_path(rank, alphas)
    expected = np.stack([Ridge(alpha=alpha).fit(x, rank).predict(test) for alpha in alphas], axis=1)
    assert np.allclose(found, expected, atol=1e-8)


def test_the_penalty_of_ridge_is_chosen_on_groups_it_has_not_seen():
    """Features that name the group predict its tier; an image left out alone leaves others of its group."""
    rng = np.random.default_rng(3)
    group = np.repeat(np.arange(60), 5)
    tier = rng.integers(0, 4, 60)[group]
    name = rng.normal(size=(60, 120))[group]
    unseen = rng.normal(size=(50, 120))
    by_group = ridge_scores(name, tier, unseen, group=group)
    by_image = ridge_scores(name, tier, unseen)
    assert by_group.std() < 0.3 * by_image.std()


def test_with_useless_features_ridge_shrinks_to_the_mean():
    rng = np.random.default_rng(1)
    x, rank = rng.normal(size=(150, 300)), rng.integers(0, 4, 150)
    assert ridge_scores(x[:100], rank[:100], x[100:]).std() < 0.4 * rank.std()


def test_logistic_regression_orders_as_pairs_laid_out_one_by_one_do(drawn):
    """Against scikit-learn on all differences, where the penalty is weak on both sides."""
    from sklearn.linear_model import LogisticRegression

    x, rank = drawn
    x = x.astype(np.float64) + np.random.default_rng(5).normal(size=x.shape)
    z = (x - x[:120].mean(axis=0)) / x[:120].std(axis=0)
    better, worse = np.nonzero(rank[:120, None] > rank[None, :120])
    differences = z[better] - z[worse]
    both = np.concatenate([differences, -differences])
    wins = np.repeat([1, 0], len(differences))
    slow = LogisticRegression(fit_intercept=False, C=0.01).fit(both, wins)
    scores = logistic_scores(x[:120], rank[:120], x[120:], seed=2)  # its folds choose scikit-learn's penalty above
    assert np.corrcoef(scores, z[120:] @ slow.coef_[0])[0, 1] > 0.97


def test_no_group_is_both_inside_and_outside_of_a_fold():
    group = np.random.default_rng(0).integers(0, 40, 200)
    folds = list(_held_out(group, np.zeros(200, dtype=int), np.random.default_rng(1)))
    assert len(folds) == 5
    assert sorted(np.concatenate([held_out for _, held_out in folds])) == list(range(200))
    for learn, held_out in folds:
        assert not set(group[learn]) & set(group[held_out])


def test_many_images_are_held_out_once_and_one_group_never():
    rng = np.random.default_rng(0)
    assert len(list(_held_out(np.arange(2001), np.zeros(2001, dtype=int), rng))) == 1
    assert list(_held_out(np.zeros(10), np.zeros(10, dtype=int), rng)) == []


def test_with_one_group_logistic_regression_still_learns(drawn):
    x, rank = drawn
    scores = logistic_scores(x[:200], rank[:200], x[200:], group=np.zeros(200))
    assert pairwise_accuracy(scores, rank[200:]) > 0.85


def test_a_copy_of_a_training_image_gets_its_tier_from_the_nearest(drawn):
    x, rank = drawn
    assert knn_scores(x[:200], rank[:200], x[:10]) == pytest.approx(rank[:10], abs=1e-3)


CONFIG = TrainParams(learning_rate=0.01, max_epochs=20, images_per_step=64, device="cpu", seeds=4)


def made_data(n: int, seed: int) -> RankingData:
    rng = np.random.default_rng(seed)
    tier = rng.integers(0, 4, n)
    features = rng.normal(size=(n, 12)).astype(np.float32)
    features[:, 0] += tier
    return RankingData(features, tier, np.zeros(n, int))


def test_it_learns_what_a_line_can_tell() -> None:
    test = made_data(200, 2)
    scores = linear_scores(made_data(300, 0), made_data(60, 1), test.features, CONFIG)
    assert scores.shape == (200,)
    assert scores.dtype == np.float64
    assert pairwise_accuracy(scores, test.tier_rank) > 0.8


@pytest.mark.slow
def test_its_scores_are_linear_in_the_features() -> None:
    a, b = made_data(50, 3).features, made_data(50, 4).features
    train, val = made_data(300, 0), made_data(60, 1)
    at_a, at_b, between = (linear_scores(train, val, x, CONFIG) for x in (a, b, (a + b) / 2))
    assert between == pytest.approx((at_a + at_b) / 2, abs=1e-5)


@pytest.mark.parametrize("method", ["ridge", "logistic"])
@pytest.mark.parametrize(("n", "d"), [(60, 100), (400, 12)])
def test_only_pairs_within_a_context_count_where_contexts_are_given(method, n, d) -> None:
    """Within a context the first feature tells the tier; between contexts it tells the opposite."""
    rng = np.random.default_rng(0)
    context = np.repeat([0, 1], n // 2)
    rank = rng.integers(0, 2, n) + 2 * context
    x = rng.normal(size=(n, d))
    x[:, 0] += 3 * (rank - 2 * context) - 8 * context
    fair, any_pair = (
        fit_linear_rankers(x, rank, context=of, methods=[method])[method].score(x) for of in (context, None)
    )
    assert pairwise_accuracy(fair, rank, context=context) > 0.9
    assert pairwise_accuracy(fair, rank, context=context) > pairwise_accuracy(any_pair, rank, context=context) + 0.2


def test_ridge_within_contexts_is_that_on_columns_less_their_contexts_means() -> None:
    from sklearn.linear_model import Ridge

    rng = np.random.default_rng(1)
    context, x, rank = rng.integers(0, 3, 90), rng.normal(size=(90, 5)), rng.integers(0, 4, 90)
    axes = _PrincipalAxes.of(x, context)
    standard = (x - axes.mean) * axes.scale
    means = np.stack([standard[context == k].mean(axis=0) for k in range(3)])
    inner, target = standard - means[context], rank - np.array([rank[context == k].mean() for k in range(3)])[context]
    expected = Ridge(alpha=2.0, fit_intercept=False).fit(inner, target).coef_
    assert axes.axes @ axes.ridge_path(rank, np.array([2.0]))[:, 0] == pytest.approx(expected, abs=1e-5)


def test_a_path_of_penalties_ends_when_two_in_a_row_are_below_the_best() -> None:
    seen = []

    def path():
        for accuracy in (0.6, 0.7, 0.69, 0.71, 0.7, 0.65, 0.9):
            seen.append(accuracy)
            yield accuracy

    assert _until_it_falls(path(), 7).tolist() == [0.6, 0.7, 0.69, 0.71, 0.7, 0.65, 0.65]
    assert len(seen) == 6


def test_a_member_that_learned_from_pairs_within_contexts_is_no_baseline() -> None:
    train, val, test = made_data(100, 0), made_data(60, 1), made_data(20, 2)
    fair = CONFIG.model_copy(update={"pair_context": "same"})
    members = {"ridge": np.zeros(20), "logistic": np.zeros(20)}
    scores = baseline_scores(train, val, test.features, fair, members=members)
    assert scores["ridge"].any()
    assert scores["logistic"].any()


def test_what_is_known_of_a_baseline_is_not_fitted_again(drawn, monkeypatch) -> None:
    train, val, test = made_data(100, 0), made_data(60, 1), made_data(20, 2)
    fitted = baseline_scores(train, val, test.features, CONFIG)
    assert tuple(fitted) == BASELINES
    known = {name: fitted[name] for name in ("ridge", "logistic")}
    monkeypatch.setattr(baselines, "fit_linear_rankers", lambda *args, **options: pytest.fail("fitted again"))
    assert all(
        np.array_equal(fitted[name], own)
        for name, own in baseline_scores(train, val, test.features, CONFIG, members=known).items()
    )


@pytest.mark.parametrize("baseline", [ridge_scores, logistic_scores])
def test_a_flag_that_the_processor_leaves_behind_fails_no_baseline(baseline, drawn, monkeypatch):
    x, rank = drawn
    expected = baseline(x[:200], rank[:200], x[200:])
    of = _PrincipalAxes.of.__func__
    flagged = lambda cls, rows, block: of(cls, with_stray_flags(np.asarray(rows)), block)  # noqa: E731
    monkeypatch.setattr(linear._PrincipalAxes, "of", classmethod(flagged))
    assert np.array_equal(baseline(x[:200], rank[:200], x[200:]), expected)


def test_a_flag_fails_no_nearest_neighbours(drawn, monkeypatch):
    x, rank = drawn
    expected = knn_scores(x[:200], rank[:200], x[200:])
    standardised = baselines._standardised
    monkeypatch.setattr(
        baselines, "_standardised", lambda *sides: tuple(with_stray_flags(side) for side in standardised(*sides))
    )
    assert np.array_equal(knn_scores(x[:200], rank[:200], x[200:]), expected)


@pytest.mark.parametrize("baseline", [ridge_scores, logistic_scores])
def test_scores_that_are_not_finite_are_an_error_of_one_line(baseline, drawn):
    x, rank = drawn
    with pytest.raises(DataError, match="not finite") as caught:
        baseline(x[:200], rank[:200], np.full((1, 30), np.inf))
    assert "\n" not in str(caught.value)
