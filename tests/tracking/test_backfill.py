"""Publishing what Git, dvc.lock and DVC's cache still know, in real repositories."""

import io
import shutil
import subprocess
import tarfile
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml
from result_folder import edit_json, migrated_database, write_result_folder

from mirip.cli.main import main
from mirip.errors import DataError, TrackingError
from mirip.files import md5_file
from mirip.tracking.backfill import Failed, LeftOut, backfill, publish_workspace
from mirip.tracking.publishing import Published


class Repository:
    """A project with results in Git; what Git leaves out stands in DVC's cache."""

    def __init__(self, root: Path) -> None:
        self.root, self._seconds = root, 1_700_000_000

    def git(self, *arguments: str) -> str:
        """Run Git at the time of the repository's own clock."""
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        date = f"@{self._seconds} +0000"
        return subprocess.run(
            ["git", *identity, *arguments], check=True, capture_output=True, text=True, cwd=self.root,
            env={"PATH": "/usr/bin:/bin", "GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date},
        ).stdout.strip()  # fmt: skip

    def result(self, loss: str, accuracy: float, model: bytes) -> None:
        """Leave a result in the workspace, as `dvc repro` would."""
        params = yaml.safe_load((self.root / "params.yaml").read_text())
        params["train"]["loss"] = loss
        (self.root / "params.yaml").write_text(yaml.safe_dump(params))
        edit_json(self.root / "metrics/evaluate.json", pairwise_accuracy=accuracy)
        (self.root / "models/best_model.pt").write_bytes(model)
        self.lock()

    def lock(self) -> None:
        """Record the workspace in dvc.lock, and its model in DVC's cache."""
        params = yaml.safe_load((self.root / "params.yaml").read_text())
        outs = ["models/best_model.pt", "metrics/evaluate.json", "metrics/train.json"]
        entries = [{"path": path, "md5": md5_file(self.root / path)} for path in outs]
        stage = {"cmd": "x", "params": {"params.yaml": {"train": params["train"]}}, "outs": entries}
        lock = {"schema": "2.0", "stages": {"train": stage}}
        (self.root / "dvc.lock").write_text(yaml.safe_dump(lock))
        md5 = entries[0]["md5"]
        cached = self.root / ".dvc/cache/files/md5" / md5[:2] / md5[2:]
        cached.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.root / "models/best_model.pt", cached)

    def commit(self, message: str) -> str:
        """Commit the workspace, a minute after the last commit."""
        self._seconds += 60
        self.git("add", "-A")
        self.git("commit", "-qm", message)
        return self.git("rev-parse", "HEAD")

    def runs(self) -> list[Any]:
        """All runs of the local store, oldest first."""
        ids = [experiment.experiment_id for experiment in self.store().search_experiments()]
        return sorted(self.store().search_runs(ids), key=lambda run: run.info.start_time)

    def store(self) -> Any:
        """A client of the local store."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from mlflow import MlflowClient

            return MlflowClient(tracking_uri=f"sqlite:///{self.root / 'mlflow.db'}")


@pytest.fixture(scope="module")
def _result(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_result_folder(tmp_path_factory.mktemp("result"), n_images=200)
    subprocess.run(["git", "init", "-qb", "main"], cwd=folder, check=True)
    (folder / ".dvc").mkdir()
    (folder / ".dvc/config").touch()
    (folder / ".gitignore").write_text(
        "/data\n/models\n/mlflow.db\n/mlartifacts\n/.mirip\n/.dvc/cache\n/.dvc/tmp\n/.dvc/.gitignore\n"
    )
    (folder / "mlflow.db").write_bytes(migrated_database())
    return folder


@pytest.fixture
def repository(_result: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """A repository of two results, each a commit on main, and a third that is an experiment; on the first's branch."""
    shutil.copytree(_result, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    repository = Repository(tmp_path / "project")
    repository.result("logistic", 0.7, b"first")
    first = repository.commit("first")
    repository.result("margin", 0.8, b"second")
    second = repository.commit("second")
    repository.result("margin", 0.9, b"third")
    experiment = repository.commit("an experiment")
    repository.git("update-ref", f"refs/exps/{second[:2]}/{second[2:]}/puffy-cats", experiment)
    repository.git("reset", "-q", "--hard", second)
    (repository.root / "models/best_model.pt").write_bytes(b"second")
    repository.git("branch", "-q", "older", first)
    return repository


def published() -> list[Published]:
    found = list(backfill())
    assert not [item for item in found if isinstance(item, LeftOut)]
    return [item for item in found if isinstance(item, Published)]


@pytest.mark.slow
def test_each_result_that_git_knows_becomes_a_run_in_the_order_it_was_made(repository: Repository) -> None:
    assert [item.status for item in published()][:3] == ["new", "new", "new"]
    runs = repository.runs()
    assert [run.data.metrics["pairwise_accuracy"] for run in runs] == [0.7, 0.8, 0.9]
    assert [run.info.start_time for run in runs] == [(1_700_000_000 + 60 * n) * 1000 for n in (1, 2, 3)]
    assert [run.data.params["train.loss"] for run in runs] == ["logistic", "margin", "margin"]
    assert all(run.info.status == "FINISHED" for run in runs)
    assert runs[0].data.tags["git.commit"] == repository.git("rev-parse", "older")


@pytest.mark.slow
def test_an_experiment_keeps_its_name_and_baseline(repository: Repository) -> None:
    published()
    run = repository.runs()[-1]
    assert run.info.run_name == run.data.tags["dvc.experiment"] == "puffy-cats"
    assert run.data.tags["dvc.baseline"] == repository.git("rev-parse", "main")


@pytest.mark.slow
def test_the_model_comes_from_the_cache_of_dvc(repository: Repository) -> None:
    published()
    first = repository.runs()[0]
    assert (
        Path(repository.store().download_artifacts(first.info.run_id, "models/best_model.pt")).read_bytes() == b"first"
    )


@pytest.mark.slow
def test_a_model_that_is_nowhere_leaves_its_result_with_all_else_and_comes_later(repository: Repository) -> None:
    cache = repository.root / ".dvc/cache"
    cache.rename(repository.root / "away")
    published()
    run_id = repository.runs()[0].info.run_id
    assert not [item.path for item in repository.store().list_artifacts(run_id) if item.path == "models"]
    shutil.move(repository.root / "away", cache)
    published()
    assert [run.info.run_id for run in repository.runs()].count(run_id) == 1
    assert [item.path for item in repository.store().list_artifacts(run_id, "models")] == ["models/best_model.pt"]


@pytest.mark.slow
def test_again_it_changes_nothing(repository: Repository) -> None:
    published()
    before = [(run.info.run_id, run.data.tags, run.data.metrics) for run in repository.runs()]
    assert {item.status for item in published()} == {"unchanged"}
    assert [(run.info.run_id, run.data.tags, run.data.metrics) for run in repository.runs()] == before
    for run_id, _, _ in before:
        assert len(repository.store().get_metric_history(run_id, "pairwise_accuracy")) == 1


@pytest.mark.slow
def test_what_was_published_at_the_time_is_not_told_again(repository: Repository) -> None:
    run_id = publish_workspace().run_id
    edit_json(repository.root / "metrics/benchmark.json", pair_latency_ms_p50=1.0)
    repository.commit("measured again")
    publish_workspace()
    repository.git("reset", "-q", "--hard", "HEAD~1")
    published()
    history = repository.store().get_metric_history(run_id, "benchmark.pair_latency_ms_p50")
    assert [point.value for point in history][:2] == [412.3, 1.0]


@pytest.mark.slow
def test_a_commit_whose_params_did_not_run_is_left_out_with_the_reason(repository: Repository) -> None:
    text = (repository.root / "params.yaml").read_text()
    (repository.root / "params.yaml").write_text(text.replace("loss: margin", "loss: logistic"))
    edit_json(repository.root / "metrics/split.json", n_test=1)
    repository.commit("edited, not run")
    repository.git("update-ref", "refs/tags/edited", "HEAD")
    repository.git("reset", "-q", "--hard", "HEAD~1")
    (left_out,) = (item for item in backfill() if isinstance(item, LeftOut))
    assert "train" in left_out.reason
    assert "dvc repro" not in left_out.reason  # nobody runs the past again
    assert len(repository.runs()) == 3


@pytest.mark.slow
def test_a_workspace_whose_params_did_not_run_is_not_published(repository: Repository) -> None:
    text = (repository.root / "params.yaml").read_text()
    (repository.root / "params.yaml").write_text(text.replace("loss: margin", "loss: logistic"))
    with pytest.raises(DataError, match=r"train\.loss logistic, and dvc.lock recorded margin: run `dvc repro`"):
        publish_workspace()


def test_metrics_edited_by_hand_are_not_published(repository: Repository) -> None:
    edit_json(repository.root / "metrics/evaluate.json", pairwise_accuracy=0.99)
    with pytest.raises(DataError, match=r"metrics/evaluate\.json is not what dvc.lock recorded"):
        publish_workspace()


def test_the_model_of_another_result_is_not_published(repository: Repository) -> None:
    (repository.root / "models/best_model.pt").write_bytes(b"first")
    with pytest.raises(DataError, match=r"best_model.pt is not what dvc.lock recorded.*dvc checkout"):
        publish_workspace()


@pytest.mark.slow
def test_nothing_is_left_behind(repository: Repository) -> None:
    published()
    assert [path.name for path in (repository.root / ".mirip").iterdir()] == ["track.lock"]
    assert repository.git("status", "--short") == ""


def test_where_there_is_no_project_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"params\.yaml is not found"):
        list(backfill())


