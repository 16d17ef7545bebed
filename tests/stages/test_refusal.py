"""Who reads features refuses those of another recipe under the right name, in one line that names the field."""

import subprocess

import pytest
from warm_python import commands_folder

from mirip.cli.main import main as mirip
from mirip.data.split import read_splits
from mirip.workspace import Workspace
from stages import audit, evaluate, run, train

WORKSPACE = Workspace()
READERS = {"train": train, "evaluate": evaluate, "audit": audit}


def refusal(stage, trained_project) -> str:
    """Run a stage, which must write nothing; return its message."""
    before = (trained_project.outputs(), WORKSPACE.model.read_bytes())
    with pytest.raises(SystemExit) as stop:
        run(stage.main)
    assert (trained_project.outputs(), WORKSPACE.model.read_bytes()) == before
    assert "\n" not in str(stop.value)
    return str(stop.value)


@pytest.mark.parametrize("name", READERS)
def test_features_of_another_recipe(trained_project, name) -> None:
    trained_project.write_features(read_splits(WORKSPACE.splits), fit="squash", normalize="l2")
    assert refusal(READERS[name], trained_project) == (
        "error: features/tiny.h5 was built with fit squash, params say pad (also normalize: cache l2, params none): "
        "run `dvc repro extract`"
    )


def test_features_that_the_model_was_not_trained_on(trained_project) -> None:
    """Of an unpinned backbone that is not found, params.yaml does not tell which it is; the model does."""
    trained_project.write_features(read_splits(WORKSPACE.splits), weights_sha256="1" * 64)
    assert refusal(evaluate, trained_project) == (
        f"error: models/best_model.pt was trained on features with weights_sha256 {'0' * 64}, "
        f"features/tiny.h5 has {'1' * 64}: run `dvc repro train`"
    )


def test_the_command_line_refuses_them_too(trained_project, capsys) -> None:
    trained_project.write_features(read_splits(WORKSPACE.splits), pooling="mean")
    assert mirip(["cache", "export", "out.parquet"]) == 1
    said = capsys.readouterr()
    assert said.err == (
        "error: features/tiny.h5 was built with pooling mean, params say cls: run `dvc repro extract`\n"
    )
    assert said.out == ""


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_the_process_exits_with_1_and_one_line(trained_project, project_root, name) -> None:
    trained_project.write_features(read_splits(WORKSPACE.splits), interpolation="bilinear")
    code = f"import sys; sys.path.insert(0, {str(project_root)!r}); import runpy; "
    command = [str(commands_folder() / "python"), "-c", f"{code}runpy.run_module('stages.{name}', run_name='__main__')"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1] == (
        "error: features/tiny.h5 was built with interpolation bilinear, params say bicubic: run `dvc repro extract`"
    )
    assert "Traceback" not in done.stderr
