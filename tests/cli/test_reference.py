"""docs/cli.md is what the parser says."""

from pathlib import Path

from mirip.cli import main
from mirip.cli.reference import reference


def test_the_page_is_made_from_the_parser(project_root: Path) -> None:
    written = (project_root / "docs" / "cli.md").read_text(encoding="utf-8")
    assert written == reference(), "run `make docs`"


def test_every_family_of_commands_is_on_the_command_line() -> None:
    files = {path.stem for path in Path(main.__file__).parent.glob("*.py") if "def add_commands(" in path.read_text()}
    within_another = {"exchange"}  # the commands of `mirip cache` that exchange features
    assert set(main.FAMILIES) == files - within_another


def test_every_command_says_what_it_does_and_every_option_what_it_means() -> None:
    help_texts = main.build_parser().format_help()
    assert "==SUPPRESS==" not in help_texts
    for line in reference().splitlines():
        if line.startswith("| `"):
            assert line.split("|")[-2].strip(), f"an option without help: {line}"
