"""Ctrl-C ends a process in one line: while it imports, in a destructor, and when its work has ended."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(os.name == "nt", reason="a process of Windows sends itself no Ctrl-C")


@pytest.fixture(autouse=True)
def _not_ignored() -> Iterator[None]:
    """Where tests run in the background of a shell, Ctrl-C is ignored, and all that they start would ignore it too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


# As a module is looked for, Ctrl-C comes, which the import turns into another error, as libraries of C do.
INTERRUPTS_ITSELF = """
import os, signal, sys, time

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            try:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(60)
            except KeyboardInterrupt:
                raise ImportError(name + " failed to import")

sys.meta_path.insert(0, Finder())
"""


def run(*arguments: str, folder: Path = ROOT) -> tuple[int, str, str]:
    """Run Python with a sitecustomize.py from a folder; return exit code, stdout and stderr."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    command = [sys.executable, *arguments]
    shown = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=50)
    return shown.returncode, shown.stdout, shown.stderr


@pytest.mark.parametrize("command", ["mirip", "mirip.cli.main"])
@pytest.mark.parametrize("module", ["argparse", "pydantic", "mirip.cli.images", "torch"])
def test_a_command_that_imports_is_interrupted_in_one_line(command: str, module: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(INTERRUPTS_ITSELF.format(module=module))
    ended = run("-m", command, "score", "a.png", "--checkpoint", "no.pt", folder=tmp_path)
    assert ended == (130, "", "interrupted\n")


@pytest.mark.parametrize("module", ["stages.split", "pandas"])
def test_a_stage_that_imports_is_interrupted_in_one_line(module: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(INTERRUPTS_ITSELF.format(module=module))
    ended = run("-m", "stages.split", folder=tmp_path)
    assert ended == (130, "", "interrupted: run the same command again to go on\n")


def test_what_a_library_makes_of_an_interruption_is_one() -> None:
    code = """
import os, signal, sys
from mirip.cli import main
class Parser:
    def parse_args(self, arguments):
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            raise RuntimeError("a callback failed") from None
main.build_parser = Parser
sys.exit(main.main())
"""
    assert run("-c", code) == (130, "", "interrupted\n")


def test_an_interruption_that_meets_a_destructor_comes_again() -> None:
    code = """
import os, signal, time
from mirip.interruption import interruptible
class Doomed:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
interruptible("interrupted")
try:
    Doomed()
    time.sleep(60)
except KeyboardInterrupt:
    print("stopped")
"""
    assert run("-c", code) == (0, "stopped\n", "")


@pytest.mark.parametrize(
    ("how", "code", "err"),
    [("threading._register_atexit(interrupt)", 130, "interrupted\n"), ("atexit.register(interrupt)", 0, "")],
    ids=["waiting for threads", "taking itself apart"],
)
def test_an_interruption_after_the_work_is_no_traceback(how: str, code: int, err: str) -> None:
    program = f"""
import atexit, os, signal, sys, threading
from mirip.cli.main import main
def interrupt():
    os.kill(os.getpid(), signal.SIGINT)
{how}
sys.argv = ["mirip", "--version"]
main()
"""
    ended = run("-c", program)
    assert (ended[0], ended[2]) == (code, err)


def test_a_process_that_ignores_an_interruption_still_does() -> None:
    code = """
import os, signal
from mirip.interruption import ended, interruptible
signal.signal(signal.SIGINT, signal.SIG_IGN)
interruptible("interrupted")
ended("interrupted")
os.kill(os.getpid(), signal.SIGINT)
print("went on")
"""
    assert run("-c", code) == (0, "went on\n", "")
