"""Grids of experiments: their points and names; tests/test_workflows.py runs one."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from warm_python import commands_folder

from mirip.errors import DataError, ParamsError
from mirip.experiments.dvc import run_dvc
from mirip.experiments.sweep import _named_points, _quoted, _run_queue, parse_grid, point_name, sweep
from mirip.files import read_yaml


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


def git(*arguments: str, at: Path | None = None) -> str:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=at).stdout.strip()


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


@pytest.mark.parametrize("value", ["작품", "l'œuvre", "é\\", "ü, or \\' so"])
def test_a_value_of_any_letters_reaches_the_params(value: str, tmp_path: Path) -> None:
    from dvc.utils.hydra import apply_overrides

    (tmp_path / "params.yaml").write_text("track:\n  run_name: a\n")
    apply_overrides(tmp_path / "params.yaml", [f"track.run_name={_quoted(value)}"])
    assert read_yaml(tmp_path / "params.yaml")["track"] == {"run_name": value}


@pytest.mark.slow
@pytest.mark.integration
def test_a_sweep_that_cannot_be_queued_whole_leaves_nothing_in_the_queue(
    small_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(small_project)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(small_project / ".dvc/tmp/site"))
    with pytest.raises(DataError, match=r"train\.seed=a\{b"):
        sweep(["train.seed=2,a{b"], jobs=1)
    assert "Queued" not in run_dvc("queue", "status")


def test_no_jobs_are_refused(project: Path) -> None:
    with pytest.raises(ParamsError, match="0 jobs cannot run anything"):
        sweep(["train.seed=1"], jobs=0)


def test_without_params_it_says_where_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParamsError, match=r"params\.yaml is not found"):
        sweep(["train.seed=1"], jobs=1)


def test_where_dvc_can_queue_nothing_it_says_so_before_anything_is_queued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "작품"
    root.mkdir()
    monkeypatch.chdir(root)
    git("init", "-q")
    (root / "params.yaml").write_text("train: {seed: 42}\n")
    commit("start")
    with pytest.raises(DataError, match=r"DVC cannot queue experiments in .*작품, .*: move the project"):
        sweep(["train.seed=1"], jobs=1)


TRAIN = """
import json, pathlib, re, time
seed = int(re.search(r"seed: (\\d+)", pathlib.Path("params.yaml").read_text())[1])
time.sleep(60 if seed == 1 else 0)
pathlib.Path("metrics").mkdir(exist_ok=True)
pathlib.Path("metrics/train.json").write_text(json.dumps({"val_pairwise_accuracy": seed / 10}))
"""
PIPELINE = """
stages:
  train:
    cmd: python train.py
    params: [train]
    metrics:
      - metrics/train.json: {cache: false}
"""


@pytest.fixture
def small_project(tmp_path: Path) -> Path:
    """A repository of one stage, which takes a minute for seed 1 alone."""
    root = tmp_path / "project"
    root.mkdir()
    (root / "params.yaml").write_text("train:\n  seed: 42\n")
    (root / "train.py").write_text(TRAIN)
    (root / "dvc.yaml").write_text(PIPELINE)
    for command in (
        ("git", "init", "-q"),
        ("git", "config", "user.name", "t"),
        ("git", "config", "user.email", "t@example.org"),
        (commands_folder() / "dvc", "init", "-q"),
        ("git", "add", "-A"),
        ("git", "commit", "-qm", "start"),
    ):
        subprocess.run(command, cwd=root, check=True, capture_output=True)
    return root


# It asks DVC by a Python that has loaded it, which is its first argument; DVC's workers are plain processes.
LOOKS_OFTEN = """
import sys
from types import SimpleNamespace
import mirip.experiments.dvc as dvc
import mirip.experiments.sweep as sweep
from mirip.cli.main import main
dvc.sys = SimpleNamespace(executable=sys.argv.pop(1))
sweep._LOOK_S = 2
sys.exit(main())
"""


def begin_sweep(root: Path, grid: str) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "DVC_SITE_CACHE_DIR": str(root / ".dvc/tmp/site"),
    }
    warm = str(commands_folder() / "python")
    command = [sys.executable, "-c", LOOKS_OFTEN, warm, "sweep", grid, "--jobs", "1"]
    return subprocess.Popen(
        command, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def workers(root: Path) -> list[int]:
    """The processes of DVC's workers in a project."""
    return [
        int(folder.name)
        for folder in Path("/proc").iterdir()
        if folder.name.isdigit()
        and b"queue-worker" in (folder / "cmdline").read_bytes()
        and (folder / "cwd").resolve() == root
    ]


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.timeout(400)
@pytest.mark.skipif(sys.platform != "linux", reason="it finds the worker in /proc")
def test_a_sweep_whose_worker_is_killed_runs_the_others_and_ends(small_project: Path) -> None:
    process = begin_sweep(small_project, "train.seed=1,2")
    assert process.stdout is not None
    assert any("Reproducing experiment 'seed1'" in line for line in process.stdout)
    for worker in workers(small_project):
        os.kill(worker, signal.SIGKILL)
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "1 of 2 experiments failed: see `dvc queue logs seed1`" in printed
    assert git("for-each-ref", "--format=%(refname:lstrip=4)", "refs/exps/*/*/seed*", at=small_project) == "seed2"


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.timeout(200)
def test_a_queue_whose_experiments_fail_before_they_start_ends(
    small_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = small_project.with_name("작품")  # where DVC starts none, which a sweep would have said before
    small_project.rename(root)
    monkeypatch.chdir(root)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(root / ".dvc/tmp/site"))
    monkeypatch.setattr("mirip.experiments.dvc.sys", SimpleNamespace(executable=str(commands_folder() / "python")))
    monkeypatch.setattr("mirip.experiments.sweep._LOOK_S", 2)
    run_dvc("exp", "run", "--queue", "-n", "seed2", "-S", "train.seed=2")
    _run_queue(1)
    assert "Failed" in run_dvc("queue", "status")
