import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
from warm_python import commands_folder

ROOT = Path(__file__).parents[2]
PARAMS = """
data: {images: data/sample, metadata: data/sample/metadata.csv}
sample: {seed: 3, n_images: 40, n_artists: 26}
"""


def run_stage(folder, params, python=sys.executable):
    (folder / "params.yaml").write_text(params)
    return subprocess.run(
        [python, "-m", "stages.sample"],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_the_stage_writes_both_folders_and_says_so(tmp_path):
    result = run_stage(tmp_path, PARAMS, python=commands_folder() / "python")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "sample: 40 artworks by 26 artists, 12 planted files, backbone 53 MB"
    with (tmp_path / "data/sample/metadata.csv").open(newline="") as stream:
        assert len(list(csv.DictReader(stream))) == 40
    assert len(json.loads((tmp_path / "data/sample/truth.json").read_text())["artworks"]) == 40
    assert (tmp_path / "models/backbones/sample/model.safetensors").is_file()
    assert [file.name for file in (tmp_path / "data").iterdir()] == ["sample"]


@pytest.mark.parametrize("params", [PARAMS.replace("n_images: 40", "n_images: 3"), PARAMS.replace("seed", "sede")])
def test_bad_params_are_one_line_and_leave_nothing(tmp_path, params):
    result = run_stage(tmp_path, params)
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "data").exists()
