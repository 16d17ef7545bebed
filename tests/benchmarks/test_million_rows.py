import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.million_rows import NEW_ROWS, Cache
from mirip.errors import DataError
from mirip.features.extract.history import last_listing


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


def test_adding_rows_begins_with_the_manifest_and_ends_with_what_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    cache = Cache(tmp_path, 200, 8)
    cache.fill()
    cache.build()
    cache.add()
    listing = last_listing(cache.path)
    assert listing is not None
    assert len(listing) == 200 + NEW_ROWS
    cache.manifest.unlink()
    with pytest.raises(DataError, match="manifest"):
        cache.add()
