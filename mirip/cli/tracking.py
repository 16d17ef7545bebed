"""The commands of the tracker."""

import argparse
import sys
from pathlib import Path
from typing import Any

from mirip.cli.command import add_command
from mirip.errors import ParamsError, TrackingError
from mirip.workspace import Workspace

CHECKPOINT = Workspace().model


def add_commands(commands: Any) -> None:
    """Add `mirip track`, `mirip ui`, `mirip promote` and `mirip export`."""
    command = add_command(commands, "track", track)
    command.add_argument(
        "--backfill",
        action="store_true",
        help="publish all that is still known: commits, experiments, the workspace, what was kept without a server",
    )

    command = add_command(commands, "ui", ui)
    command.add_argument("--port", type=int, default=5000, help="default 5000")
    command.add_argument("--params", type=Path, default=Path("params.yaml"), help="default: params.yaml")

    command = add_command(commands, "promote", promote)
    command.add_argument("run", metavar="RUN", help="id of a published run, the beginning of it, or the run's name")
    command.add_argument("--force", action="store_true", help="even if it is not shown to be better")

    command = add_command(commands, "export", export)
    command.add_argument("folder", type=Path, metavar="FOLDER", help="new; `mlflow models serve -m FOLDER` serves it")
    command.add_argument("--checkpoint", type=Path, default=CHECKPOINT, help=f"default {CHECKPOINT}")
    command.add_argument("--backbone", type=Path, help="folder of its backbone, if it is not where the checkpoint says")
    command.add_argument(
        "--paths",
        action="store_true",
        help="take paths too: whoever asks a server of it learns which files it can read",
    )


def track(options: argparse.Namespace) -> None:
    """Publish the result of this folder to MLflow, once per distinct result."""
    from mirip.tracking.backfill import Failed, LeftOut, backfill, publish_workspace

    if not options.backfill:
        print(f"track: {publish_workspace()}")
        return
    failed = []
    for found in backfill():
        if isinstance(found, LeftOut):
            print(f"track: left out {found.source}: {found.reason}", file=sys.stderr)
        elif isinstance(found, Failed):
            failed.append(str(found.source))
            print(f"track: failed {found.source}: {found.reason}", file=sys.stderr)
        else:
            print(f"track: {found}")
    if failed:
        count = "1 result was" if len(failed) == 1 else f"{len(failed)} results were"
        raise TrackingError(f"{count} not published ({', '.join(failed)})", "mend the cause, then run this again")


def ui(options: argparse.Namespace) -> None:
    """Open the MLflow UI, and print the address at which it compares runs by val_pairwise_accuracy."""
    from mirip.params import load_params
    from mirip.tracking.experiment import open_ui

    if not 0 < options.port < 65536:
        raise ParamsError(f"{options.port} is not a port", "give a number from 1 to 65535")
    open_ui(load_params(options.params).track.experiment, options.port)


def promote(options: argparse.Namespace) -> None:
    """Make a published run's model the champion of the model registry, if it is shown to be better than the last."""
    from mirip.tracking.promotion import promote

    print(promote(options.run, force=options.force))


def export(options: argparse.Namespace) -> None:
    """Write a trained model as an MLflow model that takes the bytes of image files."""
    from mirip.tracking.image_model import export_image_model

    words = export_image_model(options.folder, options.checkpoint, options.backbone, paths=options.paths)
    print(f"{options.folder}: {words}")
