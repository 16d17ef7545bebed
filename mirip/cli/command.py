"""How a command is added to a command line: its help is the docstring of the function that runs it."""

import argparse
from pathlib import Path
from typing import Any


def add_command(commands: Any, name: str, function: Any) -> argparse.ArgumentParser:
    """Add the command `name`, which calls `function` with its options, and return its parser."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=function.__doc__, description=function.__doc__)
    parser.set_defaults(command=function)
    return parser


def add_device_flag(parser: argparse.ArgumentParser) -> None:
    """Add --device."""
    parser.add_argument(
        "--device", choices=["auto", "cpu", "cuda"], help="where the backbone computes; auto is cuda where there is one"
    )


def params_here() -> Path | None:
    """Return the params.yaml of the working directory, if there is one."""
    return path if (path := Path("params.yaml")).is_file() else None


def a_path(text: str) -> Path:
    """Read a path; an empty one, as of a variable that is not set, would be the working directory."""
    if not text:
        raise argparse.ArgumentTypeError("the path is empty")
    return Path(text)
