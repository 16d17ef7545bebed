"""Imported features through the whole pipeline with real DVC, and what docs/bring_your_own_features.md promises."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml
from pipeline_clone import BuiltPipeline, Project

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]


@dataclass
class Import:
    """What came of exporting features, importing them under another name and running the pipeline on them."""

    project: Project
    before: dict[str, dict[str, Any]]  # metrics on the computed features
    shown: str  # by the import
    output: str  # of the pipeline


@pytest.fixture(scope="module")
def imported(pipeline: BuiltPipeline, tmp_path_factory: pytest.TempPathFactory) -> Import:
    """A clone that ran on imported features, committed."""
    project = pipeline.copy(tmp_path_factory.mktemp("clone"))
    before = {name: project.json(name) for name in ("train", "evaluate", "audit", "extract")}
    project.run("mirip", "cache", "export", "sample.parquet")
    add_recipe(project, {"copy": {"backbone": "import:sample-copied"}})
    shown = project.run("mirip", "cache", "import", "sample.parquet", "--recipe", "copy")
    command = re.search("run `(.*)`", shown)
    assert command is not None
    output = project.run(*command[1].split())
    project.commit("imported")
    return Import(project, before, shown, output)


@pytest.fixture
def project(imported: Import) -> Iterator[Project]:
    """The clone, put back to its committed state afterwards."""
    yield imported.project
    imported.project.put_back()


def add_recipe(project: Project, recipes: dict) -> None:
    values = yaml.safe_load((project.root / "params.yaml").read_text())
    values["recipes"] |= recipes
    (project.root / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))


def blocks(project: Project, language: str) -> list[str]:
    page = (project.root / "docs" / "bring_your_own_features.md").read_text()
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def test_exported_and_imported_features_give_the_same_result(imported) -> None:
    project, before = imported.project, imported.before
    n = before["extract"]["rows"]
    assert (
        f"copy: {n} rows of {before['extract']['dim']} imported, 0 already there, {n} of {n} images" in imported.shown
    )
    stages = ["extract", "train", "evaluate", "audit", "benchmark", "report", "track"]
    assert project.stages_run(imported.output) == stages
    assert f"extract: {n} rows, 0 computed, {n} reused" in imported.output
    for name in ("train", "evaluate", "audit"):
        assert project.json(name) == before[name], name
    assert project.json("extract")["content_digest"] == before["extract"]["content_digest"]
    assert project.json("extract")["fingerprint"] != before["extract"]["fingerprint"]


def test_what_needs_the_model_is_not_available_and_said_so(project) -> None:
    metrics = project.json("benchmark")
    assert metrics["pair_latency_ms_p50"] is metrics["images_per_second"] is None
    assert metrics["pair_latency_verdict"] == metrics["memory_verdict"] == "not_measured"
    assert metrics["pair_latency_cached_ms_p50"] > 0
    assert re.search(r"latency of a pair +not available", project.run("mirip", "summary"))
    page = (project.root / "metrics/report.html").read_text()
    assert "import:sample-copied · features imported" in page
    for command in ("score", "rank", "compare"):
        images = ["data/sample/images/0001.jpg", "data/sample/images/0002.jpg"]
        said = project.run("mirip", command, *images, check=False)
        assert said.startswith("error: the features of import:sample-copied were imported")
        assert said.count("\n") == 1


def test_a_second_repro_runs_nothing_and_back_and_forth_computes_nothing(project) -> None:
    assert project.stages_run(project.run("dvc", "repro")) == []
    assert ", 0 computed," in project.run("dvc", "exp", "run", "-S", "extract.recipe=sample")
    assert ", 0 computed," in project.run("dvc", "exp", "run", "-S", "extract.recipe=copy")


def test_missing_features_are_one_line(project) -> None:
    add_recipe(project, {"none": {"backbone": "import:none"}})
    n = project.json("extract")["rows"]
    output = project.run("dvc", "exp", "run", "-S", "extract.recipe=none", check=False)
    assert re.search(
        rf"^error: {n} of {n} images have no features of import:none, the first .*jpg: import", output, re.M
    )
    assert "Traceback" not in output


def test_the_page_can_be_typed_as_it_is(project) -> None:
    (recipes,) = blocks(project, "yaml")
    (program,) = blocks(project, "python")
    run, take_out = blocks(project, "sh")
    add_recipe(project, yaml.safe_load(recipes)["recipes"])
    project.run("python", "-c", program)
    output = "".join(project.run(*line.split()) for line in run.splitlines())
    assert "0 already there" in output
    assert project.stages_run(output)[-1] == "track"
    for line in take_out.splitlines():
        assert f"{line.split()[3]}: {project.json('extract')['rows']} rows of 64 from features/mine.h5" in project.run(
            *line.split()
        )
