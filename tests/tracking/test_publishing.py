"""Publishing to MLflow: once per distinct result, in the main repository, and never in the way."""

import json
import shutil
import socket
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from forked import Forked, publish_result
from mlflow_store import client as mlflow_client
from result_folder import migrated_database, write_result_folder

from mirip.errors import TrackingError
from mirip.files import flatten
from mirip.params import load_params
from mirip.tracking.publishing import publish, track
from mirip.tracking.result import RunRecord, result_key
from mirip.tracking.store import _DEFAULT_ENVIRONMENT
from mirip.workspace import Workspace

EPOCHS = 5
PROJECT = Path(__file__).parents[2]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder with a result in it and an empty store beside it."""
    for variable in ("MLFLOW_TRACKING_URI", "DVC_ROOT", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV"):
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "mlflow.db").write_bytes(migrated_database())
    (tmp_path / "metrics" / "train").mkdir(parents=True)
    (tmp_path / "metrics" / "evaluate.json").write_text('{"pairwise_accuracy": 0.7}\n')
    (tmp_path / "metrics" / "train" / "curves.csv").write_text("epoch,train_loss\n1,0.5\n")
    (tmp_path / "metrics" / ".gitignore").write_text("/report.html\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ann:secret@127.0.0.1:{port}")


def record(**changes: Any) -> RunRecord:
    params = {"train": {"learning_rate": 1e-4, "head": {"hidden_dim": 512}}, "data": {"tiers": ["S", "A"]}}
    base = RunRecord(
        experiment="mirip",
        run_name="first",
        params=params,
        metrics={
            "evaluate.pairwise_accuracy": 0.7,
            "evaluate.pairwise_accuracy_within_context": None,
            "evaluate.ece": float("nan"),
            "evaluate.verdict": "met",
            "train.val_pairwise_accuracy": 0.72,
        },
        curves=pd.DataFrame({"epoch": range(1, EPOCHS + 1), "train_loss": [0.6, 0.5, 0.4, 0.3, 0.2]}),
        artifacts=[Path("metrics"), Path("absent.lock")],
        tags={"mirip.recipe": "sample"},
        key=result_key(params, {"model": "a"}),
    )
    return replace(base, **changes)


def client() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=f"sqlite:///{Path.cwd() / 'mlflow.db'}")


def runs() -> list[Any]:
    store = client()
    return list(store.search_runs([e.experiment_id for e in store.search_experiments()]))


def artifact_paths(run_id: str, folder: str | None = None) -> Iterator[str]:
    for entry in client().list_artifacts(run_id, folder):
        if entry.is_dir:
            yield from artifact_paths(run_id, entry.path)
        else:
            yield entry.path


def test_a_published_run_holds_params_by_section_metrics_headlines_and_tags(workspace: Path) -> None:
    published = publish(record())
    run = client().get_run(published.run_id)
    assert published.status == "new"
    assert run.info.run_name == "first"
    assert run.info.status == "FINISHED"
    assert run.data.params == {
        "train.learning_rate": "0.0001",
        "train.head.hidden_dim": "512",
        "data.tiers": '["S","A"]',
    }
    assert run.data.metrics["pairwise_accuracy"] == run.data.metrics["evaluate.pairwise_accuracy"] == 0.7
    assert run.data.metrics["val_pairwise_accuracy"] == 0.72
    assert run.data.tags["evaluate.verdict"] == "met"
    assert run.data.tags["mirip.recipe"] == "sample"


def test_an_unknown_value_is_left_out(workspace: Path) -> None:
    metrics = client().get_run(publish(record()).run_id).data.metrics
    assert "evaluate.pairwise_accuracy_within_context" not in metrics
    assert "evaluate.ece" not in metrics


def test_curves_are_logged_by_epoch(workspace: Path) -> None:
    history = client().get_metric_history(publish(record()).run_id, "curve/train_loss")
    assert [(point.step, point.value) for point in history] == [(1, 0.6), (2, 0.5), (3, 0.4), (4, 0.3), (5, 0.2)]


def test_artifacts_are_under_the_main_root_with_their_folders(workspace: Path) -> None:
    published = publish(record())
    assert sorted(artifact_paths(published.run_id)) == ["metrics/evaluate.json", "metrics/train/curves.csv"]
    assert client().get_run(published.run_id).info.artifact_uri.startswith((workspace / "mlartifacts").as_uri())


def test_publishing_twice_leaves_one_run_and_no_doubled_history(workspace: Path) -> None:
    first, second = publish(record()), publish(record())
    assert second.run_id == first.run_id
    assert second.status == "unchanged"
    assert len(runs()) == 1
    assert len(client().get_metric_history(first.run_id, "pairwise_accuracy")) == 1
    assert len(client().get_metric_history(first.run_id, "curve/train_loss")) == EPOCHS


def test_two_results_are_two_runs(workspace: Path) -> None:
    publish(record())
    assert publish(record(key=result_key({}, {"model": "b"}))).status == "new"
    assert len(runs()) == 2


def test_a_new_measurement_is_a_new_point_of_its_own_history(workspace: Path) -> None:
    for latency_ms in (9.0, 9.0, 8.0):
        published = publish(
            record(metrics={"evaluate.pairwise_accuracy": 0.7, "benchmark.pair_latency_ms_p50": latency_ms})
        )
    assert published.status == "updated"
    history = client().get_metric_history(published.run_id, "benchmark.pair_latency_ms_p50")
    assert [(point.step, point.value) for point in history] == [(0, 9.0), (1, 8.0)]
    assert client().get_run(published.run_id).data.metrics["benchmark.pair_latency_ms_p50"] == 8.0


def test_a_run_cut_off_before_its_end_is_completed(workspace: Path) -> None:
    run_id = publish(record(curves=None, artifacts=[])).run_id
    client().update_run(run_id, status="RUNNING")
    published = publish(record())
    assert (published.run_id, published.status) == (run_id, "updated")
    assert len(client().get_metric_history(run_id, "curve/train_loss")) == EPOCHS
    assert client().get_run(run_id).info.status == "FINISHED"


def test_a_changed_artifact_is_uploaded_again(workspace: Path) -> None:
    run_id = publish(record()).run_id
    (workspace / "metrics" / "evaluate.json").write_text("{}\n")
    assert publish(record()).status == "updated"
    assert Path(client().download_artifacts(run_id, "metrics/evaluate.json")).read_text() == "{}\n"


def test_a_run_keeps_its_first_name_unless_renamed(workspace: Path) -> None:
    publish(record())
    assert publish(record(run_name="second")).run_name == "first"
    assert publish(record(run_name="third", rename=True)).run_name == "third"
    assert runs()[0].info.run_name == "third"


def test_a_temporary_experiment_publishes_to_the_main_repository(
    workspace: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path_factory.mktemp("exps")
    shutil.copytree(workspace / "metrics", copy / "metrics")
    monkeypatch.setenv("DVC_ROOT", str(workspace))
    monkeypatch.chdir(copy)
    published = publish(record())
    assert published.uri == f"sqlite:///{workspace / 'mlflow.db'}"
    assert list(copy.iterdir()) == [copy / "metrics"]
    monkeypatch.chdir(workspace)
    assert sorted(artifact_paths(published.run_id)) == ["metrics/evaluate.json", "metrics/train/curves.csv"]


def test_the_tracking_uri_of_the_environment_is_honoured(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(workspace / "mlflow.db", workspace / "elsewhere.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{workspace / 'elsewhere.db'}")
    assert publish(record()).uri.endswith("/elsewhere.db")
    assert runs() == []


def test_a_server_that_is_unavailable_is_a_tracking_error_soon_and_without_its_password(
    workspace: Path, unreachable: None
) -> None:
    start = time.monotonic()
    with pytest.raises(TrackingError, match="Connection refused") as caught:
        publish(record())
    assert time.monotonic() - start < 20
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_server_that_never_answers_is_a_tracking_error_within_20_seconds(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each request waits for a second in place of what we have it wait, which is added."""
    wait_s = int(_DEFAULT_ENVIRONMENT["MLFLOW_HTTP_REQUEST_TIMEOUT"])
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        held: list[socket.socket] = []

        def accept() -> None:
            while True:
                try:
                    held.append(listener.accept()[0])
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{listener.getsockname()[1]}")
        start = time.monotonic()
        with pytest.raises(TrackingError):
            publish(record())
        assert held
        assert time.monotonic() - start + len(held) * (wait_s - 1) < 20
        listener.shutdown(socket.SHUT_RDWR)
        for connection in held:
            connection.close()


