"""The model of a run: the trained ranker itself, logged once, loadable with and without mirip."""

import json
import os
import subprocess
import sys
import urllib.request
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from local_servers import free_port, wait_for
from made_checkpoint import DIM, write_checkpoint
from warm_python import commands_folder

from mirip.models.percentiles import score_summary
from mirip.models.ranking import PairwiseRankingModel
from mirip.tracking import logged_model
from mirip.tracking.logged_model import Ranker, exact_requirements, save_ranker, zip_package
from mirip.tracking.publishing import Published, publish
from mirip.tracking.result import RunRecord
from mirip.tracking.store import quiet_mlflow


def publish_ranker(checkpoint: Path) -> Published:
    return publish(RunRecord("mirip", "first", {}, {}, None, [], {}, "key", ranker=Ranker(checkpoint, DIM)))


def store() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=f"sqlite:///{Path.cwd() / 'mlflow.db'}")


def logged(run_id: str) -> list[Any]:
    client = store()
    return list(client.search_logged_models([client.get_run(run_id).info.experiment_id]))


def load(uri: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow

        return mlflow.pyfunc.load_model(uri)


def features(n: int) -> np.ndarray:
    return np.random.default_rng(7).normal(size=(n, DIM)).astype(np.float32)


def expected_scores(checkpoint: Path, rows: np.ndarray) -> np.ndarray:
    model = PairwiseRankingModel.from_checkpoint(checkpoint, device="cpu")
    with torch.inference_mode():
        return model.score(torch.from_numpy(rows)).numpy()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A model's folder, with its checkpoint beside it."""
    checkpoint = write_checkpoint(tmp_path / "best_model.pt", seeds=3)
    with quiet_mlflow():
        save_ranker(tmp_path / "model", Ranker(checkpoint, DIM))
    return tmp_path / "model"


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("n", [1, 5, 5000])
def test_it_scores_as_the_ranking_model_does(tmp_path: Path, seeds: int, n: int) -> None:
    checkpoint = write_checkpoint(tmp_path / "best_model.pt", seeds=seeds)
    with quiet_mlflow():
        save_ranker(tmp_path / "model", Ranker(checkpoint, DIM))
    found = load(str(tmp_path / "model")).predict(features(n))
    assert found["score"].to_numpy() == pytest.approx(expected_scores(checkpoint, features(n)), abs=1e-6)


def test_percentile_and_tier_are_those_of_mirip_score(saved: Path) -> None:
    found = load(str(saved)).predict(features(50))
    model = PairwiseRankingModel.from_checkpoint(saved.parent / "best_model.pt", device="cpu")
    assert model.checkpoint is not None
    for row in found.itertuples():
        expected = score_summary(model.checkpoint, row.score)
        assert row.percentile == pytest.approx(expected.percentile)
        assert row.likeliest_tier == expected.likeliest_tier
    assert found["likeliest_tier"].nunique() > 1


def test_its_example_has_several_rows_and_fits_its_signature(saved: Path) -> None:
    model = load(str(saved))
    assert model.input_example.shape == (4, DIM)
    assert model.metadata.get_input_schema().inputs[0].shape == (-1, DIM)
    assert model.metadata.get_output_schema().input_names() == ["score", "percentile", "likeliest_tier"]
    assert len(model.predict(model.input_example)) == 4


def test_features_of_another_width_are_refused_by_the_signature(saved: Path) -> None:
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException, match="does not match expected shape"):
        load(str(saved)).predict(np.zeros((2, DIM + 1), np.float32))


def test_a_row_that_is_not_finite_is_refused_and_named(saved: Path) -> None:
    features = np.zeros((3, DIM), np.float32)
    features[1, 0] = np.nan
    with pytest.raises(ValueError, match="1 rows hold values that are not finite, the first is row 1"):
        load(str(saved)).predict(features)


@pytest.mark.slow
def test_it_runs_where_mirip_is_not_installed(saved: Path, tmp_path: Path) -> None:
    """An interpreter that cannot import mirip loads the code that travels with the model."""
    program = (
        "import importlib.util, json, sys, warnings; warnings.simplefilter('ignore');"
        "assert importlib.util.find_spec('mirip') is None;"
        "import numpy as np, mlflow; model = mlflow.pyfunc.load_model(sys.argv[1]);"
        "print(json.dumps(model.predict(np.asarray(json.loads(sys.argv[2]), np.float32))['score'].tolist()));"
        "import mirip; assert 'mirip.zip' in mirip.__file__, mirip.__file__"
    )
    packages = next(path for path in map(Path, sys.path) if path.name == "site-packages")
    # -S leaves site-packages' .pth files aside, among them the one by which an editable mirip is found.
    command = [sys.executable, "-S", "-c", program, str(saved), json.dumps(features(3).tolist())]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(packages)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    scores = json.loads(done.stdout.splitlines()[-1])
    assert scores == pytest.approx(expected_scores(saved.parent / "best_model.pt", features(3)).tolist(), abs=1e-6)


