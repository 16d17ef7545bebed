import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.measuring import print_table
from benchmarks.million_rows import LABELS, NEW_ROWS, Cache, table
from mirip.errors import DataError
from mirip.features.extract.history import last_listing


@pytest.mark.slow
def test_every_step_is_measured_and_nothing_is_left(project_root: Path, tmp_path: Path) -> None:
    options = ["--rows", "2000", "--dim", "32", "--folder", str(tmp_path), "--markdown"]
    command = [sys.executable, "-m", "benchmarks.million_rows", *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=project_root)
    assert done.returncode == 0, done.stderr
    title, _, *lines = done.stdout.splitlines()
    assert title == "2,000 rows of 32 float16, payload 0.00 GB"
    steps = [line for line in lines if "memory < 2 x payload: " in line]
    assert len(steps) == 4
    assert any("FeatureCache.open" in line and "x plain read: " in line for line in steps)
    assert any("add 1,000 rows" in line and "< 60 s: met" in line for line in steps)
    assert all(line.startswith("| ") for line in lines)
    assert not list(tmp_path.iterdir())


def test_the_table_is_one_of_markdown_only_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    measured = {step: {"seconds": 1.5, "resident": 2e9, "anonymous": 1e9} for step in LABELS}
    lines = table(measured, payload=2_000_000_000)
    print_table(lines, markdown=False)
    plain = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in plain] == ["step", *LABELS.values()]
    assert {line.index("2.00 GB") for line in plain[1:]} == {plain[0].index("peak memory")}
    print_table(lines, markdown=True)
    marked = capsys.readouterr().out.splitlines()
    assert len(marked) == len(plain) + 1
    assert all(line.startswith("| ") and line.endswith(" |") for line in marked)


@pytest.mark.slow
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
