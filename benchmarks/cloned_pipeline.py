"""A clone of the repository's last commit in which DVC runs, and how long each of its stages takes."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]


class ClonedPipeline:
    """A clone in a folder that does not exist yet; it has the code of the last commit, and no results.

    Args:
        root: where it goes.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(root)], check=True)
        (root / "dvc.lock").unlink(missing_ok=True)
        for name, value in (("user.name", "Mirip"), ("user.email", "mirip@example.org")):
            self.run("git", "config", name, value)

    @property
    def environment(self) -> dict[str, str]:
        """The clone's own code, wherever mirip is installed, and its own folder for what Mirip keeps."""
        return os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(self.root),
            "DVC_ROOT": str(self.root),
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(self.root / ".dvc" / "tmp" / "site"),
        }

    def set_params(self, changes: Mapping[str, Mapping[str, Any]]) -> None:
        """Change sections of params.yaml."""
        params = yaml.safe_load((self.root / "params.yaml").read_text(encoding="utf-8"))
        for section, values in changes.items():
            params[section] |= values
        (self.root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")

    def run(self, *command: str) -> None:
        """Run a command in the clone; one that fails ends the benchmark with what it printed last."""
        done = subprocess.run(command, cwd=self.root, env=self.environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}\n{(done.stdout + done.stderr)[-4000:]}")

    def commit(self, message: str) -> None:
        """Commit all that Git does not ignore."""
        self.run("git", "add", "-A")
        self.run("git", "commit", "--quiet", "-m", message)

    def run_dvc(self, *arguments: str) -> tuple[float, dict[str, float]]:
        """Run a command of DVC.

        Returns:
            Its seconds, and those from the start of each stage to the start of the next, or to the command's end.
        """
        start = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "dvc", *arguments],
            cwd=self.root,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        begun: list[tuple[str, float]] = []
        printed: list[str] = []
        for line in process.stdout or ():
            printed.append(line)
            if line.startswith("Running stage"):
                begun.append((line.split("'")[1].rpartition(":")[2], time.monotonic()))
                print(begun[-1][0], file=sys.stderr, flush=True)
        if process.wait():
            raise SystemExit("".join(printed)[-4000:])
        end = time.monotonic()
        ends = [*(moment for _, moment in begun[1:]), end][: len(begun)]  # without a stage there is none
        return end - start, {name: until - at for (name, at), until in zip(begun, ends, strict=True)}