def test_the_code_that_travels_never_goes_before_the_installed_one(saved: Path) -> None:
    before = list(sys.path)
    try:
        load(str(saved))
        assert sys.path[: len(before)] == before
    finally:
        sys.path[:] = before


def test_it_names_no_folder_of_the_machine_and_says_exactly_what_it_needs(saved: Path, project_root: Path) -> None:
    assert str(project_root) not in (saved / "MLmodel").read_text()
    lines = (saved / "requirements.txt").read_text().split()
    assert lines == exact_requirements(logged_model.REQUIREMENTS)
    assert all("==" in line and "+" not in line for line in lines)


def test_the_package_is_the_same_bytes_each_time(tmp_path: Path) -> None:
    one, other = (zip_package(tmp_path / name).read_bytes() for name in ("a.zip", "b.zip"))
    assert one == other
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert "mirip/models/ranking.py" in archive.namelist()
        assert not [name for name in archive.namelist() if "__pycache__" in name]


def test_a_published_run_has_its_model_in_the_models_tab(desk: Path) -> None:
    published = publish_ranker(write_checkpoint(desk / "best_model.pt"))
    (model,) = logged(published.run_id)
    assert (model.name, str(model.status.value), model.source_run_id) == ("mirip-ranker", "READY", published.run_id)
    run = store().get_run(published.run_id)
    assert [output.model_id for output in run.outputs.model_outputs] == [model.model_id]


def test_publishing_again_logs_nothing(desk: Path) -> None:
    checkpoint = write_checkpoint(desk / "best_model.pt")
    first = publish_ranker(checkpoint)
    (before,) = logged(first.run_id)
    assert publish_ranker(checkpoint).status == "unchanged"
    (after,) = logged(first.run_id)
    assert after.last_updated_timestamp == before.last_updated_timestamp


@pytest.mark.parametrize("step", ["log_model_artifacts", "finalize_logged_model", "log_outputs"])
def test_a_model_cut_off_at_any_step_is_completed_without_a_second(
    desk: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    from mlflow import MlflowClient

    checkpoint = write_checkpoint(desk / "best_model.pt")

    def cut_off(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, step, cut_off)
        with pytest.raises(KeyboardInterrupt):
            publish_ranker(checkpoint)
    published = publish_ranker(checkpoint)
    assert published.status == "updated"
    (model,) = logged(published.run_id)
    assert str(model.status.value) == "READY"
    outputs = store().get_run(published.run_id).outputs.model_outputs
    assert [output.model_id for output in outputs] == [model.model_id]
    assert publish_ranker(checkpoint).status == "unchanged"


@pytest.mark.slow
def test_a_publication_does_not_load_torch(desk: Path, project_root: Path) -> None:
    checkpoint = write_checkpoint(desk / "best_model.pt")
    program = (
        "import sys; from pathlib import Path; from mirip.tracking.publishing import publish;"
        "from mirip.tracking.result import RunRecord; from mirip.tracking.logged_model import Ranker;"
        f"ranker = Ranker(Path('{checkpoint}'), {DIM});"
        "publish(RunRecord('mirip', 'n', {}, {}, None, [], {}, 'k', ranker=ranker));"
        "print('torch' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(project_root)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("False\n", "")


@pytest.fixture
def served(desk: Path) -> Iterator[str]:
    """The address of `mlflow models serve` on a published run's model."""
    published = publish_ranker(write_checkpoint(desk / "best_model.pt", seeds=3))
    (model,) = logged(published.run_id)
    port, log = free_port(), desk / "serve.log"
    command = [str(commands_folder() / "mlflow"), "models", "serve", "--model-uri", f"models:/{model.model_id}"]
    command += ["--env-manager", "local", "--port", str(port)]
    # The scoring server is started as `uvicorn`, which has to be found.
    path = f"{commands_folder()}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "MLFLOW_TRACKING_URI": f"sqlite:///{desk / 'mlflow.db'}"}
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, cwd=desk, stdout=stream, stderr=stream, env=environment, start_new_session=True
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/ping", process, log)
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        os.killpg(process.pid, 15)
        process.wait(timeout=30)


def predictions(url: str, body: object) -> pd.DataFrame:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return pd.DataFrame(json.loads(answer.read())["predictions"])


@pytest.mark.slow
@pytest.mark.integration
def test_a_served_model_answers_with_the_scores_of_the_ranking_model(desk: Path, served: str) -> None:
    for n in (1, 2, 9):
        rows = features(n)
        expected = pytest.approx(expected_scores(desk / "best_model.pt", rows), abs=1e-5)
        frame = {"columns": list(range(DIM)), "data": rows.tolist()}
        for body in ({"dataframe_split": frame}, {"inputs": rows.tolist()}):
            assert predictions(served, body)["score"].to_numpy() == expected
    (model,) = logged(store().search_runs(["1"])[0].info.run_id)
    example = json.loads(
        (Path(model.artifact_location.removeprefix("file://")) / "serving_input_example.json").read_text()
    )
    answer = predictions(served, example)
    assert len(answer) == 4
    assert set(answer) == {"score", "percentile", "likeliest_tier"}
