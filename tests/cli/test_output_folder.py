"""The output folder of `mirip train`: one training at a time, and the results of one alone."""

import os
from collections import Counter
from pathlib import Path

import pytest

from mirip.cli.output_folder import check_output_file, output_folder, results
from mirip.errors import DataError
from mirip.locks import locked_file
from mirip.workspace import Workspace


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder `run` of the working directory, which does not exist yet."""
    monkeypatch.chdir(tmp_path)
    return Path("run")


def fill(workspace: Workspace, text: str) -> None:
    workspace.root.mkdir(parents=True, exist_ok=True)
    for path in results(workspace):
        path.write_text(text)


def found(root: Path) -> Counter[str]:
    """Return how often each text is among the results in a folder."""
    return Counter(path.read_text() for path in results(Workspace(root, flat=True)) if path.exists())


def test_new_results_take_the_place_of_the_earlier_ones(root: Path) -> None:
    fill(Workspace(root, flat=True), "earlier")
    (root / "notes.txt").write_text("mine")
    with output_folder(root) as folder:
        fill(folder.unfinished, "new")
        assert set(found(root)) == {"earlier"}
        folder.finish()
    assert set(found(root)) == {"new"}
    assert {path.name for path in root.iterdir()} == {path.name for path in results(folder.finished)} | {"notes.txt"}


@pytest.mark.parametrize("step", range(24))
def test_results_of_two_trainings_are_never_mixed(root: Path, step: int, monkeypatch) -> None:
    """Whichever of the 24 steps is the last one before the process is killed."""
    fill(Workspace(root, flat=True), "earlier")
    done: list[object] = []

    def until_killed(function):
        def call(*arguments, **options):
            if len(done) == step:
                raise KeyboardInterrupt
            done.append(function(*arguments, **options))

        return call

    def train() -> None:
        with output_folder(root) as folder:
            fill(folder.unfinished, "new")
            with monkeypatch.context() as patch:
                for name in ("unlink", "replace"):
                    patch.setattr(Path, name, until_killed(getattr(Path, name)))
                folder.finish()

    with pytest.raises(KeyboardInterrupt):
        train()
    there = found(root)
    assert len(there) <= 1
    assert not (root / "best_model.pt").exists() or there.total() == 12


def test_what_a_killed_training_left_is_no_part_of_the_next_one(root: Path) -> None:
    with output_folder(root) as folder:
        fill(folder.unfinished, "killed")
        partial = folder.unfinished.root / ".best_model.pt.abc.tmp"
        partial.write_text("half a model")
        others = folder.unfinished.root / "notes.txt"
        others.write_text("mine")
    with output_folder(root):
        assert list(folder.unfinished.root.iterdir()) == [others]


def test_another_training_is_refused_until_the_first_has_ended(root: Path) -> None:
    with (
        output_folder(root),
        pytest.raises(DataError, match="another `mirip train` writes into run: wait until it has ended, or give anoth"),
        output_folder(root),
    ):
        pass
    with output_folder(root):
        pass


def test_nothing_is_left_of_a_folder_into_which_nothing_was_written(root: Path) -> None:
    with output_folder(root / "this" / "summer"):
        assert (root / "this" / "summer").is_dir()
    assert not root.exists()


@pytest.mark.parametrize(
    ("path", "folder", "said"),
    [
        ("run", False, "a file is in its place"),
        ("run/checkpoints", False, "Not a directory"),
        ("run/best_model.pt", True, "a folder is in its place"),
    ],
)
def test_a_folder_that_cannot_be_written_to_is_refused_at_once(root: Path, path, folder, said: str) -> None:
    Path(path).parent.mkdir(exist_ok=True)
    Path(path).mkdir() if folder else Path(path).write_text("a file")
    with pytest.raises(DataError, match=rf"{path} cannot be written \({said}\)") as refused, output_folder(root):
        pass
    assert refused.value.advice == "give --output a place that you may write to and that has space left"


def test_a_folder_below_a_file_is_refused(root: Path) -> None:
    root.write_text("a file")
    with (
        pytest.raises(DataError, match=r"run/first cannot be written \(Not a directory\)"),
        output_folder(root / "first"),
    ):
        pass


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="whoever may write everywhere is refused nowhere")
def test_a_folder_that_may_only_be_read_is_refused(root: Path) -> None:
    root.mkdir(mode=0o500)
    with pytest.raises(DataError, match=r"run cannot be written \(Permission denied\)"), output_folder(root):
        pass


def test_a_full_disk_is_noticed(root: Path, monkeypatch) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match=r"run cannot be written \(No space left on device\)"), output_folder(root):
        pass
    assert not root.exists()


def test_a_lock_that_a_killed_training_left_holds_nobody(root: Path) -> None:
    root.mkdir()
    (root / ".lock").touch()
    with output_folder(root):
        pass
    with locked_file(root / ".lock"), pytest.raises(DataError, match="another `mirip train`"), output_folder(root):
        pass


def test_a_file_for_an_evaluation_is_no_result_of_a_training(root: Path) -> None:
    fill(Workspace(root, flat=True), "training")
    (root / "folder").mkdir()
    check_output_file(root / "exam.json")
    with pytest.raises(DataError, match=r"run/evaluate\.json is a result of the training in run: .+ run/exam\.json"):
        check_output_file(root / "evaluate.json")
    with pytest.raises(DataError, match="run/folder is a folder"):
        check_output_file(root / "folder")
    with pytest.raises(DataError, match=r"run/scores\.csv/exam\.json cannot be written"):
        check_output_file(root / "scores.csv" / "exam.json")
    (root / "best_model.pt").unlink()
    check_output_file(root / "evaluate.json")


def test_an_exchange_that_was_killed_is_ended_by_the_next_training(tmp_path: Path) -> None:
    """The new results are all there, in two folders; the earlier ones are gone."""
    for n_moved in range(len(results(Workspace(tmp_path)))):
        root = tmp_path / str(n_moved)
        with output_folder(root) as folder:
            for path in results(folder.unfinished):
                path.write_text("new")
            moved = list(zip(results(folder.unfinished), results(folder.finished), strict=True))[::-1][:n_moved]
            for new, path in moved:
                new.replace(path)
        with output_folder(root) as folder:
            assert all(path.read_text() == "new" for path in results(folder.finished))
            assert not any(path.exists() for path in results(folder.unfinished))


def test_a_device_is_never_replaced_by_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="is a device or a pipe, not a file"):
        check_output_file(tmp_path / "pipe")
