"""`mirip pr-report | check-lock`: what a pull request is checked by. Both need a Git clone and nothing else."""

import argparse
from pathlib import Path
from typing import Any

from mirip.cli.command import add_command
from mirip.errors import LockError


def add_commands(commands: Any) -> None:
    """Add them to the command line."""
    command = add_command(commands, "pr-report", pr_report)
    command.add_argument("base", metavar="BASE", help="branch, tag or commit that the work is to be merged into")
    command.add_argument("--output", type=Path, metavar="FILE", help="write it there; default: print it")

    add_command(commands, "check-lock", check_lock)


def pr_report(options: argparse.Namespace) -> None:
    """Say in one Markdown comment what the work since the merge base with BASE changed in params and results.

    The working tree is compared, which on a clean checkout is HEAD; the comment says where it holds more. Everything
    is read from Git: neither data nor models, images or a tracking server are needed.
    """
    from mirip.experiments.pull_request.comment import pull_request_report
    from mirip.files import write_text

    text = pull_request_report(options.base)
    if options.output is None:
        print(text, end="")
    else:
        write_text(options.output, text)


def check_lock(options: argparse.Namespace) -> None:
    """Check that dvc.lock agrees with code, params and the results in Git; data that was not pulled may be absent."""
    from mirip.experiments.lock_check import check_lock

    stale = check_lock()
    for stage in stale:
        print(stage)
    if stale:
        stages = "1 stage" if len(stale) == 1 else f"{len(stale)} stages"
        raise LockError(
            f"dvc.lock is out of date in {stages}",
            "run `dvc repro`, then commit dvc.lock and metrics/ (before that: `dvc checkout` after a `git switch`, and "
            "whatever a line above says to do)",
        )
    print("dvc.lock agrees with code, params and results")