def test_a_deleted_experiment_is_an_error_that_says_how_to_restore_it(workspace: Path) -> None:
    publish(record())
    client().delete_experiment(client().get_experiment_by_name("mirip").experiment_id)
    with pytest.raises(TrackingError, match="mlflow experiments restore"):
        publish(record())


def test_nothing_is_printed_and_no_warning_leaks(workspace: Path, capfd: pytest.CaptureFixture[str]) -> None:
    publish(record())
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


@pytest.mark.slow
def test_the_output_folder_of_mirip_train_is_one_run_however_often_it_is_published(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = Workspace(write_output_folder(workspace / "run"), flat=True)
    params = load_params(PROJECT / "params.yaml")
    first = track(output, params).published
    assert first is not None
    assert first.run_name.startswith("sample squared")
    named = params.model_copy(update={"track": params.track.model_copy(update={"run_name": "by hand"})})
    again = track(output, named).published
    assert again is not None
    assert (again.run_id, again.run_name, again.status) == (first.run_id, "by hand", "updated")
    kept = ["best_model.pt", "curves.csv", "evaluate.json", "extract.json", "scores.csv", "split.json", "train.json"]
    assert sorted(artifact_paths(first.run_id)) == kept
    (output.root / "best_model.pt").write_bytes(b"other weights")
    other = track(output, params).published
    assert other is not None
    assert other.run_id != first.run_id
    assert not output.receipt.exists()


def test_a_training_that_finds_no_server_says_that_its_files_are_complete(workspace: Path, unreachable: None) -> None:
    output = Workspace(write_output_folder(workspace / "run"), flat=True)
    tracked = track(output, load_params(PROJECT / "params.yaml"))
    assert tracked.published is None
    assert tracked.warning.endswith("run are complete: run the same command again to publish them")
    assert not (workspace / ".mirip/unpublished").exists()


def write_output_folder(folder: Path) -> Path:
    """Write a result as `mirip train` leaves it, beside files that are no part of it."""
    folder.mkdir()
    for name, values in {
        "extract": {"rows": 4, "dim": 8, "fingerprint": "f" * 64, "content_digest": "c" * 64},
        "split": {"digest": "d" * 64, "n_train": 3},
        "train": {"val_pairwise_accuracy": 0.7},
        "evaluate": {"pairwise_accuracy": 0.6},
        "of_the_user": {"secret": 1},
    }.items():
        (folder / f"{name}.json").write_text(json.dumps(values))
    (folder / "best_model.pt").write_bytes(b"weights")
    (folder / "curves.csv").write_text("epoch,train_loss\n1,0.5\n")
    (folder / "scores.csv").write_text("id,group,tier,tier_rank,score\n")
    (folder / "features.h5").write_bytes(b"large")
    return folder


def test_the_key_does_not_depend_on_the_order_of_params() -> None:
    assert result_key({"a": 1, "b": 2}, {}) == result_key({"b": 2, "a": 1}, {})
    assert result_key({"a": 1}, {}) != result_key({"a": 2}, {})


def test_flatten_joins_sections_with_dots() -> None:
    assert flatten({"train": {"head": {"dim": 1}, "seed": 2}, "x": [1]}) == {
        "train.head.dim": 1,
        "train.seed": 2,
        "x": [1],
    }


@pytest.mark.slow
@pytest.mark.integration
def test_six_processes_on_a_fresh_folder_all_publish(workspace: Path) -> None:
    (workspace / "mlflow.db").unlink()
    keys = ["a", "b", "c", "d", "same", "same"]
    processes = [Forked(workspace, publish_result, key) for key in keys]
    ended = [process.end() for process in processes]
    assert [code for code, _, _ in ended] == [0] * 6, ended
    assert sorted(run.info.run_name for run in runs()) == sorted(set(keys))


@pytest.mark.parametrize(
    ("uri", "advice"),
    [
        ("mysql+cymysql://ann:secret@127.0.0.1/x", "`pip install cymysql`"),
        ("foo://ann:secret@host/x", "set MLFLOW_TRACKING_URI to one such as http://host:5000"),
        ("postgresql://ann:secret@host:port/x", "set MLFLOW_TRACKING_URI to one such as http://host:5000"),
        ("http://[::1", "set MLFLOW_TRACKING_URI to one such as http://host:5000"),
    ],
)
def test_an_address_that_cannot_be_used_loses_no_result_and_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, advice: str
) -> None:
    write_result_folder(tmp_path, n_images=200)
    (tmp_path / ".dvc").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    tracked = track(Workspace(), load_params())
    assert advice in tracked.warning
    assert tracked.warning.endswith("the result is kept until `mirip track --backfill` publishes it")
    assert "\n" not in tracked.warning
    assert "secret" not in tracked.warning
    assert len(list((tmp_path / ".mirip/unpublished").glob("*.tar"))) == 1


