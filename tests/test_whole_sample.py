"""What has to hold on the whole sample, as a fresh clone makes it, with real DVC.

Where `make repro` has run, its results are taken from DVC's cache: they are those of this very code, data and params.
"""

import json
import time
from pathlib import Path

import pytest
import yaml
from cpu_time import seconds_of_children
from pipeline_clone import SMALL, Project, clone

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def project(project_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A clone with its own params, but for the benchmark's, after `dvc repro`."""
    own = yaml.safe_load((project_root / "params.yaml").read_text())
    sections = {name: own[name] for name in SMALL if name not in ("benchmark", "recipes")}
    project = clone(project_root, tmp_path_factory.mktemp("whole"), with_lock=True, **sections)
    project.run("dvc", "repro")
    project.commit("results")
    return project


def test_the_best_ranker_lies_within_or_above_the_interval(project) -> None:
    """No model can be better than one that knows the skill behind each artwork: an interval above it would be false."""
    best = json.loads((project.root / "data/sample/truth.json").read_text())["best_ranker"]["accuracy"]
    evaluate = project.json("evaluate")
    assert evaluate["pairwise_accuracy_ci_low"] < best
    assert project.json("audit")["out_of_fold_accuracy_ci_low"] < best
    assert 0.6 < best < 1


def test_out_of_fold_over_all_images_its_probabilities_are_right(project) -> None:
    project.run("mirip", "crossval", "--output", "crossval.json")
    found = json.loads((project.root / "crossval.json").read_text())
    assert found["n_images"] > 590
    assert found["ece"] < 0.03


def test_an_experiment_on_the_head_takes_less_than_a_minute(project) -> None:
    """By the clock or, where a busy machine stretches that, in CPU seconds of all that it starts, as a user does."""
    clock, computed = time.monotonic(), seconds_of_children()
    output = project.run("dvc", "exp", "run", "-S", "train.learning_rate=0.0001", plain=True)
    assert project.stages_run(output) == ["train", "evaluate", "audit", "report", "track"]
    assert min(time.monotonic() - clock, seconds_of_children() - computed) < 60
