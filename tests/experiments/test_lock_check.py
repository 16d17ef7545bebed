"""The lock held against the working tree: real DVC on a pipeline of two stages, and a clone that has no data."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from warm_python import commands_folder

from mirip.cli.main import main
from mirip.errors import DataError
from mirip.experiments.lock_check import RecordedStage, check_lock, stale_stages

PIPELINE = """
stages:
  make:
    cmd: python make.py
    deps: [make.py, code, ../photos]
    params: [make, shared.seed]
    outs: [images.txt]
  evaluate:
    cmd: cp images.txt evaluated.txt && echo '{"accuracy":' 1'}' > evaluated.json && echo x >> receipt.json
    deps: [images.txt]
    outs:
      - evaluated.txt
      - receipt.json:
          persist: true
    metrics:
      - evaluated.json:
          cache: false
"""
PARAMS = "make:\n  size: 3\n  rate: 0.000001\n  head:\n    width: 4\nshared:\n  seed: 1\n"
MAKE = "import pathlib\npathlib.Path('images.txt').write_text('works')\n"


def run(root: Path, *command: str) -> None:
    environment = {"PATH": f"{commands_folder()}:/usr/bin:/bin", "HOME": str(root), "DVC_NO_ANALYTICS": "1"}
    subprocess.run(command, cwd=root, check=True, capture_output=True, env=environment)


@pytest.fixture
def warm_dvc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the DVC that is asked start from loaded libraries."""
    monkeypatch.setattr(sys, "executable", str(commands_folder() / "python"))


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of two stages, one file of it below another dvc.yaml, reproduced and committed."""
    root = tmp_path_factory.mktemp("origin") / "project"
    (root / "code").mkdir(parents=True)
    (root.parent / "photos").mkdir()
    (root.parent / "photos/1.jpg").write_bytes(b"a photo")
    (root / "dvc.yaml").write_text(PIPELINE)
    (root / "params.yaml").write_text(PARAMS)
    (root / "make.py").write_text(MAKE)
    (root / "code/words.py").write_text("WORDS = 3\n")
    (root / "below").mkdir()
    (root / "below/dvc.yaml").write_text(
        "stages:\n  sample:\n    wdir: ..\n    cmd: echo 1 > sample.txt\n    params: [shared]\n    outs: [sample.txt]\n"
    )
    (root / ".gitignore").write_text("/sample.txt\n/images.txt\n/evaluated.txt\n/receipt.json\n")
    run(root, "git", "init", "-q", "-b", "main")
    run(root, "git", "config", "user.name", "Test")
    run(root, "git", "config", "user.email", "test@example.org")
    run(root, "dvc", "init", "-q")
    run(root, "dvc", "repro", "-q", "--all-pipelines")
    run(root, "git", "add", "-A")
    run(root, "git", "commit", "-qm", "a result")
    return root


@pytest.fixture
def clone(origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A clone of it without cache, data or photos; the working directory is in it."""
    root = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(origin), str(root)], check=True)
    monkeypatch.chdir(root)
    yield root
    shutil.rmtree(root)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


integration = [
    pytest.mark.integration, pytest.mark.slow, pytest.mark.usefixtures("warm_dvc"),
]  # fmt: skip