def test_a_store_of_files_whose_package_is_missing_says_what_to_install(workspace: Path) -> None:
    if find_spec("boto3"):
        pytest.skip("boto3 is installed")
    client().create_experiment("mirip", artifact_location="s3://bucket/folder")
    with pytest.raises(TrackingError, match="install it into this environment with `pip install boto3`"):
        publish(record())


def long_names(ending: str) -> dict[str, Any]:
    text = "long " * 60 + ending
    return {
        "run_name": text,
        "experiment": text,
        "params": {"train": {text: 1, f"{text} too": "x" * 9000}},
        "metrics": {"evaluate.pairwise_accuracy": 0.7, text: 0.5, f"{text} text": "y" * 9000},
        "tags": {f"{text} tag": "z" * 9000},
        "curves": pd.DataFrame({"epoch": [1], text: [0.5]}),
        "key": result_key({}, {"model": ending}),
    }


def check_long_names(store: Any) -> None:
    first, second = publish(record(**long_names("one"))), publish(record(**long_names("two")))
    assert publish(record(**long_names("one"), rename=True)).status == "unchanged"
    found = [store.get_run(published.run_id) for published in (first, second)]
    assert len({run.info.run_name for run in found}) == 2
    assert len({run.info.experiment_id for run in found}) == 2
    assert [len(run.data.params) for run in found] == [2, 2]
    assert all(run.info.status == "FINISHED" for run in found)


def test_names_and_texts_that_are_too_long_are_shortened_and_stay_distinct(workspace: Path) -> None:
    check_long_names(client())


@pytest.mark.integration
def test_what_postgresql_would_refuse_for_its_length_is_shortened(
    workspace: Path, postgresql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", postgresql)
    check_long_names(mlflow_client(postgresql))
