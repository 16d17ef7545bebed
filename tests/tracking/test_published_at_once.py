"""Once per result, also where several clones publish it at once, and where answers of the server are late or lost."""

import time
from pathlib import Path

import pytest
from faulty_proxy import faulty_proxy
from forked import Forked, publish_from
from made_checkpoint import write_checkpoint
from mlflow_store import client, runs

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def clones(folder: Path, number: int) -> list[Path]:
    made = []
    for k in range(number):
        root = folder / f"clone{k}"
        (root / ".dvc").mkdir(parents=True)
        (root / "metrics").mkdir()
        (root / "metrics/evaluate.json").write_text('{"pairwise_accuracy": 0.5}\n')
        (root / "models").mkdir()
        write_checkpoint(root / "models/best_model.pt")
        made.append(root)
    return made


def published_at_once(roots: list[Path], uris: list[str], keys: list[str]) -> None:
    begin = time.time() + 1
    processes = [Forked(root, publish_from, str(root), uri, keys, begin) for root, uri in zip(roots, uris, strict=True)]
    ended = [process.end() for process in processes]
    assert [code for code, _, _ in ended] == [0] * len(roots), ended
    assert all(not err for _, _, err in ended), ended


def check_complete(uri: str, keys: list[str]) -> None:
    store = client(uri)
    found = runs(uri)
    assert sorted(run.data.tags["mirip.key"] for run in found) == sorted(keys)
    for run in found:
        run_id = run.info.run_id
        assert run.info.status == "FINISHED"
        assert run.data.params == {"seed": run.data.tags["mirip.key"]}
        assert run.data.tags["evaluate.verdict"] == "met"
        assert len(store.get_metric_history(run_id, "pairwise_accuracy")) == 1
        assert [point.step for point in store.get_metric_history(run_id, "curve/train_loss")] == [1, 2, 3]
        assert [entry.path for entry in store.list_artifacts(run_id, "metrics")] == ["metrics/evaluate.json"]
        assert len(run.inputs.dataset_inputs) == 1
        models = store.search_logged_models([run.info.experiment_id], f"source_run_id = '{run_id}'")
        assert [str(model.status) for model in models] == ["READY"]
        assert models[0].model_id in [output.model_id for output in run.outputs.model_outputs]


def test_two_clones_that_publish_the_same_results_at_once_leave_one_run_of_each(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [f"result {k}" for k in range(2)]
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with faulty_proxy(server, late_s=1.5) as uri:
        published_at_once(clones(tmp_path, 2), [server, uri], keys)
    check_complete(server, keys)


def test_two_clones_publish_at_once_to_a_new_postgresql_database(tmp_path: Path, postgresql: str) -> None:
    published_at_once(clones(tmp_path, 2), [postgresql] * 2, ["result 1", "result 2"])
    check_complete(postgresql, ["result 1", "result 2"])


@pytest.mark.parametrize("late_s", [0.0, 1.5])
def test_answers_that_are_lost_or_late_make_no_second_run_and_no_second_model(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late_s: float
) -> None:
    (root,) = clones(tmp_path, 1)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with faulty_proxy(server, late_s=late_s) as uri:
        published_at_once([root], [uri], ["result"])
    check_complete(server, ["result"])


def test_an_empty_run_that_an_earlier_publication_left_behind_goes(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roots = clones(tmp_path, 1)
    published_at_once(roots, [server], ["result"])
    (run,) = runs(server)
    client(server).create_run(run.info.experiment_id, tags={"mirip.key": "result"}, start_time=1)
    published_at_once(roots, [server], ["result"])
    check_complete(server, ["result"])
    assert runs(server)[0].info.run_id == run.info.run_id