class TestWithDvc:
    pytestmark = integration

    def test_a_clone_without_any_data_agrees(self, clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert not (clone / "images.txt").exists()
        assert main(["check-lock"]) == 0
        assert capsys.readouterr().out == "dvc.lock agrees with code, params and results\n"

    def test_where_the_data_is_it_agrees_too(self, origin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(origin)
        receipt = (origin / "receipt.json").read_text()
        assert check_lock() == []
        (origin / "receipt.json").write_text("written on\n")
        assert check_lock() == []
        (origin / "receipt.json").write_text(receipt)

    def test_params_without_repro_fail_with_both_values_and_what_to_do(
        self, clone: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        edit(clone / "params.yaml", "width: 4", "width: 8")
        edit(clone / "params.yaml", "size: 3\n", "size: 3\n  shape: null\n")
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qam", "x"], check=True)
        assert main(["check-lock"]) == 1
        printed = capsys.readouterr()
        assert printed.out == "make: make.head.width 4 -> 8; make.shape nothing -> null\n"
        assert printed.err.startswith("error: dvc.lock is out of date in 1 stage: run `dvc repro`")

    def test_everything_else_that_changed_is_named(self, clone: Path) -> None:
        edit(clone / "code/words.py", "3", "4")
        edit(clone / "params.yaml", "seed: 1", "seed: 2")
        (clone / "make.py").unlink()
        edit(clone / "evaluated.json", "1", "9")
        edit(clone / "dvc.yaml", "cp images.txt", "cp -p images.txt")
        stale = {stage.name: set(stage.reasons) for stage in check_lock()}
        assert stale == {
            "make": {"code changed", "make.py is gone", "shared.seed 1 -> 2"},
            "evaluate": {"evaluated.json changed", "its command changed"},
            "below/dvc.yaml:sample": {"shared.seed 1 -> 2"},
        }

    def test_a_result_that_git_should_hold_must_be_here(self, clone: Path) -> None:
        (clone / "evaluated.json").unlink()
        assert [str(stage) for stage in check_lock()] == ["evaluate: evaluated.json is gone"]

    def test_a_lock_of_two_runs_that_do_not_belong_together_fails(self, clone: Path) -> None:
        lock = (clone / "dvc.lock").read_text()
        digest = re.findall(r"path: images.txt\n\s+hash: md5\n\s+md5: (\w+)", lock)[0]
        of_make, of_evaluate = lock.split("  evaluate:")
        (clone / "dvc.lock").write_text(f"{of_make.replace(digest, 'f' * 32)}  evaluate:{of_evaluate}")
        assert [str(stage) for stage in check_lock()] == ["evaluate: it ran on another images.txt than make wrote"]

    def test_a_stage_that_never_ran_fails(self, clone: Path) -> None:
        (clone / "dvc.lock").unlink()
        stale = {stage.name: stage.reasons for stage in check_lock()}
        assert stale == dict.fromkeys(("make", "evaluate"), ("dvc.lock has no record of it",))

    def test_a_stage_that_was_deleted_from_dvc_yaml_and_not_from_dvc_lock_fails(
        self, clone: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (clone / "dvc.yaml").write_text((clone / "dvc.yaml").read_text().partition("  evaluate:")[0])
        (clone / "below/dvc.yaml").write_text("stages: {}\n")
        assert main(["check-lock"]) == 1
        assert capsys.readouterr().out == (
            "below/dvc.yaml:sample: below/dvc.yaml has it no more: delete its entry in below/dvc.lock\n"
            "evaluate: dvc.yaml has it no more: delete its entry in dvc.lock\n"
        )

    def test_a_frozen_stage_is_not_said_to_agree(self, clone: Path) -> None:
        edit(clone / "dvc.yaml", "    cmd: python make.py\n", "    cmd: python make.py\n    frozen: true\n")
        edit(clone / "params.yaml", "size: 3", "size: 4")
        assert [str(stage) for stage in check_lock()] == [
            "make: it is frozen in dvc.yaml, so DVC compares nothing of it: take `frozen` out"
        ]

    def test_stages_of_a_foreach_agree_until_an_item_changes(self, clone: Path) -> None:
        stage = "  each:\n    foreach: [1, 2]\n    do:\n      cmd: cp params.yaml each${item}.txt\n"
        stage += "      params: [shared]\n      outs:\n        - each${item}.txt:\n            cache: false\n"
        with (clone / "dvc.yaml").open("a") as file:
            file.write(stage)
        run(clone, "dvc", "repro", "-q", "each")
        assert check_lock() == []
        edit(clone / "params.yaml", "seed: 1", "seed: 2")
        assert {str(found) for found in check_lock() if found.name.startswith("each")} == {
            "each@1: shared.seed 1 -> 2",
            "each@2: shared.seed 1 -> 2",
        }

    def test_a_project_that_cannot_be_read_is_one_line(self, clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
        edit(clone / "dvc.yaml", "stages:", "stages: [")
        assert main(["check-lock"]) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: `dvc status` failed: ")
        assert error.count("\n") == 1


def test_outside_of_a_project_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="root folder of the project"):
        check_lock()


def test_a_section_names_the_values_in_it_that_changed() -> None:
    recorded = {"train": RecordedStage({"params.yaml": {"train": {"loss": "logistic", "rate": 1e-6}}}, {}, {})}
    status = json.loads('{"train": [{"changed deps": {"params.yaml": {"train": "modified", "recipes.x": "new"}}}]}')
    params = {"params.yaml": {"train": {"loss": "margin", "rate": 1e-6}, "recipes": {"x": {"size": 1}}}}
    (stage,) = stale_stages(status, recorded, params)
    assert str(stage) == "train: train.loss logistic -> margin; recipes.x is new to it"


def test_an_absent_file_is_stale_only_where_git_should_hold_it() -> None:
    recorded = {"train": RecordedStage({}, {"data.h5": "1", "code.py": "2"}, {})}
    status = {"train": [{"changed deps": {"data.h5": "deleted", "code.py": "deleted"}}]}
    (stage,) = stale_stages(status, recorded, {}, not_in_git={"data.h5"})
    assert stage.reasons == ("code.py is gone",)


def test_data_that_was_added_by_hand_has_no_lock() -> None:
    assert (
        stale_stages({"photos.dvc": [{"changed outs": {"photos": "not in cache"}}]}, {}, {}, not_in_git={"photos"})
        == []
    )
