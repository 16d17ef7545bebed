"""The scripts of benchmarks/ run: what they measure is for people to read."""

import importlib.util
import json
import subprocess
from pathlib import Path

import pytest
from warm_python import commands_folder


@pytest.mark.slow
def test_extraction_is_timed_side_by_side_and_all_give_the_same_embeddings(project_root: Path, tmp_path: Path) -> None:
    options = "--architecture tiny --image-size 28 --images 2 --batch-size 2 --runs 2 --ways plain mirip timm".split()
    written = tmp_path / "measured.json"
    command = [str(commands_folder() / "python"), "-m", "benchmarks.extraction", *options, "--json", str(written)]
    result = subprocess.run(command, cwd=project_root, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    found = json.loads(written.read_text())
    ways = {(row["way"], row["dtype"]): row for row in found["rows"] if row["way"] != "timm"}
    assert list(ways) == [
        ("transformers, batches", "float32"),
        ("transformers, batches", "bfloat16"),
        ("transformers, one image at a time", "float32"),
        ("Mirip", "float32"),
        ("Mirip", "bfloat16"),
    ]
    for (_, dtype), row in ways.items():
        assert row["cosine_error"] < (1e-4 if dtype == "bfloat16" else 1e-6)
        assert len(row["forward_seconds"]) == len(row["files_seconds"]) == 2
    lines, _, note = result.stdout.partition("\n\n")
    assert len(lines.splitlines()) == 2 + len(found["rows"])
    assert "2 images of 6 megapixels" in note
    if importlib.util.find_spec("timm") is None:
        assert found["skipped"] == ["timm: timm not installed"]


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
