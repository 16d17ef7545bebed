"""The documents against the code: their examples run and print what they say, their commands and params exist."""

import contextlib
import inspect
import io
import re
import shlex
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
from made_checkpoint import write_checkpoint
from PIL import Image

import mirip
import mirip.errors
from mirip.cli.main import build_parser
from mirip.features.cache.feature_cache import FeatureCache
from mirip.metrics.comparison import compare_models
from mirip.params import Recipe, load_params

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "docs" / "api_reference.md"
README, KOREAN_README = ROOT / "README.md", ROOT / "README.ko.md"
PAGES = [README, KOREAN_README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
# tests/test_imported_features.py runs bring_your_own_features.md: its recipe and its file of vectors are of its own
# making. The code of the Korean README is that of README.
OWN_PAGES = [page for page in PAGES if page.name not in ("bring_your_own_features.md", KOREAN_README.name)]
PUBLIC = {name: getattr(mirip, name) for name in mirip.__all__} | {
    "FeatureCache": FeatureCache,
    "compare_models": compare_models,
}


class Example(NamedTuple):
    """A block of Python, the line where it begins, and what it prints; None where the page does not say."""

    line: int
    code: str
    printed: str | None


def examples(page: Path) -> list[Example]:
    """Return the Python blocks of a page; a block of text right behind one is what it prints."""
    text = page.read_text(encoding="utf-8")
    blocks = re.finditer(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```$)?", text, re.DOTALL | re.MULTILINE)
    return [Example(text[: block.start(1)].count("\n"), block[1], block[2]) for block in blocks]


def commands(page: Path, program: str) -> list[str]:
    """Return the command lines of a page's blocks of shell that call a program."""
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.replace("\\\n", "").splitlines()]
    return [line for line in lines if line.split()[:1] == [program]]


def anchors(page: Path) -> set[str]:
    """Return what a link may name behind "#": the headings, as GitHub spells them, and the anchors set by hand."""
    text = page.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    named = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    return named | set(re.findall(r'<a id="([\w-]+)">', text))


def code_blocks(page: Path) -> list[tuple[str, str]]:
    """Return the language and the content of each block of code; of shell without its comments."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [
        (language, re.sub(r"[ \t]*(?:^|(?<=\s))#.*$", "", content, flags=re.MULTILINE) if language == "sh" else content)
        for language, content in found
    ]


def prose(page: Path) -> str:
    """Return a page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def heading_levels(page: Path) -> list[int]:
    """Return the level of each heading."""
    return [len(marks) for marks in re.findall(r"^(#+) ", prose(page), re.MULTILINE)]


def link_targets(page: Path) -> list[str]:
    """Return where the links lead and where the images are."""
    return re.findall(r"\]\(([^)\s]+)\)", prose(page))


def table_rows(page: Path) -> list[tuple[int, list[str]]]:
    """Return of each row of a table the number of its bars and, in any order, the code in it."""
    return [
        (line.count("|"), sorted(re.findall(r"`([^`]+)`", line)))
        for line in prose(page).splitlines()
        if line.startswith("|")
    ]


def sections() -> dict[str, str]:
    """Return the reference's sections by heading."""
    parts = re.split(r"^## (\w+)\n", REFERENCE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.fixture
def trained_project(tmp_path: Path, dinov2: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that has what the examples need of `make repro`: a trained model and two images of the sample."""
    recipe = Recipe(backbone=str(dinov2), image_size=28, compute_dtype="float32")
    write_checkpoint(tmp_path / "models" / "best_model.pt", dim=32, recipe=recipe)
    images = tmp_path / "data" / "sample" / "images"
    images.mkdir(parents=True)
    Image.new("RGB", (60, 40), "navy").save(images / "0001.jpg")
    Image.linear_gradient("L").convert("RGB").save(images / "0002.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in OWN_PAGES if examples(page)], ids=lambda page: page.name)
def test_the_examples_of_a_page_run_in_order_and_print_what_it_says(page: Path, trained_project: Path) -> None:
    names: dict[str, object] = {}
    for example in examples(page):
        code = compile("\n" * example.line + example.code, page, "exec")  # a traceback then names the page's own line
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(code, names)
        if example.printed is not None:
            assert printed.getvalue() == example.printed, f"{page.name}, the example in line {example.line + 1}"


def test_the_reference_says_what_each_of_its_examples_prints() -> None:
    assert all(example.printed is not None for example in examples(REFERENCE))


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_has_a_section_and_is_used_in_an_example(name: str) -> None:
    assert name in sections(), f"docs/api_reference.md has no section `## {name}`"
    assert any(re.search(rf"\b{name}\b", example.code) for example in examples(REFERENCE))


@pytest.mark.parametrize("name", [name for name in PUBLIC if name not in ("TrainingConfig", "FeatureCache")])
def test_a_section_lists_every_argument_with_its_default(name: str) -> None:
    for argument in inspect.signature(PUBLIC[name]).parameters.values():
        row = re.search(rf"^\| `{argument.name}` \|.*\|([^|]*)\|[^|]*\|$", sections()[name], re.MULTILINE)
        assert row, f"{name}: `{argument.name}` is not in the table"
        default = "" if argument.default is argument.empty else str(argument.default)
        assert row[1].strip(' `"') == default, f"{name}: the default of `{argument.name}` is {default!r}"


def test_the_methods_that_a_section_lists_exist_with_these_arguments() -> None:
    listed = [
        (name, method, [argument.split("=")[0].strip() for argument in arguments.split(",")])
        for name in PUBLIC
        for method, arguments in re.findall(r"^- `(\w+)\((.*?)\)`", sections()[name], re.MULTILINE)
        if method != "len" and callable(getattr(PUBLIC[name], method))
    ]
    assert len(listed) > 10
    for name, method, arguments in listed:
        taken = [
            argument for argument in inspect.signature(getattr(PUBLIC[name], method)).parameters if argument != "self"
        ]
        if "..." in arguments:  # the others are in a table
            arguments += re.findall(r"^\| `(\w+)` \|", sections()[name].split(f"- `{method}(")[1], re.MULTILINE)
        assert [argument for argument in arguments if argument not in ("*", "...")] == taken, f"{name}.{method}"


def test_the_reference_lists_every_option_of_training_with_its_default() -> None:
    for name, field in mirip.TrainingConfig.model_fields.items():
        assert f"\n| `{name}` | `{field.default!r}` |" in sections()["TrainingConfig"]


def test_the_errors_that_the_reference_names_exist() -> None:
    named = set(re.findall(r"`(?:pydantic\.)?(\w+Error)`", REFERENCE.read_text(encoding="utf-8")))
    assert {name for name in named if not hasattr(mirip.errors, name)} == {"ValueError", "ValidationError"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_of_a_page_are_those_of_the_command_line(page: Path) -> None:
    for command in commands(page, "mirip"):
        arguments = shlex.split(command, comments=True)[1:]
        try:
            build_parser().parse_args(arguments)
        except SystemExit as stopped:
            if stopped.code:
                pytest.fail(f"{page.name}: `{command}` is not a command")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_runs_with_make_is_a_target(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"(?:^|`)(?:MIRIP_TEST_MATERIAL=\S+ )?make ([a-z-]+)", text, re.MULTILINE)
    assert set(named) <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if "://" in link:
            continue
        assert target.exists(), f"{page.name} links to {link}, which is not found"
        assert not anchor or anchor in anchors(target), f"{page.name} links to {link}, which is no heading there"


@pytest.mark.slow
@pytest.mark.parametrize("page", OWN_PAGES, ids=lambda page: page.name)
def test_the_values_that_a_page_sets_are_valid_params(page: Path, tmp_path: Path) -> None:
    from dvc.utils.hydra import apply_overrides

    for command in commands(page, "dvc"):
        words = shlex.split(command, comments=True)
        changes = [value for option, value in pairwise(words) if option == "-S"]
        # Several values of one param are a grid; each is set alone, here the first.
        changes = [value if "=[" in value else value.split(",")[0] for value in changes]
        if changes:
            params = Path(shutil.copy(ROOT / "params.yaml", tmp_path))
            apply_overrides(params, changes)
            load_params(params)


@pytest.mark.parametrize("part", [heading_levels, code_blocks, table_rows], ids=lambda part: part.__name__)
def test_the_korean_readme_has_the_parts_of_readme(part: Callable[[Path], list[object]]) -> None:
    assert part(README)
    assert part(KOREAN_README) == part(README)


def test_the_links_of_both_readmes_lead_to_the_same_places_and_first_to_each_other() -> None:
    english, korean = link_targets(README), link_targets(KOREAN_README)
    assert (english[0], korean[0]) == (KOREAN_README.name, README.name)
    assert korean[1:] == english[1:]