@pytest.mark.slow
@pytest.mark.parametrize("path", ["dvc.lock", "params.yaml"])
def test_a_commit_that_cannot_be_read_is_left_out_and_the_others_are_published(
    repository: Repository, path: str
) -> None:
    repository.git("switch", "-qc", "conflict")
    text = (repository.root / path).read_text()
    (repository.root / path).write_text(f"<<<<<<< HEAD\n{text}")
    edit_json(repository.root / "metrics/evaluate.json", pairwise_accuracy=0.1)
    commit = repository.commit("a conflict")
    repository.git("switch", "-q", "main")
    found = list(backfill())
    (left_out,) = [item for item in found if isinstance(item, LeftOut)]
    assert str(left_out.source) == commit[:7]
    assert left_out.reason.startswith(f"{path} is not valid YAML")
    assert len(repository.runs()) == 3


@pytest.mark.slow
def test_a_run_begun_after_a_result_of_the_past_does_not_end_before_it(repository: Repository) -> None:
    store = repository.store()
    published()
    (old, *_) = repository.runs()
    store.delete_run(old.info.run_id)
    begun = store.create_run(old.info.experiment_id, tags={"mirip.key": old.data.tags["mirip.key"]})
    published()
    run = store.get_run(begun.info.run_id)
    assert run.info.status == "FINISHED"
    assert run.info.end_time >= run.info.start_time > old.info.start_time


