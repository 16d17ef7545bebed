"""The stage `track`: one run a result, and a server that is away loses nothing."""

import json
import os
import shutil
import socket
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from result_folder import edit_json, migrated_database, write_result_folder

from mirip.errors import DataError
from mirip.params import load_params
from mirip.tracking.backfill import LeftOut, backfill
from mirip.tracking.publishing import Published
from mirip.tracking.result import provenance_tags, read_metrics, read_result
from mirip.workspace import Workspace
from stages import track


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_result_folder(tmp_path_factory.mktemp("result"), n_images=200)
    (folder / ".dvc").mkdir()
    (folder / "mlflow.db").write_bytes(migrated_database())
    return folder


@pytest.fixture
def folder(result: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy = tmp_path / "project"
    shutil.copytree(result, copy)
    monkeypatch.chdir(copy)
    return copy


def runs() -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow import MlflowClient

        store = MlflowClient(tracking_uri=f"sqlite:///{Path.cwd() / 'mlflow.db'}")
        return list(store.search_runs([e.experiment_id for e in store.search_experiments()]))


def set_params(folder: Path, old: str, new: str) -> None:
    text = (folder / "params.yaml").read_text()
    assert old in text
    (folder / "params.yaml").write_text(text.replace(old, new))


def test_it_publishes_and_says_where(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    track.main()
    captured = capfd.readouterr()
    assert captured.out.startswith("track: run sample squared lr=0.0003 seed=42 ")
    assert captured.out.endswith(f"in sqlite:///{folder}/mlflow.db (new)\n")
    assert captured.err == ""


def test_a_run_holds_every_stages_metrics_the_active_recipe_and_the_curves(folder: Path) -> None:
    track.main()
    (run,) = runs()
    assert run.data.metrics["val_pairwise_accuracy"] == run.data.metrics["train.val_pairwise_accuracy"] == 0.708
    assert run.data.metrics["benchmark.pair_latency_ms_p50"] == 412.3
    assert "curve/val_loss" in run.data.metrics
    assert run.data.params["train.learning_rate"] == "0.0003"
    assert run.data.params["recipe.backbone"] == "models/backbones/sample"
    assert run.data.tags["mirip.hardware"] == "Intel Xeon, 2 cores"
    assert run.data.tags["mirip.fingerprint"] == read_metrics(Workspace(folder))["extract"]["fingerprint"]


def test_a_run_holds_the_model_and_the_dataset(folder: Path) -> None:
    track.main()
    (run,) = runs()
    assert len(run.outputs.model_outputs) == 1
    (entry,) = run.inputs.dataset_inputs
    assert run.data.tags["split.digest"].startswith(entry.dataset.digest)
    assert entry.dataset.name == "sample"
    assert json.loads(entry.dataset.profile)["n_images"] == 200


def test_the_same_result_again_is_the_same_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    track.main()
    track.main()
    assert capsys.readouterr().out.endswith("(unchanged)\n")
    assert len(runs()) == 1


def test_another_title_of_the_page_is_the_same_result_and_another_loss_is_not(folder: Path) -> None:
    track.main()
    set_params(folder, "title: Mirip", "title: Ours")
    set_params(folder, "pair_runs: 100", "pair_runs: 200")
    set_params(folder, "images: data/sample", "images: /elsewhere/sample")
    track.main()
    assert len(runs()) == 1
    set_params(folder, "loss: squared", "loss: margin")
    track.main()
    assert len(runs()) == 2


def test_another_model_is_another_result(folder: Path) -> None:
    track.main()
    (folder / "models/best_model.pt").write_bytes(b"other weights")
    track.main()
    assert len(runs()) == 2


def test_a_new_measurement_of_latency_is_the_same_run(folder: Path) -> None:
    track.main()
    edit_json(folder / "metrics/benchmark.json", pair_latency_ms_p50=400.0)
    track.main()
    (run,) = runs()
    assert run.data.metrics["benchmark.pair_latency_ms_p50"] == 400.0


@pytest.mark.slow
def test_an_experiments_name_and_baseline_are_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_EXP_NAME", "puffy-cats")
    monkeypatch.setenv("DVC_EXP_BASELINE_REV", "a" * 40)
    track.main()
    (run,) = runs()
    assert run.info.run_name == run.data.tags["dvc.experiment"] == "puffy-cats"
    assert run.data.tags["dvc.baseline"] == "a" * 40


def test_a_name_in_params_wins_and_renames(folder: Path) -> None:
    track.main()
    set_params(folder, "run_name:", "run_name: mine")
    track.main()
    (run,) = runs()
    assert run.info.run_name == "mine"


def test_git_tells_commit_and_whether_code_or_params_differ_from_it(folder: Path) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "-q"], ["add", "params.yaml", "metrics"], [*identity, "commit", "-qm", "start"]):
        subprocess.run(["git", *command], check=True)
    edit_json(folder / "metrics/train.json", epochs=29)
    tags = read_result(Workspace(folder), load_params(), provenance_tags()).tags
    assert len(tags["git.commit"]) == 40
    assert tags["git.dirty"] == "false"
    set_params(folder, "title: Mirip", "title: Ours")
    assert read_result(Workspace(folder), load_params(), provenance_tags()).tags["git.dirty"] == "true"


