"""docs/feature_cache.md against the code: its commands run, its fields and choices are those of a recipe."""

import re
from pathlib import Path

import pytest

from mirip.cli.main import main
from mirip.params import Recipe


@pytest.fixture(scope="module")
def page(project_root: Path) -> str:
    return (project_root / "docs" / "feature_cache.md").read_text(encoding="utf-8")


def commands(page: str) -> list[list[str]]:
    blocks = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    return [line.split("#")[0].split() for block in blocks for line in block.splitlines()]


def test_every_command_is_one_that_the_command_line_knows(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(commands(page)) == 7
    for program, *arguments in commands(page):
        assert program == "mirip"
        with pytest.raises(SystemExit) as stopped:
            main([*arguments, "--help"])
        assert stopped.value.code == 0
        shown = capsys.readouterr().out
        assert all(option in shown for option in arguments if option.startswith("--"))


def test_the_table_lists_the_fields_of_a_recipe(page: str) -> None:
    table = page.split("## Recipes")[1].split("\n## ")[0]
    fields = set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))
    assert fields | {"revision"} == set(Recipe.model_fields)


@pytest.mark.parametrize(
    ("field", "choices"), [("fit", "pad squash native"), ("pooling", "cls mean cls+mean cls_last_4")]
)
def test_the_choices_are_valid(page: str, field: str, choices: str) -> None:
    row = next(line for line in page.splitlines() if line.startswith(f"| `{field}`"))
    for choice in choices.split():
        assert f"`{choice}`" in row
        Recipe.model_validate({field: choice})
