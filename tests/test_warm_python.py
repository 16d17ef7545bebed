"""What stands in for an interpreter in tests of the pipeline behaves as one."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from warm_python import commands_folder

pytestmark = [pytest.mark.integration]

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """What starts `python` with arguments, in a folder of the test, with pipes."""
    with ExitStack() as open_pipes:

        def started(*arguments: str, **options: Any) -> subprocess.Popen[str]:
            pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
            command = [str(commands_folder() / "python"), *arguments]
            return open_pipes.enter_context(subprocess.Popen(command, cwd=tmp_path, text=True, **(pipes | options)))

        yield started


def test_a_command_has_its_own_folder_environment_files_and_arguments(start: Start, tmp_path: Path) -> None:
    code = "import os, sys; print(os.getcwd(), os.environ['WORD'], sys.argv, input()); print('no', file=sys.stderr)"
    process = start("-c", code, "one", "two", env={**os.environ, "WORD": "hers"})
    out, err = process.communicate("typed\n")
    assert (out, err) == (f"{tmp_path} hers ['-c', 'one', 'two'] typed\n", "no\n")
    assert process.returncode == 0


def test_the_code_is_that_of_its_folder_and_none_of_ours_is_loaded_before(start: Start, tmp_path: Path) -> None:
    (tmp_path / "mirip").mkdir()
    (tmp_path / "mirip/__main__.py").write_text(
        "import sys\nprint(__file__, 'torch' in sys.modules, [name for name in sys.modules if name == 'stages'])\n"
    )
    out, err = start("-m", "mirip").communicate()
    assert (out, err) == (f"{tmp_path}/mirip/__main__.py True []\n", "")


@pytest.mark.parametrize(
    ("code", "status", "said"),
    [
        ("import sys; sys.exit(3)", 3, ""),
        ("import sys; sys.exit('error: no')", 1, "error: no"),
        ("1 / 0", 1, "ZeroDivisionError: division by zero"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM, ""),
        ("raise KeyboardInterrupt", -signal.SIGINT, ""),
    ],
)
def test_it_ends_as_the_code_does(start: Start, code: str, status: int, said: str) -> None:
    process = start("-c", code)
    _, err = process.communicate()
    assert process.returncode == status
    assert err.strip().rpartition("\n")[2] == said


def test_what_happens_at_exit_happens(start: Start) -> None:
    code = """
import atexit, threading, time
atexit.register(print, "at exit")
threading.Thread(target=lambda: (time.sleep(0.1), print("thread"))).start()
print("end")
"""
    assert start("-c", code).communicate() == ("end\nthread\nat exit\n", "")


WAIT = "import os, subprocess, sys; child = subprocess.Popen(['sleep', '1000']); print(child.pid, flush=True); "


def test_an_interrupt_reaches_all_that_was_started(start: Start) -> None:
    code = f"import signal; got = []; signal.signal(signal.SIGINT, lambda *_: got.append(1)); {WAIT}"
    process = start("-c", f"{code}print(child.wait(), len(got))", start_new_session=True)
    assert process.stdout is not None
    process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate() == (f"{-signal.SIGINT} 1\n", "")


def test_a_killed_command_leaves_nothing_running(start: Start) -> None:
    process = start("-c", f"{WAIT}child.wait()", start_new_session=True)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    os.killpg(process.pid, signal.SIGKILL)
    deadline = time.monotonic() + 120
    while runs(child):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def runs(process: int) -> bool:
    """Whether there is such a process that has not ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
