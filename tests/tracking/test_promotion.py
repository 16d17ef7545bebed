"""The champion moves only to what is shown to be better, or by force, and never twice."""

import os
import subprocess
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from faulty_proxy import faulty_proxy
from made_checkpoint import DIM, write_checkpoint
from warm_python import commands_folder

from mirip.cli.main import main
from mirip.errors import PromotionError, TrackingError
from mirip.models.evaluation_count import record_evaluated
from mirip.tracking.dataset import Dataset
from mirip.tracking.logged_model import Ranker
from mirip.tracking.promotion import promote
from mirip.tracking.publishing import publish
from mirip.tracking.result import RunRecord

N = 160
SPLIT = "5" * 64


def write_scores(noise: float, seed: int, works: int, n_groups: int = 80) -> None:
    """Write metrics/scores.csv of a model that errs by `noise`, on a test split that `works` names."""
    rank = np.random.default_rng(works).choice(4, size=N, p=[0.25, 0.4, 0.25, 0.1])
    table = pd.DataFrame(
        {
            "id": [f"{works}-{k:04d}" for k in range(N)],
            "group": [f"{k % n_groups:04d}" for k in range(N)],
            "tier": ["CBAS"[r] for r in rank],
            "tier_rank": rank,
            "context": "0",
            "score": rank + noise * np.random.default_rng(seed).normal(size=N),
        }
    )
    Path("metrics").mkdir(exist_ok=True)
    table.to_csv("metrics/scores.csv", index=False)


def published(
    name: str,
    *,
    noise: float = 1.0,
    seed: int = 0,
    works: int = 0,
    split: str = SPLIT,
    model: bool = True,
    n_groups: int = 80,
    model_md5: str | None = None,
) -> str:
    """Publish a run with the scores of a model that errs by `noise`; return its id."""
    write_scores(noise, seed, works, n_groups)
    checkpoint = write_checkpoint(Path("models/best_model.pt"))
    metrics = {
        "evaluate.pairwise_accuracy": 0.7,
        "evaluate.pairwise_accuracy_ci_low": 0.6,
        "evaluate.pairwise_accuracy_ci_high": 0.8,
        "train.val_pairwise_accuracy": 0.72,
        "split.digest": split,
    }
    record = RunRecord(
        "mirip", name, {"name": name}, metrics, None, [Path("metrics")],
        {"mirip.model": model_md5} if model_md5 else {}, f"key of {name} {noise} {seed}",
        ranker=Ranker(checkpoint, DIM) if model else None,
        dataset=Dataset("works", split, "works.csv", {"n_images": N}),
    )  # fmt: skip
    return publish(record).run_id


def registry() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow import MlflowClient

        uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path.cwd() / 'mlflow.db'}"
        return MlflowClient(uri, uri)


def champion() -> Any:
    return registry().get_model_version_by_alias("mirip-ranker", "champion")


def versions() -> list[Any]:
    return list(registry().search_model_versions("name = 'mirip-ranker'"))


