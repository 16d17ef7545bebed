"""Progress: a bar on a terminal, a line now and then in a log."""

import os
import pty
import subprocess
import sys
import termios

from mirip import progress
from mirip.progress import Progress


def test_a_log_gets_plain_lines_with_rate_and_time_left(capsys, monkeypatch) -> None:
    monkeypatch.setattr(progress, "_LOG_INTERVAL_S", 0.0)
    with Progress("extract", 4, "image") as bar:
        bar.update(1)
        bar.update(1, "note")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("extract: 1/4 images, ")
    assert lines[1].endswith(" s left, note")


def test_short_work_writes_nothing_to_a_log(capsys) -> None:
    with Progress("train", 2, "epoch") as bar:
        bar.update(2)
    assert capsys.readouterr().err == ""


def test_the_rate_is_that_of_the_time_since_a_restart(capsys, monkeypatch) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with Progress("extract", 40, "image") as bar:
        now[0] = 100.0
        bar.restart()
        now[0] = 110.0
        bar.update(20)
    assert capsys.readouterr().err == "extract: 20/40 images, 2.0 images/s, 10 s left\n"


def test_a_terminal_gets_a_bar() -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    code = "from mirip.progress import Progress\nwith Progress('extract', 2, 'image') as bar: bar.update(2)"
    subprocess.run([sys.executable, "-c", code], stderr=theirs, check=True)
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert "extract: 100%" in shown
    assert "2/2" in shown


def test_invisible_progress_is_silent(capsys, monkeypatch) -> None:
    monkeypatch.setattr(progress, "_LOG_INTERVAL_S", 0.0)
    with Progress("train", 2, "epoch", visible=False) as bar:
        bar.update(1)
    assert capsys.readouterr().err == ""
