"""The commands of the tracker."""

import argparse
import sys
from typing import Any

from mirip.subcommands import add_command


def add_tracking_commands(commands: Any) -> None:
    """Add `mirip track`."""
    command = add_command(commands, "track", track)
    command.add_argument(
        "--backfill",
        action="store_true",
        help="publish every result that Git, dvc.lock and DVC's cache still know: commits, experiments, the workspace",
    )


def track(options: argparse.Namespace) -> None:
    """Publish the result that stands here to MLflow, once per distinct result."""
    from mirip.tracking.backfill import LeftOut, backfill, publish_workspace

    if not options.backfill:
        print(f"track: {publish_workspace()}")
        return
    for found in backfill():
        if isinstance(found, LeftOut):
            print(f"track: left out {found.revision}: {found.reason}", file=sys.stderr)
        else:
            print(f"track: {found}")
