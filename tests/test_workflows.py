"""Every command of docs/workflows.md and `make sweep`, run as they stand, in a clone with a small sample."""

import os
import re
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from local_servers import wait_for
from mlflow_store import kill
from pipeline_clone import BuiltPipeline, Project, clone
from warm_python import commands_folder

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1500)]

PAGES = {"make ui": "http://127.0.0.1:5000/health", "mlflow models serve": "http://127.0.0.1:5001/ping"}
RESULTS = ("features/sample.h5", "models/best_model.pt", "metrics/evaluate.json", "metrics/scores.csv")


@dataclass
class Typed:
    """A clone in which somebody has typed all commands of the page."""

    project: Project
    printed: dict[str, str]  # by command, but for those that serve
    first_results: dict[str, bytes]  # of the first `dvc repro`


@pytest.fixture(scope="module")
def typed(project_root: Path, pipeline: BuiltPipeline, tmp_path_factory: pytest.TempPathFactory) -> Typed:
    """A clone in which make finds the commands of this environment, with an empty repository as its origin.

    Its sample was drawn by the shared pipeline; all else it computes itself.
    """
    root = tmp_path_factory.mktemp("clone")
    project = clone(project_root, root, drawn=pipeline.root)
    (root / ".venv").mkdir()
    (root / ".venv" / "bin").symlink_to(commands_folder())
    (root / ".venv" / ".installed").touch()
    origin = tmp_path_factory.mktemp("origin")
    project.run("git", "init", "-q", "--bare", str(origin))
    project.run("git", "remote", "add", "origin", str(origin))
    typed = Typed(project, {}, {})
    for command in commands(root / "docs" / "workflows.md"):
        page = next((page for name, page in PAGES.items() if name in command), None)
        if page is not None:
            serve(project, command, page)
        else:
            typed.printed[command] = project.run("bash", "-c", command)
        typed.first_results = typed.first_results or {name: (root / name).read_bytes() for name in RESULTS}
    return typed


def commands(path: Path) -> list[str]:
    """The lines of all blocks of shell."""
    blocks = re.findall(r"```sh\n(.*?)```", path.read_text(), re.DOTALL)
    return [line for block in blocks for line in block.replace("\\\n", "").splitlines()]


def serve(project: Project, command: str, page: str) -> None:
    """Run a command that serves until it is stopped, and stop it once the page answers."""
    log = project.root / ".mirip" / "served.log"
    with log.open("wb") as stream:
        process = project.start("bash", "-c", command, start_new_session=True, stdout=stream, stderr=stream)
    try:
        wait_for(page, process, log)
    finally:
        kill(process)


def test_the_commands_of_the_four_workflows_run_one_after_the_other(typed: Typed) -> None:
    assert {"dvc", "mirip", "git"} <= {command.split()[0] for command in typed.printed}
    (report,) = (output for command, output in typed.printed.items() if command.startswith("mirip pr-report"))
    assert "`train.loss` | `squared` | `margin`" in report
    (shown,) = (output for command, output in typed.printed.items() if command.startswith("dvc exp show"))
    assert all(f"[{name}]" in shown for name in ("margin", "dropout", "balanced"))
    (promoted,) = (output for command, output in typed.printed.items() if command.startswith("mirip promote"))
    assert "is the champion now" in promoted
    assert "margin-loss" in typed.project.run("git", "ls-remote", "--heads", "origin")


def test_two_clones_give_the_same_bytes(typed: Typed, pipeline: BuiltPipeline) -> None:
    assert typed.first_results.keys() == set(RESULTS)
    for name, found in typed.first_results.items():
        assert found == (pipeline.root / name).read_bytes(), name


def test_a_pull_request_is_reported_on_a_clone_that_has_nothing_but_git(typed: Typed, tmp_path: Path) -> None:
    typed.project.run("git", "clone", "-q", "--branch", "margin-loss", str(typed.project.root), str(tmp_path / "fresh"))
    fresh = Project(tmp_path / "fresh")
    assert not (fresh.root / "data" / "manifest.parquet").exists()
    assert fresh.run("mirip", "check-lock").startswith("dvc.lock agrees")
    comment = fresh.run("mirip", "pr-report", "origin/main")
    assert "| `train.loss` | `squared` | `margin` |" in comment
    assert re.search(r"^## Mirip: (better|worse|within noise)$", comment, re.MULTILINE)
    assert "```mermaid" in comment
    fresh.edit("params.yaml", "loss: margin", "loss: squared")
    said = fresh.run("mirip", "check-lock", check=False)
    assert "train: train.loss margin -> squared\nerror: " in said


GRID = ["train.learning_rate=0.001", "train.dropout=0.1,0.3"]


def test_an_interrupted_sweep_leaves_nothing_running(typed: Typed) -> None:
    project = typed.project
    process = project.start("mirip", "sweep", *GRID, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    assert any("Reproducing experiment" in line for line in process.stdout)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=300)
    assert process.returncode == 130
    assert not re.search("Queued|Running", project.run("dvc", "queue", "status"))


def test_a_sweep_goes_on_and_runs_every_point_of_its_grid_once_under_a_readable_name(typed: Typed) -> None:
    project = typed.project
    output = project.run("make", "sweep", f"GRID={' '.join(GRID)}")
    listed = output.rpartition("best first:\n")[2].split()
    assert sorted(listed[1::2]) == ["lr0.001-dropout0.1", "lr0.001-dropout0.3"]
    assert listed[::2] == sorted(listed[::2], reverse=True)
    assert project.run("make", "sweep", f"GRID={' '.join(GRID)}").count("has run already") == 2


def test_a_sweep_that_fails_says_where_to_look(typed: Typed) -> None:
    project = typed.project
    output = project.run("mirip", "sweep", "train.learning_rate=-1", check=False)
    assert "1 of 1 experiments failed: see `dvc queue logs" in output