def into_a_deleted_experiment(repository: Repository) -> str:
    """Commit a result between the others that MLflow refuses; return the commit."""
    store = repository.store()
    store.delete_experiment(store.create_experiment("gone"))
    repository.git("switch", "-qc", "refused", "older")
    text = (repository.root / "params.yaml").read_text()
    (repository.root / "params.yaml").write_text(text.replace("experiment: mirip", "experiment: gone"))
    edit_json(repository.root / "metrics/evaluate.json", pairwise_accuracy=0.75)
    (repository.root / "models/best_model.pt").write_bytes(b"refused")
    repository.lock()
    commit = repository.commit("refused")
    repository.git("switch", "-q", "main")
    (repository.root / "models/best_model.pt").write_bytes(b"second")
    return commit


@pytest.mark.slow
def test_a_result_that_is_refused_stops_none_of_the_others_and_is_named(
    repository: Repository, capfd: pytest.CaptureFixture[str]
) -> None:
    commit = into_a_deleted_experiment(repository)
    assert main(["track", "--backfill"]) == 1
    printed = capfd.readouterr()
    assert printed.out.count("track: run ") == 4  # three and the workspace's, which is the second again
    refused, said = printed.err.splitlines()
    assert refused.startswith(f"track: failed {commit[:7]}: the MLflow experiment 'gone' is deleted")
    assert said == f"error: 1 result was not published ({commit[:7]}): mend the cause, then run this again"
    assert sorted(run.data.metrics["pairwise_accuracy"] for run in repository.runs()) == [0.7, 0.8, 0.9]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stages", "reason"),
    [
        ("{train: 5}", "dvc.lock is damaged: stages.train: Input should be"),
        ("{train: {outs: {}}}", "dvc.lock is damaged: stages.train.outs: Input should be"),
        ("[1]", "dvc.lock is damaged: stages: Input should be"),
        (None, "its files cannot be used ('metrics/link' would link to"),
    ],
)
def test_an_odd_commit_is_left_out_and_the_others_are_published(
    repository: Repository, stages: str | None, reason: str
) -> None:
    repository.git("switch", "-qc", "odd")
    if stages is None:
        (repository.root / "metrics/link").symlink_to("../../elsewhere")
    else:
        (repository.root / "dvc.lock").write_text(f"schema: '2.0'\nstages: {stages}\n")
    commit = repository.commit("odd")
    repository.git("switch", "-q", "main")
    found = list(backfill())
    (left_out,) = [item for item in found if isinstance(item, LeftOut)]
    assert str(left_out.source) == commit[:7]
    assert left_out.reason.startswith(reason)
    assert len(repository.runs()) == 3


