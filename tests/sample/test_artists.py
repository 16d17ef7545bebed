from collections import Counter

import pytest

from mirip.sample.artists import DEPARTMENT_BONUS, TIER_SHARES, assign_artworks
from mirip.sample.truth import best_ranker_accuracy


@pytest.fixture(scope="module")
def artworks():
    return assign_artworks(42, 600, 400)


def test_tiers_have_their_shares(artworks):
    assert Counter(artwork.tier for artwork in artworks) == {
        tier: round(600 * share) for tier, share in TIER_SHARES.items()
    }


def test_every_artist_has_work_in_one_department(artworks):
    assert len({artwork.artist for artwork in artworks}) == 400
    assert len({(artwork.artist, artwork.department) for artwork in artworks}) == 400
    assert {artwork.department for artwork in artworks} == set(DEPARTMENT_BONUS)


def test_departments_differ_in_their_mix_of_tiers(artworks):
    def upper_share(department):
        own = [artwork.tier for artwork in artworks if artwork.department == department]
        return sum(tier in "SA" for tier in own) / len(own)

    assert upper_share("design") > upper_share("craft") + 0.1


def test_the_label_follows_skill_but_not_blindly(artworks):
    accuracy, _ = best_ranker_accuracy([artwork.tier for artwork in artworks], [artwork.merit for artwork in artworks])
    assert 0.85 < accuracy < 0.92


def test_skill_says_nothing_about_the_medium(artworks):
    tiers = [artwork.tier for artwork in artworks]
    for medium in ("pencil", "charcoal", "watercolour"):
        accuracy, _ = best_ranker_accuracy(tiers, [float(artwork.medium == medium) for artwork in artworks])
        assert accuracy == pytest.approx(0.5, abs=0.06)


def test_another_seed_makes_other_artworks(artworks):
    assert assign_artworks(42, 600, 400) == artworks
    assert assign_artworks(43, 600, 400) != artworks
