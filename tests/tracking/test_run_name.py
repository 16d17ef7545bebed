"""What a run is called: what differs from the committed params first, since a list shows some twenty characters."""

import subprocess
from pathlib import Path

import pytest

from mirip.params import override_params
from mirip.tracking.result import committed_params, default_name

PARAMS = Path(__file__).parents[2] / "params.yaml"
USUAL = override_params(PARAMS, {})


def test_what_differs_comes_first() -> None:
    params = override_params(PARAMS, {"train.learning_rate": 1e-4, "train.dropout": 0.5})
    assert default_name(params, "a1b2c3d4", USUAL) in ("lr=0.0001 dropout=0.5 a1b2c3", "dropout=0.5 lr=0.0001 a1b2c3")


def test_another_recipe_is_told_by_its_name_alone() -> None:
    params = override_params(PARAMS, {"extract.recipe": "dinov2-large"})
    assert default_name(params, "a1b2c3d4", USUAL) == "recipe=dinov2-large a1b2c3"


@pytest.mark.parametrize("usual", [USUAL, None])
def test_where_nothing_differs_the_main_params_are_told(usual: object) -> None:
    assert default_name(USUAL, "a1b2c3d4", usual) == "sample squared lr=0.0003 seed=42 a1b2c3"


def test_what_touches_no_result_is_not_told() -> None:
    params = override_params(PARAMS, {"data.metadata": "/elsewhere.csv", "extract.workers": 3})
    assert default_name(params, "a1b2c3d4", USUAL).startswith("sample squared")


def test_the_committed_params_are_those_of_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert committed_params("HEAD") is None
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    Path("params.yaml").write_text(PARAMS.read_text().replace("dropout: 0.1", "dropout: 0.7"))
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "x"]):
        subprocess.run([*git, *command], check=True)
    Path("params.yaml").write_text("none")
    found = committed_params("HEAD")
    assert found is not None
    assert found.train.dropout == 0.7
    assert committed_params("HEAD^") is None
