"""Grids of experiments: their points and names; tests/test_workflows.py runs one."""

import subprocess
from pathlib import Path

import pytest

from mirip.errors import ParamsError
from mirip.experiments.sweep import _named_points, parse_grid, point_name, sweep


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one experiment, seed1, of train.seed 1."""
    monkeypatch.chdir(tmp_path)
    git("init", "-q")
    (tmp_path / "params.yaml").write_text("train: {seed: 42, dropout: 0.1}\nsplit: {seed: 42}\n")
    head = commit("start")
    (tmp_path / "params.yaml").write_text("train: {seed: 1, dropout: 0.1}\nsplit: {seed: 42}\n")
    git("update-ref", f"refs/exps/{head[:2]}/{head[2:]}/seed1", commit("an experiment"))
    git("reset", "-q", "--hard", head)
    return tmp_path


def git(*arguments: str) -> str:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commit(message: str) -> str:
    git("add", "-A")
    git("commit", "-qm", message)
    return git("rev-parse", "HEAD")


def test_a_grid_holds_every_combination_once() -> None:
    points = parse_grid(["train.loss=logistic,margin", "train.seed=1,2,3"])
    assert len({tuple(point.items()) for point in points}) == len(points) == 6
    assert points[0] == {"train.loss": "logistic", "train.seed": "1"}


@pytest.mark.parametrize("text", ["train.loss", "=1", "train.loss=", "train.loss=a,,b"])
def test_what_is_no_axis_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ParamsError, match=r"write a param and its values"):
        parse_grid([text])


def test_a_name_tells_the_values_in_letters_that_git_allows() -> None:
    point = {"train.learning_rate": "0.001", "train.loss": "margin", "train.pair_balance": "natural", "train.seed": "4"}
    assert point_name(point) == "lr0.001-margin-natural-seed4"
    assert point_name({"train.dropout": ".1", "recipes.mine.backbone": "facebook/x"}) == "dropout.1-facebook-x"


def test_an_experiment_is_taken_for_a_point_only_where_its_params_are_the_points(project: Path) -> None:
    assert list(_named_points(parse_grid(["train.seed=1"]))) == ["seed1"]
    (other,) = _named_points(parse_grid(["split.seed=1"]))
    assert other.startswith("seed1-")
    (project / "params.yaml").write_text("train: {seed: 42, dropout: 0.5}\nsplit: {seed: 42}\n")
    (edited,) = _named_points(parse_grid(["train.seed=1"]))
    assert edited.startswith("seed1-")
    assert edited != other


def test_two_points_never_share_a_name(project: Path) -> None:
    assert len(_named_points(parse_grid(["train.seed=2,3", "split.seed=2,3"]))) == 4


def test_a_value_named_twice_is_one_point() -> None:
    assert parse_grid(["train.seed=2,3,2"]) == [{"train.seed": "2"}, {"train.seed": "3"}]


def test_an_unknown_param_is_named_before_anything_is_queued(project: Path) -> None:
    with pytest.raises(ParamsError, match=r"params\.yaml has no train\.nosuch"):
        sweep(["train.nosuch=1"], jobs=1)


def test_no_jobs_are_refused(project: Path) -> None:
    with pytest.raises(ParamsError, match="0 jobs cannot run anything"):
        sweep(["train.seed=1"], jobs=0)


def test_without_params_it_says_where_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParamsError, match=r"params\.yaml is not found"):
        sweep(["train.seed=1"], jobs=1)
