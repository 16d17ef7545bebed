"""Results of real DVC in real MLflow stores: each once, none lost, wherever the experiment ran."""

import re
import subprocess
import time
from pathlib import Path

import pytest
from local_servers import free_port
from mlflow_store import client, kill, runs, server
from pipeline_clone import BuiltPipeline, Project

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(900)]

LATENCY = "benchmark.pair_latency_ms_p50"
HEAD = "train evaluate audit benchmark report track".split()


@pytest.fixture
def project(pipeline: BuiltPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A clone after its first `dvc repro` as working directory, with a store that holds its one result."""
    copy = pipeline.copy(tmp_path / "project")
    copy.run("mirip", "track")
    monkeypatch.chdir(copy.root)
    return copy


def learning_rates() -> list[float]:
    """The learning rate of each run, oldest first."""
    return [float(run.data.params["train.learning_rate"]) for run in runs()]


def doubled_histories() -> list[str]:
    """Names of results, curves aside, that a run holds more than once; speed may be measured again."""
    return [
        name
        for run in runs()
        for name in run.data.metrics
        if not name.startswith(("curve/", "benchmark.")) and len(client().get_metric_history(run.info.run_id, name)) > 1
    ]


def test_a_result_is_one_run_however_often_it_is_forced_or_repeated(project: Project) -> None:
    for stages in (HEAD, ["benchmark", "report", "track"]):
        assert project.stages_run(project.run("dvc", "repro", "--force", "--single-item", *stages)) == stages
    project.run("dvc", "exp", "run", "-S", "train.learning_rate=0.0001")
    project.run("dvc", "exp", "run", "-S", "train.learning_rate=0.0003")
    assert learning_rates() == [0.0003, 0.0001]
    assert len(client().get_metric_history(runs()[0].info.run_id, LATENCY)) == 3
    assert doubled_histories() == []


def test_a_result_restored_from_the_run_cache_is_published(project: Project) -> None:
    project.run("dvc", "exp", "run", "-S", "train.learning_rate=0.0001")
    project.forget_runs()
    output = project.run("dvc", "exp", "run", "-S", "train.learning_rate=0.0003")  # as the pipeline was built
    assert "train" not in project.stages_run(output)
    assert learning_rates() == [0.0003]
    project.run("mirip", "track", "--backfill")
    assert sorted(learning_rates()) == [0.0001, 0.0003]
    assert doubled_histories() == []


def test_a_remark_in_the_code_makes_no_new_run(project: Project) -> None:
    with (project.root / "mirip/models/losses.py").open("a") as file:
        file.write("\n# a remark\n")
    assert {"train", "track"} <= set(project.stages_run(project.run("dvc", "repro")))
    assert len(runs()) == 1
    assert doubled_histories() == []


def test_temporary_and_queued_experiments_publish_here_with_all_their_files(project: Project) -> None:
    project.run("dvc", "exp", "run", "--temp", "-n", "temporary", "-S", "train.learning_rate=0.001")
    for rate in ("0.002", "0.003", "0.004"):
        project.run("dvc", "exp", "run", "--queue", "-n", f"queued-{rate[4:]}", "-S", f"train.learning_rate={rate}")
    project.run("dvc", "exp", "run", "--run-all", "-j", "2")
    status = project.run("dvc", "queue", "status")
    assert len(re.findall(r"\bSuccess\b", status)) == 3, status
    assert sorted(learning_rates()) == [0.0003, 0.001, 0.002, 0.003, 0.004]
    by_name = {run.info.run_name: run for run in runs()}
    for name in ("temporary", "queued-2", "queued-3", "queued-4"):
        run = by_name[name]
        assert run.data.tags["dvc.experiment"] == name
        assert run.info.artifact_uri.startswith((project.root / "mlartifacts").as_uri())
        for path in (
            "params.yaml",
            "dvc.lock",
            "metrics/report.html",
            "models/best_model.pt",
            "metrics/scores.csv",
            "metrics/out_of_fold_scores.csv",
        ):
            assert Path(client().download_artifacts(run.info.run_id, path)).stat().st_size > 0
        shown = Path(client().download_artifacts(run.info.run_id, "params.yaml")).read_text()
        assert f"learning_rate: {run.data.params['train.learning_rate']}" in shown


def test_six_stages_that_start_at_once_on_a_fresh_store_all_publish(project: Project) -> None:
    (project.root / "mlflow.db").unlink()
    processes = [
        project.start("python", "-m", "stages.track", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    printed = [process.communicate(timeout=300) for process in processes]
    assert all(out.startswith("track: run ") and not err for out, err in printed), printed
    assert len(runs()) == 1
    assert doubled_histories() == []


def test_a_server_killed_while_a_result_is_published_is_completed_later(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    with server(tmp_path, port) as (uri, process):
        stage = project.start("python", "-m", "stages.track", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        wait_for_a_run(uri)
        kill(process)
        out, err = stage.communicate(timeout=300)
    assert (stage.returncode, out) == (0, ""), err
    assert err.startswith("warning: the result was not published")
    assert err.count("\n") == 1
    assert "mirip track --backfill" in err
    with server(tmp_path, port) as (uri, _):
        assert [run.info.status for run in runs(uri)] == ["RUNNING"]
        for _ in range(2):
            project.run("mirip", "track", "--backfill")
        (run,) = runs(uri)
        assert list((project.root / ".mirip/unpublished").iterdir()) == []
        assert run.info.status == "FINISHED"
        assert "val_pairwise_accuracy" in run.data.metrics
        store = client(uri)
        assert len(store.get_metric_history(run.info.run_id, "pairwise_accuracy")) == 1
        assert Path(store.download_artifacts(run.info.run_id, "metrics/report.html", str(tmp_path))).stat().st_size > 0


def wait_for_a_run(uri: str) -> None:
    """Wait until a run has been created."""
    deadline = time.monotonic() + 120
    while not runs(uri):
        assert time.monotonic() < deadline
        time.sleep(0.01)
