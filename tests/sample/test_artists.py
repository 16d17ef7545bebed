from collections import Counter

import pytest

from mirip.sample.artists import DEPARTMENT_BONUS, TIER_SHARES, assign_works
from mirip.sample.truth import best_ranker_accuracy


@pytest.fixture(scope="module")
def works():
    return assign_works(42, 600, 400)


def test_tiers_have_their_shares(works):
    assert Counter(work.tier for work in works) == {tier: round(600 * share) for tier, share in TIER_SHARES.items()}


def test_every_artist_has_work_in_one_department(works):
    assert len({work.artist for work in works}) == 400
    assert len({(work.artist, work.department) for work in works}) == 400
    assert {work.department for work in works} == set(DEPARTMENT_BONUS)


def test_departments_differ_in_their_mix_of_tiers(works):
    def upper_share(department):
        own = [work.tier for work in works if work.department == department]
        return sum(tier in "SA" for tier in own) / len(own)

    assert upper_share("design") > upper_share("craft") + 0.1


def test_the_label_follows_skill_but_not_blindly(works):
    accuracy, _ = best_ranker_accuracy([work.tier for work in works], [work.merit for work in works])
    assert 0.85 < accuracy < 0.92


def test_skill_says_nothing_about_the_medium(works):
    tiers = [work.tier for work in works]
    for medium in ("pencil", "charcoal", "watercolour"):
        accuracy, _ = best_ranker_accuracy(tiers, [float(work.medium == medium) for work in works])
        assert accuracy == pytest.approx(0.5, abs=0.06)


def test_another_seed_makes_other_works(works):
    assert assign_works(42, 600, 400) == works
    assert assign_works(43, 600, 400) != works
