import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("markdown", [False, True])
def test_every_step_is_measured_and_nothing_is_left(project_root: Path, tmp_path: Path, markdown: bool) -> None:
    options = ["--rows", "2000", "--dim", "32", "--folder", str(tmp_path), *(["--markdown"] if markdown else [])]
    command = [sys.executable, "-m", "benchmarks.million_rows", *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=project_root)
    assert done.returncode == 0, done.stderr
    title, _, *table = done.stdout.splitlines()
    assert title == "2,000 rows of 32 float16, payload 0.00 GB"
    steps = [line for line in table if "memory < 2 x payload: " in line]
    assert len(steps) == 4
    assert any("FeatureCache.open" in line and "x plain read: " in line for line in steps)
    assert any("add 1,000 rows" in line and "< 60 s: met" in line for line in steps)
    assert all(line.startswith("| ") == markdown for line in table)
    assert not list(tmp_path.iterdir())
