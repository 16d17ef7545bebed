"""docs/cli.md, made from the parser: `python -m mirip.cli.reference` prints it."""

import argparse
from collections.abc import Iterator

from mirip.cli.main import build_parser

_TITLE = """# The command line

This page is made from the parser by `make docs`. Every command exits with 0 where it succeeds, with 1 and one line on
stderr where something is wrong that you can mend, with 2 where the options do not fit, and with 130 after Ctrl-C.
"""


def reference() -> str:
    """Return docs/cli.md: a section a command, with its purpose and its options."""
    return "\n".join([_TITLE, *(_section(name, parser) for name, parser in _commands("mirip", build_parser()))])


def _commands(name: str, parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield the commands that do something, such as "mirip cache gc", in the order of --help."""
    families = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not families:
        yield name, parser
    for family in families:
        for inner, subparser in family.choices.items():
            yield from _commands(f"{name} {inner}", subparser)


def _section(name: str, parser: argparse.ArgumentParser) -> str:
    # The help of argparse is laid out for the width of the terminal; the rows of a table are not.
    rows = [row for action in parser._actions if (row := _row(action))]
    purpose = " ".join((parser.description or "").split())
    table = ["| option | meaning |", "| --- | --- |", *rows] if rows else ["It has no options."]
    return "\n".join([f"## {name}", "", purpose, "", *table, ""])


def _row(action: argparse.Action) -> str | None:
    if isinstance(action, argparse._HelpAction):
        return None
    value = "" if action.nargs == 0 else str(action.metavar or ("|".join(action.choices) if action.choices else ""))
    value = value or ("" if action.nargs == 0 else action.dest.upper())
    more = " ..." if action.nargs in ("+", "*") else ""
    option = ", ".join(f"{flag} {value}{more}".rstrip() for flag in action.option_strings) or f"{value}{more}"
    meaning = (action.help or "").replace("%%", "%").replace("|", "\\|")
    required = " (required)" if action.required and action.option_strings else ""
    return f"| `{option.replace('|', chr(92) + '|')}` | {meaning}{required} |"


if __name__ == "__main__":
    print(reference(), end="")
