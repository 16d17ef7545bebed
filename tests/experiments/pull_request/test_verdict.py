import pandas as pd
import pytest
from result_repository import ResultRepository

from mirip.experiments.pull_request.comment import Verdict, verdict
from mirip.experiments.pull_request.revision import committed, merge_base, working_tree


def found_verdict() -> Verdict:
    return verdict(committed(merge_base("main"), "main"), working_tree("this branch"))


@pytest.mark.parametrize(("slope", "title"), [(1.0, "better"), (-1.0, "worse")])
def test_what_is_beyond_noise_is_named(repository: ResultRepository, slope: float, title: str) -> None:
    repository.rescore(noise=0.05, slope=slope)
    found = found_verdict()
    assert found.title == title
    assert f"**{title}, beyond noise**" in found.sentences[0]


def test_a_small_change_is_within_noise(repository: ResultRepository) -> None:
    path = repository.root / "metrics/scores.csv"
    scores = pd.read_csv(path, dtype={"id": str, "group": str})
    scores.loc[0, "score"] += 0.5
    scores.to_csv(path, index=False)
    found = found_verdict()
    assert found.title == "within noise"
    assert found.same_test_split
    assert not found.same_scores


def test_the_headline_says_both_accuracies_and_the_interval_of_the_difference(repository: ResultRepository) -> None:
    repository.rescore(noise=0.05)
    sentence = found_verdict().sentences[0]
    assert " → 100.0 %**, +" in sentence
    assert sentence.count("+") == 3


def test_one_seed_is_said_and_several_are_not(repository: ResultRepository) -> None:
    path = repository.root / "metrics/scores.csv"
    repository.rescore(noise=0.05)
    assert any("One training seed of `this branch` and of `main`" in sentence for sentence in found_verdict().sentences)
    scores = pd.read_csv(path, dtype={"id": str, "group": str})
    scores.assign(score_seed_42=scores["score"], score_seed_43=scores["score"] + 0.1).to_csv(path, index=False)
    assert any("One training seed of `main`:" in sentence for sentence in found_verdict().sentences)
    repository.commit("two seeds")
    repository.git("branch", "-qf", "main")
    repository.set_metrics("train", epochs=3)
    assert not any("One training seed" in sentence for sentence in found_verdict().sentences)


def test_unchanged_scores_are_said_to_be_so(repository: ResultRepository) -> None:
    found = found_verdict()
    assert found.title == "unchanged"
    assert found.same_scores


def test_other_test_splits_give_no_verdict_and_say_how_many_images_differ(repository: ResultRepository) -> None:
    path = repository.root / "metrics/scores.csv"
    scores = path.read_text().splitlines(keepends=True)
    path.write_text("".join(scores[:-5]))
    found = found_verdict()
    assert found.title == "no verdict"
    assert not found.same_test_split
    assert "the two cannot be compared" in found.sentences[0]
    assert "0 of " in found.sentences[1]
    assert "5 of " in found.sentences[1]


def test_a_revision_without_scores_is_named(repository: ResultRepository) -> None:
    (repository.root / "metrics/scores.csv").unlink()
    found = found_verdict()
    assert found.title == "no verdict"
    assert "this branch has no metrics/scores.csv" in found.sentences[1]
    assert "main" not in found.sentences[1]


def test_damaged_scores_are_said_to_be_so(repository: ResultRepository) -> None:
    (repository.root / "metrics/scores.csv").write_text("a,b\n1,2\n")
    assert "the scores of this branch lack the columns" in found_verdict().sentences[1]
