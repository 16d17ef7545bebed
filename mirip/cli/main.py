"""The command line, `mirip COMMAND`: `mirip --help` lists the commands.

To add a command, write a function in the file of its family: its docstring is its help. Then add it in that file's
`add_commands`, and run `make docs`, which writes docs/cli.md. Heavy imports are inside the functions, so that --help
answers at once; here every import is, so that Ctrl-C finds this module loaded.
"""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mirip.interruption import EXIT_CODE, ended, interrupted, interruptible, show_any_name

if TYPE_CHECKING:
    import argparse

FAMILIES = ("images", "scoring", "serve", "experiments", "cache", "pull_request", "tracking")

_INTERRUPTED = "interrupted"

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # before torch is loaded, as in stages/__init__.py
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # it would look for some in every package there is


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; an error that a user can mend is one line on stderr.

    Args:
        arguments: the command with its options; None takes those of this process, which then ends with the command.
    """
    if arguments is None:
        interruptible(_INTERRUPTED)
        show_any_name()
    try:
        try:
            options = build_parser().parse_args(arguments)
            return options.command(options) or 0
        finally:
            if arguments is None:
                ended(_INTERRUPTED)
    except (Exception, KeyboardInterrupt) as error:
        return _exit_code(error)


def build_parser() -> "argparse.ArgumentParser":
    """Return the parser of all commands."""
    import argparse
    from importlib import import_module

    class Version(argparse.Action):
        """Prints the version and ends; to look it up takes as long as all else here."""

        def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
            from importlib.metadata import version

            print(f"mirip {version('mirip')}")
            parser.exit()

    parser = argparse.ArgumentParser(prog="mirip", description="Rank the quality of artworks, learned from tiers.")
    parser.add_argument("--version", action=Version, nargs=0, help="print the version")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for family in FAMILIES:
        import_module(f"mirip.cli.{family}").add_commands(commands)
    return parser


def _exit_code(error: BaseException) -> int:
    """Say in one line why a command ended and return its exit code; raise the error again where it is a bug."""
    from mirip.errors import MiripError

    if interrupted(error):
        print(_INTERRUPTED, file=sys.stderr)
        return EXIT_CODE
    if isinstance(error, BrokenPipeError):  # who reads the output has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    if isinstance(error, MiripError):
        print(f"error: {error}", file=sys.stderr)
    elif isinstance(error, OSError):
        print(f"error: {error.strerror or error}: {error.filename or 'no file named'}", file=sys.stderr)
    else:
        raise error
    return 1


if __name__ == "__main__":
    sys.exit(main())
