from markdown_it import MarkdownIt
from result_repository import ResultRepository

from mirip.experiments.lock_check import StaleStage
from mirip.experiments.pull_request.comment import MARKER, comment, verdict
from mirip.experiments.pull_request.revision import committed, merge_base, working_tree


def made(stale: tuple[StaleStage, ...] = (), params: dict | None = None) -> str:
    before, after = committed(merge_base("main"), "main"), working_tree("this branch")
    return comment(before, after, verdict(before, after), params or {}, stale)


def test_the_first_line_is_the_marker_and_the_second_the_verdict(repository: ResultRepository) -> None:
    repository.rescore(noise=0.05)
    lines = [line for line in made().splitlines() if line]
    assert lines[:2] == [MARKER, "## Mirip: better"]
    assert lines[0] == "<!-- mirip-pr-report -->"


def test_a_changed_result_comes_with_the_advice_and_an_unchanged_one_without(repository: ResultRepository) -> None:
    assert "val_pairwise_accuracy" not in made()
    repository.rescore(noise=0.05)
    repository.set_metrics("evaluate", pairwise_accuracy=0.99)
    assert "val_pairwise_accuracy" in made()


def test_a_stale_lock_is_said_before_any_metric(repository: ResultRepository) -> None:
    repository.rescore(noise=0.05)
    text = made((StaleStage("train", ("train.loss logistic -> margin",)),))
    assert "## Mirip: dvc.lock is out of date" in text
    assert text.index("> - `train`: `train.loss logistic -> margin`") < text.index("Test pairwise accuracy")
    assert "> Run `dvc repro`" in text


def test_every_table_is_one_to_a_markdown_parser(repository: ResultRepository) -> None:
    repository.rescore(noise=0.05)
    repository.set_metrics("train", best_epoch=3, val_pairwise_accuracy=0.9)
    repository.set_metrics("benchmark", pair_latency_ms_p50=9.0)
    params = {"params.yaml": {"a|b": {"old": "|", "new": "x"}}}
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(made(params=params))
    assert html.count("<table>") == 4
    assert html.count("<tr>") == sum(line.startswith("| ") for line in made(params=params).splitlines()) - 4


def test_a_comment_is_never_longer_than_github_takes(repository: ResultRepository) -> None:
    params = {"params.yaml": {f"recipes.r{k}.backbone": {"old": "x" * 80, "new": "y" * 80} for k in range(2000)}}
    text = made(params=params)
    assert len(text) < 65_536
    assert text.startswith(MARKER)
    assert "too long for a comment" in text
    assert "no score has changed" in text


def test_many_params_are_folded_and_few_are_not(repository: ResultRepository) -> None:
    params = {"params.yaml": {f"a.b{k}": {"old": 1, "new": 2} for k in range(30)}}
    assert "<summary>30 params have changed</summary>" in made(params=params)
    few = {"params.yaml": {"a.b": {"old": 1, "new": 2}}}
    assert "<details>" not in made(params=few)


def test_other_features_of_the_same_images_are_said(repository: ResultRepository) -> None:
    assert "The features differ" not in made()
    repository.set_metrics("extract", content_digest="other")
    assert "The features differ as well" in made()
    repository.set_metrics("extract", fingerprint="another recipe")
    assert "The features differ" not in made()
