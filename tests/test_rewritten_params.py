"""params.yaml as `dvc exp run -S` rewrites it: however often that happens, no other value and no remark changes."""

import json
import re
import shutil
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin

import pytest
from pipeline_clone import Project

from mirip.files import flatten, looked_up, read_yaml
from mirip.params import Params, load_params

TYPES = {
    f"{section}.{name}": field.annotation
    for section, its in Params.model_fields.items()
    if section != "recipes"
    for name, field in its.annotation.model_fields.items()
}
LISTS = [key for key, annotation in TYPES.items() if get_origin(annotation) is tuple]
NULLS = [key for key, annotation in TYPES.items() if NoneType in get_args(annotation)]
KEYS = [*LISTS, *NULLS]


def remarks(text: str) -> list[tuple[str, str, str]]:
    """Return each remark, in order, with the key beside or above which it stands."""
    found: list[tuple[str, str, str]] = []
    above: list[str] = []
    path: list[str] = []
    for line in text.splitlines():
        _, mark, remark = line.partition("#")
        if key := re.match(r"( *)([\w-]+):(?: |$)", line):
            path = [*path[: len(key[1]) // 2], key[2]]
            found += [("above", ".".join(path), earlier) for earlier in above]
            found += [("beside", ".".join(path), remark)] if mark else []
            above = []
        elif mark:
            above.append(remark)
    return found + [("above", "the end", earlier) for earlier in above]


class Rewritten:
    """A copy of the project's params.yaml; each rewrite is held against what was there before and what was set."""

    def __init__(self, project_root: Path, folder: Path) -> None:
        self.path = Path(shutil.copy(project_root / "params.yaml", folder))
        self._values = flatten(read_yaml(self.path))
        self._remarks = remarks(self.text)
        self._seen = {repr(self._values): self._lines()}

    @property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    def _lines(self) -> list[str]:
        return [line for line in self.text.splitlines() if line]

    def apply(self, change: str) -> None:
        """Change the file as `dvc exp run -S` does."""
        from dvc.utils.hydra import apply_overrides

        apply_overrides(self.path, [change])
        assert remarks(self.text) == self._remarks

    def set(self, key: str, value: Any) -> None:
        """Set a value; the same values must look the same, whatever was there in between."""
        self.apply(f"{key}={json.dumps(value)}")
        self._values[key] = value
        if (state := repr(self._values)) in self._seen:
            assert self._lines() == self._seen[state]
        else:
            assert flatten(read_yaml(self.path)) == self._values
            self._seen[state] = self._lines()


@pytest.fixture
def rewritten(project_root: Path, tmp_path: Path) -> Rewritten:
    return Rewritten(project_root, tmp_path)


def values_of(key: str, path: Path) -> list[Any]:
    """Return the key's own value and others: an empty list, null and, where it takes lists, a longer one."""
    own = looked_up(read_yaml(path), key)
    return [own, *(value for value in ([], None, ["x", "y", "z"], "x") if value != own)][: 4 if key in LISTS else 3]


def each_after_each(values: list[Any]) -> list[Any]:
    """Return the values in an order in which each comes right after each, and after itself; the first ends it too."""
    tour = []
    for place, value in enumerate(values):
        tour.append(value)
        for later in values[place + 1 :]:
            tour += [value, later]
    return [*tour, values[0]]


def test_a_rewrite_that_sets_what_is_there_changes_no_byte(rewritten: Rewritten) -> None:
    before = rewritten.path.read_bytes()
    rewritten.set("train.seed", 42)
    assert rewritten.path.read_bytes() == before


@pytest.mark.parametrize("key", KEYS)
def test_a_list_or_null_becomes_another_and_back(key: str, rewritten: Rewritten) -> None:
    for value in each_after_each(values_of(key, rewritten.path)):
        rewritten.set(key, value)


@pytest.mark.parametrize("key", KEYS)
def test_two_of_them_are_set_in_either_order(key: str, rewritten: Rewritten) -> None:
    coming = {name: values_of(name, rewritten.path) for name in KEYS}
    for other in KEYS[KEYS.index(key) + 1 :]:
        for name in (key, other):
            coming[name] = [*coming[name][1:], coming[name][0]]
            rewritten.set(name, coming[name][0])


def test_a_recipes_notice_is_removed_and_another_one_added(rewritten: Rewritten) -> None:
    for change in ("~report.notices.sample", "train.seed=1", "++report.notices.mine=Mine.", "train.seed=2"):
        rewritten.apply(change)
    assert load_params(rewritten.path).report.notices == {"mine": "Mine."}


@pytest.mark.integration
@pytest.mark.slow
def test_an_experiment_sets_one_list_and_the_next_empties_another(project_root: Path, tmp_path: Path) -> None:
    project = Project(tmp_path)
    shutil.copy(project_root / "params.yaml", tmp_path)
    (tmp_path / "dvc.yaml").write_text("stages:\n  show:\n    cmd: cat params.yaml\n    params: [data]\n")
    for command in (
        "git init -q",
        "git config user.name Test",
        "git config user.email test@example.org",
        "dvc init -q",
    ):
        project.run(*command.split())
    project.commit("start")
    project.run("dvc", "exp", "run", "-S", "data.group=[student]")
    project.run("dvc", "exp", "run", "-S", "data.context=[]")
    data = load_params(tmp_path / "params.yaml").data
    assert (data.group, data.context) == (("student",), ())
