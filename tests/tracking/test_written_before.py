"""An MLflow store that Mirip 0.1 wrote: it opens, its run is found again, and its model answers what it answered."""

import os
import shutil
import sqlite3
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow_store import client, runs

from mirip.params import load_params
from mirip.tracking.promotion import promote
from mirip.tracking.publishing import track
from mirip.workspace import Workspace

WRITTEN = Path(__file__).parents[1] / "fixtures" / "mlflow_written_by_0_1"
FORMER_ROOT = "file:///written-by-0.1"  # what write.py put in place of the folder of that time


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder, the working directory, with the store and the result that is published in it."""
    shutil.copytree(WRITTEN / "mlartifacts", tmp_path / "mlartifacts")
    for path in (tmp_path / "mlartifacts").rglob("MLmodel"):
        path.write_text(path.read_text().replace(FORMER_ROOT, tmp_path.as_uri()))
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.executescript((WRITTEN / "mlflow.sql").read_text().replace(FORMER_ROOT, tmp_path.as_uri()))
    (of_run,) = (path for path in (tmp_path / "mlartifacts").glob("*/artifacts") if (path / "params.yaml").is_file())
    for name in ("metrics", "models", "params.yaml"):
        source = of_run / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    (tmp_path / ".dvc").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def answers(model: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What a logged model answers to the rows of that time, and what it answered then."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow

        found = mlflow.pyfunc.load_model(str(model)).predict(features())
    return found, pd.read_csv(WRITTEN / "answers.csv")


def features() -> Any:
    return np.loadtxt(WRITTEN / "features.csv", delimiter=",", dtype=np.float32)


def logged_model(project: Path) -> Path:
    (model,) = project.glob("mlartifacts/models/m-*/artifacts")
    return model


def test_the_same_result_is_the_run_of_that_time(project: Path) -> None:
    published = track(Workspace(), load_params()).published
    (run,) = runs()
    assert published is not None
    assert published.run_id == run.info.run_id
    assert published.status in ("updated", "unchanged")  # a later version may add a param or a tag
    assert len(client().search_logged_models([run.info.experiment_id])) == 1
    assert len(client().get_metric_history(run.info.run_id, "pairwise_accuracy")) == 1


def test_its_model_can_be_promoted(project: Path) -> None:
    (run,) = runs()
    assert "is the champion now" in promote(run.info.run_id)


def test_its_model_answers_the_same_by_the_code_of_today(project: Path) -> None:
    found, expected = answers(logged_model(project))
    pd.testing.assert_frame_equal(found, expected, check_exact=False, rtol=1e-5)


@pytest.mark.integration
def test_its_model_answers_the_same_by_the_package_that_it_holds(project: Path) -> None:
    program = (
        "import sys, mlflow, numpy, mirip; assert mirip.__file__.startswith(sys.argv[1]), mirip.__file__;"
        "rows = numpy.loadtxt(sys.argv[2], delimiter=',', dtype='float32');"
        "mlflow.pyfunc.load_model(sys.argv[1]).predict(rows).to_csv('found.csv', index=False)"
    )
    model = logged_model(project)
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, str(model), str(WRITTEN / "features.csv")],
        env={**os.environ, "PYTHONPATH": str(model / "artifacts" / "mirip.zip")},
        check=True,
        timeout=120,
    )
    found, expected = pd.read_csv("found.csv"), pd.read_csv(WRITTEN / "answers.csv")
    pd.testing.assert_frame_equal(found, expected, check_exact=False, rtol=1e-5)
