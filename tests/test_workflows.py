"""Every command of docs/workflows.md and `make sweep`, run as they stand, in a clone with a small sample."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from local_servers import wait_for
from mlflow_store import kill
from pipeline_clone import Project, clone

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1500)]

SMALL = {"sample": {"n_images": 80, "n_artists": 70}, "train": {"max_epochs": 3, "calibration_folds": 2}}


@pytest.fixture(scope="module")
def project(project_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A clone in which make finds this environment, with an empty repository as its origin."""
    root = tmp_path_factory.mktemp("clone")
    project = clone(project_root, root, **SMALL)
    (root / ".venv").mkdir()
    for part in ("bin", "lib", "pyvenv.cfg"):
        (root / ".venv" / part).symlink_to(Path(sys.prefix) / part)
    (root / ".venv" / ".installed").touch()
    origin = tmp_path_factory.mktemp("origin")
    project.run("git", "init", "-q", "--bare", str(origin))
    project.run("git", "remote", "add", "origin", str(origin))
    return project


def commands(path: Path) -> list[str]:
    """The lines of all blocks of shell."""
    blocks = re.findall(r"```sh\n(.*?)```", path.read_text(), re.DOTALL)
    return [line for block in blocks for line in block.replace("\\\n", "").splitlines()]


def serve(project: Project, command: str, page: str) -> None:
    """Run a command that serves until it is stopped, and stop it once the page answers."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    log = project.root / ".mirip" / "served.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            ["bash", "-c", command], cwd=project.root, env=environment, start_new_session=True,
            stdout=stream, stderr=stream,
        )  # fmt: skip
    try:
        wait_for(page, process, log)
    finally:
        kill(process)


PAGES = {"make ui": "http://127.0.0.1:5000/health", "mlflow models serve": "http://127.0.0.1:5001/ping"}


def test_the_commands_of_the_four_workflows_run_one_after_the_other(project: Project) -> None:
    done = []
    for command in commands(project.root / "docs" / "workflows.md"):
        page = next((page for name, page in PAGES.items() if name in command), None)
        if page is not None:
            serve(project, command, page)
        else:
            output = project.run("bash", "-c", command)
            if command.startswith("mirip pr-report"):
                assert "`train.loss` | `logistic` | `margin`" in output
            if command.startswith("mirip promote"):
                assert "is the champion now" in output
        done.append(command.split()[0])
    assert {"dvc", "mirip", "git", "make"} <= set(done)
    assert "margin-loss" in project.run("git", "ls-remote", "--heads", "origin")


def test_a_sweep_runs_every_point_of_its_grid_once_under_a_readable_name(project: Project) -> None:
    grid = "GRID=train.learning_rate=0.001 train.dropout=0.1,0.3"
    output = project.run("make", "sweep", grid)
    listed = output.rpartition("best first:\n")[2].split()
    assert sorted(listed[1::2]) == ["lr0.001-dropout0.1", "lr0.001-dropout0.3"]
    assert listed[::2] == sorted(listed[::2], reverse=True)
    assert project.run("make", "sweep", grid).count("has run already") == 2


def test_an_interrupted_sweep_leaves_nothing_running_and_is_begun_again(project: Project) -> None:
    command = [str(Path(sys.executable).with_name("mirip")), "sweep", "train.seed=7,8"]
    process = subprocess.Popen(command, cwd=project.root, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    assert any("Reproducing experiment" in line for line in process.stdout)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert not re.search("Queued|Running", project.run("dvc", "queue", "status"))
    assert project.run("mirip", "sweep", "train.seed=7,8").rpartition("best first:\n")[2].count("seed") == 2


def test_a_sweep_that_fails_says_where_to_look(project: Project) -> None:
    output = project.run("mirip", "sweep", "train.learning_rate=-1", check=False)
    assert "1 of 1 experiments failed: see `dvc queue logs" in output
