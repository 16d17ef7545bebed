"""`mirip crossval` on a project of the pipeline; what it computes is tested beside mirip.models.cross_validation."""

import json
from pathlib import Path

import pytest

from mirip.cli.main import main


@pytest.fixture(autouse=True)
def quick_training(trained_project) -> None:
    trained_project.write_params(train={"max_epochs": 3, "calibration_folds": 2, "images_per_step": 64})


@pytest.mark.slow
def test_prints_a_row_a_fold_and_the_metric_and_writes_both(trained_project, capsys):
    before = trained_project.outputs()
    assert main(["crossval", "--folds", "3", "--output", "out/crossval.json"]) == 0
    printed = capsys.readouterr().out
    assert "pairs within folds: pairwise accuracy 0." in printed
    assert trained_project.outputs() == before
    metrics = json.loads(Path("out/crossval.json").read_text())
    assert len(metrics["folds"]) == 3
    assert metrics["n_images"] == sum(fold["n_images"] for fold in metrics["folds"]) == 240


@pytest.mark.slow
def test_leaves_out_one_context_at_a_time(capsys):
    assert main(["crossval", "--by", "context"]) == 0
    rows = [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:3]]
    assert rows == ["ink", "oil"]


def test_a_missing_manifest_is_one_line(capsys):
    Path("data/manifest.parquet").unlink()
    assert main(["crossval"]) == 1
    assert "data/manifest.parquet is not found: run `dvc repro" in capsys.readouterr().err