def test_the_first_model_is_promoted_and_that_is_said(desk: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run_id = published("first")
    assert main(["promote", "first"]) == 0
    printed = capfd.readouterr()
    assert printed.err == ""
    assert printed.out == (
        f"run first ({run_id[:8]}) is the champion now, mirip-ranker version 1: there was no champion before it; "
        "1 model has been evaluated on this test split: compare runs by val_pairwise_accuracy\n"
    )
    assert champion().run_id == run_id


@pytest.mark.slow
def test_a_version_says_how_good_it_is_and_on_which_side(desk: Path) -> None:
    published("first", noise=4.0)
    promote("first")
    published("second", noise=0.3)
    promote("second")
    version = champion()
    assert version.tags["verdict"] == "better"
    assert version.tags["against_version"] == "1"
    assert version.tags["split_digest"] == SPLIT
    assert (version.tags["pairwise_accuracy"], version.tags["pairwise_accuracy_ci_low"]) == ("0.7", "0.6")
    assert "pairwise accuracy 0.700, interval 0.600 to 0.800" in version.description
    assert "better than the champion, version 1, by +0." in version.description


def test_the_champion_is_what_models_are_loaded_by(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published("first")
    promote("first")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{desk / 'mlflow.db'}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow

        loaded = mlflow.pyfunc.load_model("models:/mirip-ranker@champion")
    assert len(loaded.predict(np.zeros((3, DIM), np.float32))) == 3


@pytest.mark.slow
def test_what_is_within_noise_or_worse_is_refused_and_the_champion_stays(
    desk: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first = published("first", noise=1.0)
    promote("first")
    published("similar", seed=1)
    published("bad", noise=9.0)
    for name, says in (("similar", "within noise of the champion, version 1"), ("bad", "worse than the champion")):
        assert main(["promote", name]) == 1
        printed = capfd.readouterr()
        assert printed.out == ""
        assert printed.err.startswith(f"error: run {name} (")
        assert printed.err.count("\n") == 1
        assert says in printed.err
        assert "3 models have been evaluated on this test split: compare runs by val_pairwise_accuracy" in printed.err
        assert "--force" in printed.err
    assert champion().run_id == first
    assert len(versions()) == 1


@pytest.mark.slow
def test_force_promotes_what_is_worse_and_says_so(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    published("first")
    promote("first")
    bad = published("bad", noise=9.0)
    assert main(["promote", "bad", "--force"]) == 0
    assert "is the champion now, by force, mirip-ranker version 2: it is worse than" in capsys.readouterr().out
    assert champion().run_id == bad
    assert champion().tags["verdict"] == "worse"


@pytest.mark.slow
def test_promoting_again_makes_no_second_version(desk: Path) -> None:
    published("first", noise=4.0)
    promote("first")
    assert "is the champion already, mirip-ranker version 1" in promote("first")
    published("second", noise=0.3)
    promote("second")
    promote("first", force=True)
    assert sorted(int(version.version) for version in versions()) == [1, 2]
    assert str(champion().version) == "1"


@pytest.mark.slow
def test_models_evaluated_on_different_splits_are_not_compared(desk: Path) -> None:
    published("first")
    promote("first")
    other = published("other", noise=0.1, works=1, split="6" * 64)
    with pytest.raises(PromotionError, match=r"cannot be compared with the champion, version 1.*different test splits"):
        promote("other")
    assert "by force" in promote("other", force=True)
    assert champion().run_id == other
    assert champion().tags["verdict"] == "not compared"


def test_a_champion_without_scores_is_beaten_only_by_force(desk: Path) -> None:
    first = published("first")
    promote("first")
    uri = registry().get_run(first).info.artifact_uri
    (Path(uri.removeprefix("file://")) / "metrics/scores.csv").unlink()
    published("second", noise=0.1)
    with pytest.raises(PromotionError, match=r"run first \(.*\) holds no scores.csv"):
        promote("second")


@pytest.mark.slow
def test_a_champion_whose_run_was_deleted_for_good_is_beaten_only_by_force(desk: Path) -> None:
    first = published("first")
    promote("first")
    registry().delete_run(first)
    subprocess.run(
        [commands_folder() / "mlflow", "gc", "--backend-store-uri", f"sqlite:///{desk}/mlflow.db"],
        check=True,
        capture_output=True,
        env={**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{desk}/mlflow.db"},
    )
    second = published("second", noise=0.1)
    with pytest.raises(PromotionError, match=f"cannot be compared with the champion, version 1: its run {first} was"):
        promote("second")
    assert "by force" in promote("second", force=True)
    assert champion().run_id == second


def test_models_that_only_this_repository_has_evaluated_count_too(desk: Path) -> None:
    for k in range(7):
        record_evaluated(SPLIT, f"checkpoint {k}", 0.5)
    published("first")
    assert "7 models have been evaluated" in promote("first")


def test_a_run_without_a_model_is_refused(desk: Path) -> None:
    published("bare", model=False)
    with pytest.raises(PromotionError, match=r"holds no whole model: publish it again"):
        promote("bare")


@pytest.mark.slow
def test_a_run_is_known_by_its_id_or_the_beginning_of_it(desk: Path) -> None:
    run_id = published("first")
    promote(run_id[:6])
    assert champion().run_id == run_id
    assert "already" in promote(run_id)


def test_a_name_borne_twice_is_refused_with_both(desk: Path) -> None:
    ids = [published("twin", noise=noise) for noise in (1.0, 2.0)]
    with pytest.raises(PromotionError, match="twin may be any of") as caught:
        promote("twin")
    assert all(run_id[:12] in str(caught.value) for run_id in ids)
    assert "\n" not in str(caught.value)


def test_a_beginning_that_fits_several_runs_is_refused_with_those(desk: Path) -> None:
    ids: list[str] = []
    while len({run_id[0] for run_id in ids}) == len(ids):  # of 17 ids two begin alike
        ids.append(published(f"run {len(ids)}", model=False))
    twins = [run_id for run_id in ids if run_id[0] == ids[-1][0]]
    with pytest.raises(PromotionError) as caught:
        promote(ids[-1][0])
    assert all(run_id[:12] in str(caught.value) for run_id in twins)


def test_of_a_small_test_split_nobody_is_promoted_without_force(desk: Path) -> None:
    published("first", noise=4.0, n_groups=20)
    promote("first")
    published("second", noise=0.3, n_groups=20)
    with pytest.raises(
        PromotionError, match=r"not promoted: whether it is better than .* is undecided: there are too few groups"
    ):
        promote("second")
    assert "by force" in promote("second", force=True)


def test_of_a_small_test_split_the_scores_out_of_fold_decide(desk: Path) -> None:
    for name, noise in (("first", 4.0), ("second", 0.3)):
        write_scores(noise, 0, 0)
        whole = pd.read_csv("metrics/scores.csv", dtype={"id": str, "group": str})
        whole.assign(fold=np.arange(N) % 80 % 4).to_csv("metrics/out_of_fold_scores.csv", index=False)
        published(name, noise=noise, n_groups=20)
    promote("first")
    assert "better than the champion, version 1" in promote("second")


@pytest.mark.parametrize("wanted", ["nobody", 'it\'s "me"', "0000", ""])
def test_an_unknown_run_is_one_line(desk: Path, wanted: str, capsys: pytest.CaptureFixture[str]) -> None:
    published("first", model=False)
    assert main(["promote", wanted]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_without_a_store_nothing_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PromotionError, match=r"there is no sqlite:.*dvc repro"):
        promote("first")
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_is_away_is_one_line_and_exit_1(
    desk: Path, unused_port: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{unused_port}")
    assert main(["promote", "first"]) == 1
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"error: nothing was promoted in http://127.0.0.1:{unused_port}: ")
    assert printed.err.count("\n") == 1


@pytest.mark.slow
@pytest.mark.integration
def test_a_real_server_holds_run_model_dataset_and_champion(desk: Path, server: str) -> None:
    first = published("first", noise=4.0)
    client = registry()
    published("first", noise=4.0)
    run = client.get_run(first)
    assert len(client.search_runs([run.info.experiment_id])) == 1
    (model,) = client.search_logged_models([run.info.experiment_id])
    assert [output.model_id for output in run.outputs.model_outputs] == [model.model_id]
    assert [entry.dataset.digest for entry in run.inputs.dataset_inputs] == [SPLIT[:36]]
    promote("first")
    published("similar", noise=4.0, seed=1)
    with pytest.raises(TrackingError, match="not promoted"):
        promote("similar")
    second = published("second", noise=0.3)
    assert "better than the champion, version 1" in promote(second[:8])
    assert champion().run_id == second
    assert not (desk / "mlartifacts").exists()


def test_a_removed_alias_lets_no_model_pass_uncompared(desk: Path) -> None:
    first = published("first")
    promote("first")
    published("bad", noise=9.0)
    registry().delete_registered_model_alias("mirip-ranker", "champion")
    with pytest.raises(PromotionError, match="not promoted: it is worse than the champion, version 1"):
        promote("bad")
    assert "is the champion already" in promote("first")
    assert champion().run_id == first


def test_of_several_versions_the_one_that_had_the_alias_last_counts(desk: Path) -> None:
    for name, noise in (("first", 0.3), ("second", 9.0)):
        published(name, noise=noise)
        promote(name, force=True)
    promote("first", force=True)
    registry().delete_registered_model_alias("mirip-ranker", "champion")
    published("third", noise=1.0, seed=1)
    with pytest.raises(PromotionError, match="the champion, version 1"):
        promote("third")


def test_a_model_that_has_several_runs_is_counted_once(desk: Path) -> None:
    published("first", model_md5="a")
    published("copy", seed=1, model_md5="a")
    published("other", seed=2, model_md5="b")
    assert "2 models have been evaluated on this test split" in promote("first")


@pytest.mark.slow
@pytest.mark.integration
def test_a_version_whose_answer_was_lost_is_made_once(desk: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    published("first")
    with faulty_proxy(server) as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        assert "is the champion now, mirip-ranker version 1" in promote("first")
    assert [str(version.version) for version in versions()] == ["1"]
