import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from mirip.locks import forget, is_locked, last_held, locked_file, locked_if_free


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "some.lock"


def test_a_lock_is_held_within_the_block_only(path: Path) -> None:
    assert not is_locked(path)
    with locked_file(path):
        assert is_locked(path)
    assert not is_locked(path)


def test_taking_a_lock_touches_it_and_looking_does_not(path: Path) -> None:
    with locked_file(path):
        pass
    os.utime(path, (1000, 1000))
    is_locked(path)
    with locked_if_free(path) as free:
        assert free
    assert path.stat().st_mtime == 1000
    with locked_file(path):
        pass
    assert path.stat().st_mtime > time.time() - 60


def test_whoever_does_not_want_to_wait_does_not_get_it(path: Path) -> None:
    with locked_file(path), locked_if_free(path) as free:
        assert not free
    with locked_if_free(path) as free:
        assert free
        assert is_locked(path)


def test_one_waits_says_so_once_and_gets_it(path: Path) -> None:
    said, order = [], []

    def wait() -> None:
        with locked_file(path, on_wait=lambda: said.append(1)):
            order.append("second")

    thread = threading.Thread(target=wait)
    with locked_file(path):
        thread.start()
        time.sleep(0.2)
        order.append("first")
    thread.join(10)
    assert (order, said) == (["first", "second"], [1])


def test_a_killed_process_holds_nothing(path: Path) -> None:
    code = f"""
        import time
        from pathlib import Path
        from mirip.locks import locked_file
        with locked_file(Path({str(path)!r})):
            print("held", flush=True)
            time.sleep(600)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert is_locked(path)
        process.kill()
    assert not is_locked(path)
    with locked_file(path, timeout_s=10):
        assert is_locked(path)


def test_when_it_was_held_is_known_until_it_is_forgotten(path: Path) -> None:
    assert last_held(path) is None
    with locked_file(path):
        held = last_held(path)
        assert held is not None
        assert held > time.time() - 60
        forget(path)
    assert last_held(path) is None
    forget(path)
