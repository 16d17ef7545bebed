"""A clone of the working tree with small params, in which real DVC runs."""

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

SMALL = {
    "sample": {"n_images": 120, "n_artists": 90},
    "split": {"max_tier_drift": 20.0},
    "evaluate": {"n_bootstrap": 200},
    "audit": {"n_bootstrap": 200},
    "benchmark": {"pair_runs": 3, "batch_size": 2, "train_rows": 200, "train_epochs": 2},
    "train": {"max_epochs": 10},
}


@dataclass
class Project:
    """A repository in which commands can be run."""

    root: Path

    def run(self, *command: str, check: bool = True) -> str:
        """Run a command and return what it printed."""
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        with tempfile.TemporaryFile() as log:  # no pipe: a worker of DVC that outlives its command would hold its end
            done = subprocess.run(command, cwd=self.root, env=environment, stdout=log, stderr=subprocess.STDOUT)
            log.seek(0)
            printed = log.read().decode()
        assert done.returncode == 0 or not check, f"{' '.join(command)}\n{printed}"
        return printed

    def stages_run(self, output: str) -> list[str]:
        """Names of the stages whose command ran, in order."""
        return re.findall(r"Running stage '(?:data/dvc\.yaml:)?(\w+)'", output)

    def json(self, name: str) -> dict:
        """Content of metrics/<name>.json."""
        return json.loads((self.root / "metrics" / f"{name}.json").read_text())

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace text in a file; it must be there."""
        text = (self.root / path).read_text()
        assert old in text
        (self.root / path).write_text(text.replace(old, new, 1))


def clone(project_root: Path, root: Path, **sections: dict[str, Any]) -> Project:
    """Copy what Git tracks, or would track, into a new repository with small params and no results.

    Args:
        project_root: what to copy.
        root: the new repository.
        sections: changes of params.yaml beyond SMALL, by section.
    """
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=project_root, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        if (project_root / name).is_file() and not name.endswith("dvc.lock") and not name.startswith("metrics/"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(project_root / name, root / name)
    params = yaml.safe_load((root / "params.yaml").read_text())
    for section, changes in (*SMALL.items(), *sections.items()):
        params[section] |= changes
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    project = Project(root)
    project.run("git", "init", "-q", "-b", "main")
    project.run("git", "config", "user.name", "Test")
    project.run("git", "config", "user.email", "test@example.org")
    project.run("git", "add", "-A")
    project.run("git", "commit", "-q", "-m", "start")
    return project
