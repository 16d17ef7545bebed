"""The scripts of benchmarks/ run: what they measure is for people to read."""

import json
import subprocess
from pathlib import Path

import pytest
from warm_python import commands_folder


@pytest.mark.slow
def test_extraction_is_timed_four_ways_and_all_give_the_same_embeddings(project_root: Path) -> None:
    options = "--architecture tiny --image-size 28 --images 3 --runs 2 --compute-dtype float32 --markdown".split()
    command = [str(commands_folder() / "python"), "-m", "benchmarks.extraction", *options]
    result = subprocess.run(command, cwd=project_root, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    lines, _, note = result.stdout.partition("\n\n")
    head, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines.splitlines())
    assert head == ["way", "run 1", "run 2", "median images/s", "times plain", "cosine error"]
    names = [row[0] for row in rows]
    assert names == ["plain loop", "batches of 32", "transformers pipeline", "Mirip", "Mirip, whole call"]
    assert rows[0][4] == "1.00"
    assert max(float(row[5]) for row in rows) < 1e-4
    assert "3 images of 6 megapixels" in note


@pytest.mark.slow
@pytest.mark.integration
def test_the_engines_are_timed_and_give_the_same_bytes(project_root: Path) -> None:
    pytest.importorskip("ray")
    options = "--architecture tiny --image-size 28 --images 12 --few 4 --runs 1 --actors 1".split()
    command = [str(commands_folder() / "python"), "-m", "benchmarks.engines", *options]
    result = subprocess.run(command, cwd=project_root, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["same_bytes"]
    assert list(found["ways"]) == ["local", "Ray, 1 actor"]
    assert found["ways"]["local"]["more_ms_an_image"] == 0
