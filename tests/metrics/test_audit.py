import numpy as np
import published_names
import pytest

from mirip.metrics.audit import ALL_TOGETHER, audit_ranker
from mirip.metrics.shortcuts import Column

N, N_GROUPS = 500, 300


class Collection:
    """Works of many artists, columns that lean alike within an artist, and a model that knows quality well."""

    def __init__(self, seed):
        rng = self.rng = np.random.default_rng(seed)
        self.group = rng.integers(0, N_GROUPS, N)
        quality = 0.7 * rng.normal(size=N_GROUPS)[self.group] + 0.7 * rng.normal(size=N)
        self.rank = np.searchsorted(np.quantile(quality, [0.25, 0.65, 0.9]), quality)
        side = rng.choice(3, size=N_GROUPS, p=[0.75, 0.1, 0.15])[self.group]
        self.train, self.test = side == 0, side == 2
        self.model = quality + 0.4 * rng.normal(size=N)
        self.columns = {
            f"noise {k}": [Column(f"noise {k}", "number", rng.normal(size=N_GROUPS)[self.group])] for k in range(5)
        }
        self.columns["school"] = [Column("school", "category", rng.integers(0, 40, N_GROUPS)[self.group])]

    def audit(self, **options):
        return audit_ranker(
            self.model[self.test],
            self.columns,
            self.rank,
            self.group,
            self.train,
            self.test,
            **{"n_bootstrap": 400, **options},
        )


def names(audit):
    return set(audit.findings["name"])


def test_clean_data_rarely_show_a_finding():
    found = [len(Collection(seed).audit(n_bootstrap=200).findings) > 0 for seed in range(40)]
    assert np.mean(found) <= 0.1


def test_a_file_size_that_determines_the_tier_is_found():
    works = Collection(0)
    works.columns["file size"] = [Column("file_bytes", "number", works.rank * 1000.0 + works.rng.normal(size=N))]
    audit = works.audit()
    assert {"shortcut: file size", "tier told by: file_bytes", "margin over the best shortcut"} <= names(audit)
    assert (audit.findings["severity"] == "critical").all()
    assert audit.metrics["best_shortcut_accuracy"] == 1
    assert audit.metrics["margin_over_shortcut_ci_high"] < 0


def test_a_column_that_determines_the_tier_is_found():
    works = Collection(1)
    codes = works.rank * 5 + works.rng.integers(0, 5, N)
    works.columns["university"] = [Column("university", "category", codes)]
    findings = works.audit().findings.set_index("name")
    assert findings.loc["tier told by: university", "severity"] == "critical"
    assert findings.loc["tier told by: university", "value"] == pytest.approx(1, abs=0.01)
    assert findings.loc["tier told by: university", "p_value"] < 0.05


def test_rows_sorted_by_tier_are_found():
    works = Collection(2)
    place = np.argsort(np.argsort(works.rank, kind="stable")).astype(float)
    works.columns["row order"] = [Column("row", "number", place)]
    assert "shortcut: row order" in names(works.audit())


def test_a_group_of_one_tier_is_no_finding():
    works = Collection(3)
    works.rank = np.random.default_rng(0).integers(0, 4, N_GROUPS)[works.group]
    works.model = works.rank + 0.3 * works.rng.normal(size=N)
    assert names(works.audit()) == set()


def test_a_weak_hint_is_information_not_an_alarm():
    works = Collection(4)
    leaning = np.where(works.rng.random(N) < 0.5, works.rank, works.rng.integers(0, 4, N))
    works.columns["paper"] = [Column("paper", "category", leaning)]
    findings = works.audit().findings.set_index("name")
    assert findings.loc["tier told by: paper", "severity"] == "info"


def test_a_model_that_knows_nothing_is_not_above_the_best_shortcut():
    works = Collection(5)
    works.model = works.rng.normal(size=N)
    audit = works.audit()
    assert "margin over the best shortcut" in names(audit)
    assert audit.metrics["margin_over_shortcut_ci_low"] < 0


def test_tables_and_scalars_agree_and_all_names_are_there():
    audit = Collection(6).audit()
    assert set(published_names.AUDIT) <= set(audit.metrics)
    best = audit.shortcuts.iloc[0]
    assert audit.metrics["best_shortcut"] == best["shortcut"]
    assert audit.metrics["margin_over_shortcut"] == best["margin"]
    assert audit.metrics["n_findings"] == len(audit.findings)
    assert ALL_TOGETHER in set(audit.shortcuts["shortcut"])
    assert list(audit.shortcuts)[:4] == ["shortcut", "pairwise_accuracy", "ci_low", "ci_high"]
    assert list(audit.findings) == ["name", "severity", "value", "p_value", "advice"]


def test_the_same_seed_gives_the_same_audit():
    first, second = (Collection(7).audit(seed=3) for _ in range(2))
    assert first.metrics == second.metrics
    assert first.shortcuts.equals(second.shortcuts)


def test_nothing_to_look_at_leaves_chance_to_beat():
    works = Collection(8)
    works.columns = {}
    audit = works.audit()
    assert audit.metrics["best_shortcut"] == "none"
    assert audit.metrics["best_shortcut_accuracy"] == 0.5
