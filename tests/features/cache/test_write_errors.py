"""A write that fails, at any call: one clear line, nothing lost, and the next run writes the exact bytes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.parametrize("n", [16, pytest.param(60, marks=pytest.mark.slow)])
def test_no_failing_write_crashes_or_loses_anything(n: int, tmp_path: Path) -> None:
    if sys.platform != "linux" or not (compiler := shutil.which("gcc")):
        pytest.skip("to have writes fail, gcc compiles a library that is loaded before libc")
    library = tmp_path / "failing_writes.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, HERE / "failing_writes.c", "-ldl"], check=True)
    (tmp_path / "root").mkdir()
    command = [sys.executable, str(HERE / "write_with_errors.py"), str(library), str(tmp_path / "root"), str(n)]
    # Without a warning of every fork of a process in which numpy has threads.
    environment = os.environ | {
        "LD_PRELOAD": str(library),
        "PYTHONPATH": str(HERE.parents[2]),
        "PYTHONWARNINGS": "ignore",
    }
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == n
    failed = [one for one in found if one["code"] == 1]
    assert len(failed) > n / 2
    assert {one["error"] for one in failed} == {"EIO", "ENOSPC"}
    for one in found:
        assert (one["signal"], one["code"] in (0, 1)) == (0, True), one
        assert (one["untouched"], one["again"], one["exact"]) == (True, 0, True), one
        assert one["code"] == 0 or one["said"].count("\n") == 1, one
        assert one["code"] == 0 or "No space left" in one["said"] or "Input/output error" in one["said"], one
