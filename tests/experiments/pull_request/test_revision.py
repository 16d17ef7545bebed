from pathlib import Path

import pytest
from result_repository import ResultRepository

from mirip.errors import DataError
from mirip.experiments.pull_request.revision import committed, merge_base, working_tree


def test_the_merge_base_is_taken_and_not_the_tip_of_the_base(repository: ResultRepository) -> None:
    start = repository.git("rev-parse", "HEAD")
    repository.set_metrics("train", epochs=1)
    repository.commit("mine")
    repository.git("checkout", "-q", "main")
    repository.set_metrics("train", epochs=2)
    repository.commit("theirs")
    repository.git("checkout", "-q", "work")
    assert merge_base("main") == start


def test_a_commit_and_the_working_tree_are_read_in_the_same_way(repository: ResultRepository) -> None:
    commit = repository.git("rev-parse", "HEAD")
    old, new = committed(commit, "x"), working_tree("x")
    assert old.metrics == new.metrics
    assert old.metrics["evaluate"]["pairwise_accuracy"] > 0.5
    assert old.curves is not None
    assert new.curves is not None
    assert old.curves.equals(new.curves)
    assert old.commit == new.commit
    assert not new.dirty


def test_what_is_not_committed_makes_a_revision_dirty(repository: ResultRepository) -> None:
    repository.set_metrics("train", epochs=1)
    assert working_tree("x").dirty


def test_a_revision_without_results_is_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = working_tree("x")
    assert found.metrics["evaluate"] == {}
    assert found.curves is None
    assert found.scores is None
    assert found.no_scores == "x has no metrics/scores.csv"


def test_an_unknown_base_is_refused(repository: ResultRepository) -> None:
    for base in ("nowhere", "--all", ""):
        with pytest.raises(DataError, match="is not a Git revision here"):
            merge_base(base)


def test_a_base_of_another_history_is_refused_with_what_to_do(repository: ResultRepository) -> None:
    repository.git("checkout", "-q", "--orphan", "island")
    repository.commit("alone")
    with pytest.raises(DataError, match="fetch-depth 0"):
        merge_base("main")


def test_outside_of_a_repository_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="no Git repository"):
        merge_base("main")