@pytest.mark.slow
@pytest.mark.parametrize("stages", ["null", "{train: {outs: [{path: models/best_model.pt, etag: x, size: 3}]}}"])
def test_a_commit_whose_lock_names_no_model_is_left_out_for_that(repository: Repository, stages: str) -> None:
    (repository.root / "dvc.lock").write_text(f"schema: '2.0'\nstages: {stages}\n")
    repository.commit("odd")
    (left_out,) = [item for item in backfill() if isinstance(item, LeftOut)]
    assert left_out.reason.startswith("models/best_model.pt is not found")
    assert len(repository.runs()) == 3


@pytest.mark.parametrize("origin", [b"[1]", b'{"made_ms": 1, "tags": 5}', b'{"tags": {}}', b"{"])
def test_a_kept_result_of_unknown_origin_is_left_out(repository: Repository, origin: bytes) -> None:
    kept = repository.root / ".mirip/unpublished"
    kept.mkdir(parents=True)
    with tarfile.open(kept / "y.tar", "w") as archive:
        member = tarfile.TarInfo("origin.json")
        member.size = len(origin)
        archive.addfile(member, io.BytesIO(origin))
    (left_out,) = [item for item in backfill() if isinstance(item, LeftOut)]
    assert left_out.source == kept / "y.tar"
    assert left_out.reason.startswith("it is damaged (")


@pytest.mark.slow
def test_a_curve_that_is_damaged_leaves_out_its_commit_alone(repository: Repository) -> None:
    repository.git("switch", "-qc", "damaged")
    (repository.root / "metrics/train/curves.csv").write_text("")
    edit_json(repository.root / "metrics/evaluate.json", pairwise_accuracy=0.1)
    repository.lock()
    repository.commit("damaged")
    repository.git("switch", "-q", "main")
    found = list(backfill())
    (left_out,) = [item for item in found if isinstance(item, LeftOut)]
    assert left_out.reason.startswith("metrics/train/curves.csv is damaged")
    assert len(repository.runs()) == 3


def test_without_a_store_it_ends_at_the_first_result(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "foo://x")
    with pytest.raises(TrackingError, match="foo://x is not the address of an MLflow store"):
        assert not [item for item in backfill() if isinstance(item, Failed)]
