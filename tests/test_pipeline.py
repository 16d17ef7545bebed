"""The whole pipeline with real DVC, in a clone of the working tree, on a small sample."""

import json
import re
import shutil
from collections.abc import Iterator

import published_names
import pytest
import torch
import yaml
from pipeline_clone import BuiltPipeline, Project

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

STAGES = "sample prepare split extract train evaluate audit benchmark report track".split()


@pytest.fixture(scope="module")
def copied(pipeline: BuiltPipeline, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A clone after its first `dvc repro`, committed."""
    return pipeline.copy(tmp_path_factory.mktemp("clone"))


@pytest.fixture
def project(copied: Project) -> Iterator[Project]:
    """The clone, put back to its committed state afterwards."""
    yield copied
    copied.put_back()


def test_every_stage_runs_once_in_order(pipeline) -> None:
    assert sorted(Project(pipeline.root).stages_run(pipeline.printed)) == sorted(STAGES)
    assert (pipeline.root / "metrics" / "report.html").is_file()
    assert re.search(r"^extract: \d+ rows, \d+ computed, 0 reused$", pipeline.printed, re.MULTILINE)


def test_the_second_repro_runs_nothing_and_git_is_clean(project) -> None:
    assert project.stages_run(project.run("dvc", "repro")) == []
    assert "up to date" in project.run("dvc", "status")
    assert project.run("git", "status", "--short") == ""


def test_metrics_have_the_names_that_other_tools_rely_on(project) -> None:
    assert project.json("evaluate").keys() >= published_names.EVALUATE
    assert project.json("train").keys() >= published_names.TRAIN
    assert project.json("audit").keys() >= published_names.AUDIT
    assert project.json("benchmark").keys() >= published_names.BENCHMARK
    assert project.json("extract").keys() == published_names.EXTRACT
    for name in ("data", "split", "extract", "train", "evaluate", "audit", "benchmark"):
        assert not any(isinstance(value, list | dict) for value in project.json(name).values()), name


def test_the_planted_files_are_rejected_and_counted(project) -> None:
    planted = json.loads((project.root / "data/sample/truth.json").read_text())["planted"]
    rejected = (project.root / "data/rejected.csv").read_text()
    counts = project.json("data")
    assert counts["n_rejected"] == len(rejected.splitlines()) - 1 == 4
    for kind in ("rejected_missing", "rejected_truncated", "rejected_not_an_image", "rejected_unknown_tier"):
        assert counts[kind] == 1, kind
    for kind in ("sideways_exif", "cmyk", "alpha", "sixteen_bit", "grey", "palette"):
        assert counts[f"converted_{kind}"] >= 1, kind
    assert counts["n_duplicates"] == 1
    assert len(planted) == 12


def test_the_checkpoint_is_small_and_safe_to_load(project) -> None:
    path = project.root / "models" / "best_model.pt"
    assert path.stat().st_size < 5_000_000
    assert {"model_state_dict", "recipe", "fingerprint"} <= set(torch.load(path, weights_only=True))


def test_an_experiment_on_the_head_skips_all_up_to_extract_and_the_benchmark(project) -> None:
    project.forget_runs()
    project.run("mirip", "track")
    output = project.run("dvc", "exp", "run", "-S", "train.learning_rate=0.0001")
    assert project.stages_run(output) == ["train", "evaluate", "audit", "report", "track"]
    assert "train.learning_rate" in project.run("dvc", "params", "diff")
    assert "pairwise_accuracy" in project.run("dvc", "metrics", "diff", "--all")
    runs = project.run("python", "-c", RUNS)
    assert len(runs.split()) == 2, runs


RUNS = """
import os, logging
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
import mlflow
mlflow.set_tracking_uri("sqlite:///mlflow.db")
for run in mlflow.search_runs(search_all_experiments=True, output_format="list"):
    print(run.info.run_id)
"""


@pytest.mark.parametrize(
    ("path", "may_run"),
    [
        ("stages/extract.py", {"extract"}),
        ("stages/benchmark.py", {"benchmark", "report", "track"}),
        ("mirip/report/plots.py", {"report", "track"}),
    ],
)
def test_a_remark_in_a_stage_does_not_train(project, path, may_run) -> None:
    before = (project.root / "models" / "best_model.pt").read_bytes()
    with (project.root / path).open("a") as file:
        file.write("\n# a remark\n")
    assert set(project.stages_run(project.run("dvc", "repro"))) <= may_run
    assert (project.root / "models" / "best_model.pt").read_bytes() == before


def test_an_edit_of_the_page_does_not_run_anything(project) -> None:
    (project.root / "mirip" / "serve").mkdir(exist_ok=True)
    (project.root / "mirip" / "serve" / "page.py").write_text('"""A page."""\n')
    assert project.stages_run(project.run("dvc", "repro")) == []


def test_python_of_the_readme_runs(project) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (project.root / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 2
    short, long = (project.run("python", "-c", block) for block in blocks)
    scores = [float(number) for number in re.findall(r"-?\d+\.\d+", short)[:2]]
    assert [float(number) for number in long.split()] == pytest.approx(
        scores, abs=3e-4
    )  # from the file, or from its row in float16


def test_commands_for_files_agree(project) -> None:
    images = [f"data/sample/images/000{n}.jpg" for n in (1, 2, 3)]
    found = json.loads(project.run("mirip", "score", "--json", *images))["images"]
    scored = {image["path"]: image["score"] for image in found}
    lines = project.run("mirip", "score", *images).splitlines()
    for image, line in zip(found, lines, strict=True):  # flags come between tier and path, and depend on the split
        start = f"{image['score']:+.4f}  {image['percentile']:3.0f} %  {image['tier'] or 'undecided'}"
        assert line.startswith(start)
        assert line.endswith(f"  {image['path']}")
    within = project.run("mirip", "score", images[0], "--context", "no such", check=False)
    assert "the model knows too few images of context 'no such'" in within
    ranked = [image["path"] for image in json.loads(project.run("mirip", "rank", "--json", *images))["images"]]
    assert ranked == sorted(images, key=lambda path: -scored[path])
    assert f"{ranked[0]} is the better one" in project.run("mirip", "compare", ranked[0], ranked[-1])
    assert "too close to call" in project.run("mirip", "compare", images[0], images[0])


def test_the_summary_says_what_came_out(project) -> None:
    shown = project.run("mirip", "summary")
    assert f"{project.json('evaluate')['pairwise_accuracy']:.3f}" in shown
    assert project.json("evaluate")["verdict"] in shown
    assert "metrics/report.html" in shown


def test_a_clone_that_has_the_results_still_publishes_into_its_own_store(project, tmp_path) -> None:
    project.run("git", "clone", "-q", str(project.root), str(tmp_path / "fresh"))
    shutil.copytree(project.root / ".dvc" / "cache", tmp_path / "fresh" / ".dvc" / "cache")
    (tmp_path / "fresh" / ".dvc" / "cache" / "files" / "md5" / receipt_object(project)).unlink()
    fresh = Project(tmp_path / "fresh")
    fresh.run("dvc", "checkout", check=False)
    assert fresh.stages_run(fresh.run("dvc", "repro")) == ["track"]
    assert len(fresh.run("python", "-c", RUNS).split()) == 1


def receipt_object(project: Project) -> str:
    """Where DVC's cache holds metrics/track.json; other clones do not have it unless it was pushed."""
    outs = yaml.safe_load((project.root / "dvc.lock").read_text())["stages"]["track"]["outs"]
    md5 = outs[0]["md5"]
    return f"{md5[:2]}/{md5[2:]}"
