"""How a command is added to a command line: its help is the docstring of the function that runs it."""

import argparse
from pathlib import Path
from typing import Any

from mirip.files import is_url


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


def a_location(text: str) -> Path | str:
    """Read a path, or the URL of an object store as the text that it is."""
    return text if is_url(text) else a_path(text)


def a_listing(text: str) -> Path:
    """Read the path of a listing, which is told from a folder by its name."""
    if not text.endswith(".parquet"):
        raise argparse.ArgumentTypeError(f"{text!r} does not end with .parquet")
    return Path(text)