def test_tracking_turned_off_says_so_and_does_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    set_params(folder, "enabled: true", "enabled: false")
    track.main()
    assert "off" in capsys.readouterr().out
    assert runs() == []
    assert not json.loads(Workspace().receipt.read_text())["published"]


def test_the_receipt_names_the_result_and_is_no_part_of_it(folder: Path) -> None:
    track.main()
    receipt = json.loads(Workspace().receipt.read_text())
    (run,) = runs()
    assert receipt == {"key": run.data.tags["mirip.key"], "published": True}
    track.main()
    assert json.loads(Workspace().receipt.read_text()) == receipt


def test_without_a_result_there_is_nothing_to_publish(folder: Path) -> None:
    (folder / "metrics/evaluate.json").unlink()
    with pytest.raises(DataError, match=r"metrics/evaluate.json is not found.*dvc repro evaluate"):
        track.main()


@pytest.fixture
def no_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the tracking server stand at a port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{probe.getsockname()[1]}")
        yield


@pytest.mark.slow
def test_results_that_found_no_server_are_published_later_though_others_followed(
    folder: Path, no_server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = {0.6: b"first", 0.7: b"second"}
    for accuracy, weights in models.items():
        (folder / "models/best_model.pt").unlink()
        (folder / "cached").write_bytes(weights)
        (folder / "models/best_model.pt").symlink_to(folder / "cached")  # as DVC links to its cache
        edit_json(folder / "metrics/evaluate.json", pairwise_accuracy=accuracy)
        for _ in range(2):
            track.main()
    kept = sorted((folder / ".mirip/unpublished").iterdir())
    assert len(kept) == 2
    (folder / ".mirip/unpublished/other.tar").write_bytes(kept[0].read_bytes()[:2000])
    edit_json(folder / "metrics/evaluate.json", pairwise_accuracy=0.8)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    left_out = [found for found in backfill() if isinstance(found, LeftOut)]
    assert len(left_out) == 1
    assert "is damaged" in left_out[0].reason
    assert set(kept) <= set((folder / ".mirip/unpublished").iterdir())  # they were meant for another store
    by_accuracy = {run.data.metrics["pairwise_accuracy"]: run for run in runs()}
    assert sorted(by_accuracy) == [0.6, 0.7, 0.8]
    keys = [by_accuracy[accuracy].data.tags["mirip.key"] for accuracy in models]
    assert sorted(keys) == [path.name.partition("-")[0] for path in kept]
    for accuracy, weights in models.items():
        run = by_accuracy[accuracy]
        assert run.info.status == "FINISHED"
        assert (Path(run.info.artifact_uri.removeprefix("file://")) / "models/best_model.pt").read_bytes() == weights
        assert run.info.start_time < by_accuracy[0.8].info.start_time


def test_a_result_is_kept_no_longer_once_the_store_that_it_was_meant_for_has_it(folder: Path) -> None:
    store = (folder / "mlflow.db").read_bytes()
    (folder / "mlflow.db").write_bytes(b"no database")
    track.main()
    assert len(list((folder / ".mirip/unpublished").iterdir())) == 1
    (folder / "mlflow.db").write_bytes(store)
    assert [item.status for item in backfill() if isinstance(item, Published)] == ["new", "unchanged"]
    assert list((folder / ".mirip/unpublished").iterdir()) == []


@pytest.mark.slow
def test_a_server_that_is_unavailable_is_a_warning_with_the_command_to_publish_later(
    folder: Path, project_root: Path, no_server: None
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "stages.track"],
        env={**os.environ, "PYTHONPATH": str(project_root)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("warning: ")
    assert "mirip track --backfill" in done.stderr
