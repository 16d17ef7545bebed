"""A clone of the working tree with small params, in which real DVC runs, and the one that all tests share.

A pipeline takes most of a minute of CPU, so it runs once (`built_pipeline`), and each module that needs one gets a
copy. What runs are forks of a Python that has loaded the libraries: see warm_python.py.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock
from result_folder import migrated_database
from warm_python import commands_folder

SMALL = {
    "sample": {"n_images": 80, "n_artists": 70},
    "split": {"max_tier_drift": 20.0},
    "train": {"max_epochs": 3, "calibration_folds": 2},
    "evaluate": {"n_bootstrap": 200},
    "audit": {"n_bootstrap": 200},
    "benchmark": {"pair_runs": 3, "batch_size": 2, "train_rows": 200, "train_epochs": 2},
    # Of the sample's backbone: each is computed by one test alone.
    "recipes": {
        f"at_{side}": {"backbone": "models/backbones/sample", "image_size": side, "compute_dtype": "float32"}
        for side in (28, 42, 56, 70, 84)
    },
}


@dataclass
class Project:
    """A repository in which commands can be run."""

    root: Path

    @property
    def plain_environment(self) -> dict[str, str]:
        """An environment in which `python`, `dvc` and `mirip` are those that a user starts."""
        return {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "DVC_SITE_CACHE_DIR": str(self.root / ".dvc/tmp/site"),  # or DVC leaves a folder in /var/tmp for ever
            "MLFLOW_WORKERS": "1",  # of a server's four, each imports MLflow again
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }

    @property
    def environment(self) -> dict[str, str]:
        """The same, but the commands start from loaded libraries: see warm_python.py."""
        plain = self.plain_environment
        return {**plain, "PATH": f"{commands_folder()}:{plain['PATH']}"}

    def run(self, *command: str, check: bool = True, plain: bool = False) -> str:
        """Run a command, if need be by plain interpreters, and return what it printed."""
        with tempfile.TemporaryFile() as log:  # no pipe: a worker of DVC that outlives its command would hold its end
            returncode = self.start(*command, plain=plain, stdout=log, stderr=subprocess.STDOUT).wait()
            log.seek(0)
            printed = log.read().decode()
        assert returncode == 0 or not check, f"{' '.join(command)}\n{printed}"
        return printed

    def start(self, *command: str, plain: bool = False, **options: Any) -> subprocess.Popen[Any]:
        """Start a command, with options of Popen."""
        environment = self.plain_environment if plain else self.environment
        return subprocess.Popen(command, cwd=self.root, env=environment, **options)

    def commit(self, message: str) -> None:
        """Commit all that Git does not ignore."""
        self.run("git", "add", "-A")
        self.run("git", "commit", "-q", "-m", message)

    def put_back(self) -> None:
        """Put back what Git and DVC hold of the last commit."""
        self.run("git", "checkout", "-q", ".")
        self.run("git", "clean", "-fdq")
        self.run("dvc", "checkout", "-q", check=False)

    def stages_run(self, output: str) -> list[str]:
        """Names of the stages whose command ran, in order."""
        return re.findall(r"Running stage '(?:data/dvc\.yaml:)?(\w+)'", output)

    def json(self, name: str) -> dict[str, Any]:
        """Content of metrics/<name>.json."""
        return json.loads((self.root / "metrics" / f"{name}.json").read_text())

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace text in a file; it must be there."""
        text = (self.root / path).read_text()
        assert old in text
        (self.root / path).write_text(text.replace(old, new, 1))

    def forget_runs(self) -> None:
        """Make the MLflow store again, without any run; a process looks into one at most once: MLflow keeps it open."""
        shutil.rmtree(self.root / "mlartifacts", ignore_errors=True)
        (self.root / "mlflow.db").unlink(missing_ok=True)
        (self.root / "mlflow.db").write_bytes(migrated_database())


def clone(
    project_root: Path, root: Path, *, with_lock: bool = False, drawn: Path | None = None, **sections: dict[str, Any]
) -> Project:
    """Copy what Git tracks, or would track, into a new repository with small params and no results.

    Args:
        project_root: what to copy.
        root: the new repository.
        with_lock: also dvc.lock, DVC's cache and the features: results that are there are restored, others computed.
        drawn: another clone whose sample is copied rather than drawn again.
        sections: changes of params.yaml beyond SMALL, by section.
    """
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=project_root, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        is_result = name.startswith("metrics/") or (name.endswith("dvc.lock") and not with_lock)
        if (project_root / name).is_file() and not is_result:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(project_root / name, root / name)
    for kept in (".dvc/cache/files", "features"):
        if with_lock and (project_root / kept).is_dir():
            shutil.copytree(project_root / kept, root / kept, dirs_exist_ok=True)
    if drawn is not None:
        shutil.copy(drawn / "data/dvc.lock", root / "data/dvc.lock")
        for folder in ("data/sample", "models/backbones/sample"):
            shutil.copytree(drawn / folder, root / folder)
    params = yaml.safe_load((root / "params.yaml").read_text())
    for section, changes in (*SMALL.items(), *sections.items()):
        params[section] |= changes
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    project = Project(root)
    project.run("git", "init", "-q", "-b", "main")
    project.run("git", "config", "user.name", "Test")
    project.run("git", "config", "user.email", "test@example.org")
    project.commit("start")
    return project


@dataclass
class BuiltPipeline:
    """A clone after its first `dvc repro`, committed, without an MLflow store: nobody changes it."""

    root: Path
    printed: str  # by that command

    def copy(self, root: Path) -> Project:
        """Return a copy that may be changed, with an MLflow store of its own, which is empty."""
        cache = self.root / ".dvc/cache/files"  # DVC replaces files in it, and never writes into one
        shutil.copytree(cache, root / ".dvc/cache/files", copy_function=os.link)

        def ignore(folder: str, names: list[str]) -> list[str]:
            return [name for name in names if Path(folder, name) in (cache, self.root / ".dvc/tmp/site")]

        shutil.copytree(self.root, root, symlinks=True, dirs_exist_ok=True, ignore=ignore)
        project = Project(root)
        project.run("git", "status", "--short")  # renews what Git's index knows of the files
        project.forget_runs()
        return project


def built_pipeline(project_root: Path, shared: Path) -> BuiltPipeline:
    """Return the pipeline in a folder that all processes of a test run share; the first that comes runs it."""
    with FileLock(shared / "pipeline.lock"):
        folder, log = shared / "pipeline", shared / "pipeline.log"
        if not log.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            project = clone(project_root, folder)
            printed = project.run("dvc", "repro")
            project.commit("results")
            shutil.rmtree(folder / "mlartifacts")  # they, and the store, name this folder
            (folder / "mlflow.db").unlink()
            log.write_text(printed)
        return BuiltPipeline(folder, log.read_text())
