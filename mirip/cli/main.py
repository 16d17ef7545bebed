"""The command line, `mirip COMMAND`: `mirip --help` lists the commands.

To add a command, write a function in the file of its family: its docstring is its help. Then add it in that file's
`add_commands`, and run `make docs`, which writes docs/cli.md. Heavy imports are inside the functions, so that --help
answers at once.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from mirip.cli import cache, experiments, images, pull_request, tracking
from mirip.errors import MiripError

FAMILIES = (images, experiments, cache, pull_request, tracking)

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # before torch is loaded, as in stages/__init__.py


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; an error that a user can mend is one line on stderr."""
    options = build_parser().parse_args(arguments)
    try:
        return options.command(options) or 0
    except MiripError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"error: {error.strerror or error}: {error.filename or 'no file named'}", file=sys.stderr)
        return 1


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(prog="mirip", description="Rank the quality of artworks, learned from tiers.")
    parser.add_argument("--version", action="version", version=f"mirip {version('mirip')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for family in FAMILIES:
        family.add_commands(commands)
    return parser
