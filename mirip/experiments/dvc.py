"""DVC commands, run in the working directory."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from mirip.errors import DataError


def dvc_json(*arguments: str) -> Any:
    """Return what a DVC command says with --json.

    Raises:
        DataError: it fails, as where there is no DVC project.
    """
    return json.loads(run_dvc(*arguments, flags=("--json",)))


def run_dvc(*arguments: str, flags: Sequence[str] = ()) -> str:
    """Run a DVC command to its end and return what it printed on stdout.

    Args:
        arguments: the command, as an error names it.
        flags: what follows it; an error does not name them.

    Raises:
        DataError: it fails, as where there is no DVC project.
    """
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments, *flags],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "DVC_NO_ANALYTICS": "1"},
        check=False,
    )
    if done.returncode:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        errors = [line.removeprefix("ERROR: ") for line in said if line.startswith("ERROR: ")]
        reason = [*errors, *said, f"exit code {done.returncode}"][0]
        raise DataError(f"`dvc {' '.join(arguments)}` failed: {reason}")
    return done.stdout
