"""The command line: help at once, errors in one line."""

import subprocess
import sys
import time

import pytest

from mirip.cli import main


def test_help_answers_at_once() -> None:
    start = time.monotonic()
    shown = subprocess.run([sys.executable, "-m", "mirip.cli", "--help"], capture_output=True, text=True, check=True)
    assert time.monotonic() - start < 1.5
    for command in ("train", "evaluate", "score", "compare", "rank", "summary", "cache"):
        assert command in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["score", "x.jpg", "--checkpoint", "no.pt"], "no.pt is not here"),
        (["summary", "--params", "no.yaml"], "no.yaml is not here"),
        (["train", "--data", ".", "--metadata", "m", "--output", "o", "--epochs", "0"], "train.max_epochs"),
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
