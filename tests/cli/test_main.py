"""The command line: help at once, errors in one line."""

import subprocess
import sys

import pytest
from cpu_time import seconds_of_children

from mirip.cli.main import main
from mirip.cli.scoring import which_is_better
from mirip.metrics.places import Pair, is_too_close


def test_help_answers_at_once() -> None:
    before_s = seconds_of_children()
    shown = subprocess.run([sys.executable, "-m", "mirip", "--help"], capture_output=True, text=True, check=True)
    assert seconds_of_children() - before_s < 1.5
    for command in ("train", "evaluate", "score", "compare", "rank", "summary", "cache"):
        assert command in shown.stdout


def test_help_imports_nothing_large() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "mirip", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    imported = {line.split("|")[-1].strip() for line in shown.stderr.splitlines()}
    assert "mirip.cli.exchange" in imported
    assert not imported & {"pydantic", "yaml", "filelock", "asyncio", "tqdm", "numpy", "torch", "importlib.metadata"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["score", "x.jpg", "--checkpoint", "no.pt"], "no.pt is not found"),
        (["summary", "--params", "no.yaml"], "no.yaml is not found"),
        (
            ["train", "--data", ".", "--metadata", "m", "--output", "o", "--epochs", "0"],
            "error: --epochs: Input should",
        ),
        (["train", "--data", ".", "--metadata", "m", "--output", "o", "--recipe", "no"], "'no', which is not among"),
    ],
)
def test_a_users_error_is_one_line_and_exit_code_1(arguments, message, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("probability", "said"),
    [
        (0.75, "a.jpg is the better one with probability 0.75"),
        (0.25, "b.jpg is the better one with probability 0.75"),
        (0.60, "a.jpg is the better one with probability 0.60"),
        (
            0.58,
            "too close to call: a.jpg is the better one with probability 0.58, below 0.60 (evaluate.min_confidence)",
        ),
        (
            0.42,
            "too close to call: b.jpg is the better one with probability 0.58, below 0.60 (evaluate.min_confidence)",
        ),
    ],
)
def test_a_pair_below_the_least_confidence_is_too_close_to_call(probability, said):
    better = None if is_too_close(probability, 0.60) else "called"
    assert which_is_better(Pair("a.jpg", "b.jpg", probability, better), 0.60) == said


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (PermissionError(13, "Permission denied", "run/x.json"), 1, "error: Permission denied: run/x.json\n"),
        (OSError("nothing is known"), 1, "error: nothing is known: no file named\n"),
    ],
)
def test_what_a_command_cannot_go_on_with_is_one_line(error, code, said, monkeypatch, capsys) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("mirip.params.load_params", fail)
    assert main(["summary"]) == code
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("option", ["--output", "--data", "--metadata"])
def test_an_empty_path_is_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    given = {"--output": "o", "--data": "d", "--metadata": "m", option: ""}
    with pytest.raises(SystemExit):
        main(["train", *(part for pair in given.items() for part in pair)])
    assert "the path is empty" in capsys.readouterr().err


def test_an_output_that_nobody_reads_any_more_ends_without_a_word() -> None:
    listing = f"{sys.executable} -m mirip --help | head -c 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", listing], capture_output=True, text=True, check=False)
    assert done.stderr == ""
