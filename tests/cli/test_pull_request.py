"""`mirip pr-report` on a repository with two branches, and on a clone of it that has nothing but Git."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from result_folder import write_result_folder
from result_repository import ResultRepository
from warm_python import commands_folder

from mirip.cli.main import main

pytestmark = [pytest.mark.integration, pytest.mark.slow]

# Two stages of the real pipeline are enough: the results are written, not computed.
PIPELINE = """
stages:
  train:
    cmd: "true"
    params: [train]
    metrics:
      - metrics/train.json: {cache: false, persist: true}
"""


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DVC project with a result on `main`, on the branch `work`; the branch `margin` holds another loss's result."""
    root = tmp_path_factory.mktemp("project")
    made = ResultRepository(root, write_result_folder(tmp_path_factory.mktemp("results"), n_images=900))
    (root / "dvc.yaml").write_text(PIPELINE)
    dvc(root, "init", "-q")
    dvc(root, "commit", "-q", "-f")
    made.commit("A pipeline")
    made.branch("margin")
    made.set_params("train", loss="margin")
    made.set_metrics("train", val_pairwise_accuracy=0.9)
    made.rescore(noise=0.05)
    dvc(root, "commit", "-q", "-f")
    made.commit("Train with the margin loss")
    made.git("checkout", "-q", "main")
    made.branch()
    return root


@pytest.fixture
def repository(started: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ResultRepository:
    """A copy of it; the working directory is in it."""
    root = tmp_path / "project"
    shutil.copytree(started, root)
    monkeypatch.chdir(root)
    monkeypatch.setattr(sys, "executable", str(commands_folder() / "python"))  # for the DVC that is asked
    return ResultRepository.found(root)


def dvc(root: Path, *arguments: str) -> None:
    command = [str(commands_folder() / "python"), "-m", "dvc", *arguments]
    subprocess.run(command, cwd=root, check=True, capture_output=True)


def report(base: str = "main") -> str:
    assert main(["pr-report", base, "--output", "comment.md"]) == 0
    text = Path("comment.md").read_text()
    Path("comment.md").unlink()
    return text


def change_the_loss(repository: ResultRepository) -> None:
    repository.git("merge", "-q", "--ff-only", "margin")


def test_a_branch_that_changes_the_loss(repository: ResultRepository) -> None:
    change_the_loss(repository)
    text = report()
    assert text.startswith("<!-- mirip-pr-report -->\n\n## Mirip: better\n")
    assert "| `train.loss` | `squared` | `margin` |" in text
    assert text.count("| `train.") == 1
    assert "| Validation pairwise accuracy | 70.8 % | 90.0 % | +19.2 points |" in text
    assert "choose" in text.lower()
    assert "out of date" not in text
    assert "not committed" not in text


def test_a_clone_that_has_nothing_but_git_says_the_same(
    repository: ResultRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_the_loss(repository)
    here = report()
    bare = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(repository.root), str(bare)], check=True)
    shutil.rmtree(repository.root / ".dvc/cache", ignore_errors=True)
    monkeypatch.chdir(bare)
    assert not (bare / ".dvc/cache").exists()
    assert report("origin/main") == here.replace("`main`", "`origin/main`")


def test_the_report_is_printed_where_no_file_is_named(
    repository: ResultRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    change_the_loss(repository)
    assert main(["pr-report", "main"]) == 0
    assert capsys.readouterr().out == report()


def test_what_main_did_since_is_not_held_against_the_branch(repository: ResultRepository) -> None:
    change_the_loss(repository)
    before = report()
    repository.git("checkout", "-q", "main")
    repository.set_params("train", seed=7)
    repository.commit("another seed")
    repository.git("checkout", "-q", "work")
    assert report() == before


def test_params_without_their_results_are_said_to_be_so(repository: ResultRepository) -> None:
    repository.set_params("train", loss="margin")
    text = report()
    assert "## Mirip: dvc.lock is out of date" in text
    assert "> - `train`: `train.loss squared -> margin`" in text
    assert "with changes that are not committed" in text


def test_other_test_splits_and_other_hardware(repository: ResultRepository) -> None:
    path = repository.root / "metrics/scores.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-5]))
    repository.set_metrics("evaluate", pairwise_accuracy=0.99)
    repository.set_metrics("benchmark", hardware="H100", device="cuda")
    repository.commit("another test split")
    text = report()
    assert "## Mirip: no verdict" in text
    assert "were evaluated on different test splits" in text
    assert "| not comparable |" in text
    assert "since the hardware differs: before `Intel Xeon, 2 cores (cpu)`, after `H100 (cuda)`" in text


def test_a_base_without_results(repository: ResultRepository) -> None:
    repository.git("checkout", "-q", "main")
    repository.git("rm", "-rq", "metrics")
    repository.commit("no result")
    repository.git("branch", "-qf", "empty")
    repository.branch("results")
    repository.git("checkout", "work", "--", "metrics")
    repository.commit("results")
    text = report("empty")
    assert "## Mirip: no verdict" in text
    assert "empty has no metrics/scores.csv" in text
    assert "Test pairwise accuracy: **71.4 %** after." in text
    assert "| Validation pairwise accuracy | – | 70.8 % |  |" in text
    assert "`empty` has no measurement" in text


@pytest.mark.parametrize("base", ["nowhere", "--all"])
def test_an_unknown_base_is_one_line(
    repository: ResultRepository, base: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pr-report", "--", base]) == 1
    error = capsys.readouterr().err
    assert (
        error
        == f"error: {base} is not a Git revision here: give a branch, a tag or a commit, and `git fetch` it first\n"
    )


def test_a_base_that_was_no_dvc_project_yet(repository: ResultRepository) -> None:
    repository.git("checkout", "-q", "--orphan", "first")
    repository.git("rm", "-rqf", "--cached", ".")
    (repository.root / "readme").write_text("to come")
    repository.git("add", "readme")
    repository.git("commit", "-qm", "the beginning")
    repository.branch("results")
    repository.commit("all the rest")
    text = report("first")
    assert "| `train.loss` | `null` | `squared` |" in text
    assert "## Mirip: no verdict" in text
