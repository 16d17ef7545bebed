"""Checkpoints: equal content is equal bytes, and what is no checkpoint is said in words."""

import os
from dataclasses import replace

import pytest
import torch

from mirip.errors import CheckpointError
from mirip.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, save_state

CHECKPOINT = Checkpoint(
    model_state_dict={"a": torch.arange(3.0)},
    config={"seed": 1},
    best_epoch=3,
    tiers=["S", "A"],
    recipe={"pooling": "cls"},
    fingerprint="f" * 64,
    split_digest="d" * 64,
    temperature=1.5,
    ordinal_slope=2.0,
    ordinal_thresholds=[0.5],
    score_percentiles=[0.0, 1.0],
    context_percentiles={"oil": [0.0, 1.0]},
    seen_images=torch.tensor([1, 2]),
)


def test_a_checkpoint_comes_back_as_it_was(tmp_path) -> None:
    save_checkpoint(tmp_path / "a.pt", CHECKPOINT)
    back = load_checkpoint(tmp_path / "a.pt")
    assert torch.equal(back.model_state_dict["a"], CHECKPOINT.model_state_dict["a"])
    assert torch.equal(back.seen_images, CHECKPOINT.seen_images)
    tensors = {"model_state_dict": {}, "seen_images": None}
    assert replace(back, **tensors) == replace(CHECKPOINT, **tensors)


def test_the_bytes_do_not_depend_on_the_name(tmp_path) -> None:
    save_checkpoint(tmp_path / "a.pt", CHECKPOINT)
    save_checkpoint(tmp_path / "another.pt", CHECKPOINT)
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "another.pt").read_bytes()


@pytest.mark.parametrize("damage", [b"", b"text", None])
def test_a_damaged_file_is_an_error_in_one_line(tmp_path, damage) -> None:
    path = tmp_path / "a.pt"
    save_checkpoint(path, CHECKPOINT)
    path.write_bytes(path.read_bytes()[:-200] if damage is None else damage)
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint") as error:
        load_checkpoint(path)
    assert "\n" not in str(error.value)


def test_what_is_missing_is_named(tmp_path) -> None:
    with pytest.raises(CheckpointError, match="is not found: run `dvc repro train`"):
        load_checkpoint(tmp_path / "a.pt")
    save_state(tmp_path / "b.pt", {"config": {}})
    with pytest.raises(CheckpointError, match="lacks model_state_dict, best_epoch"):
        load_checkpoint(tmp_path / "b.pt")
    torch.save([1], tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match="holds a list"):
        load_checkpoint(tmp_path / "c.pt")


def test_a_file_that_runs_code_is_refused(tmp_path) -> None:
    torch.save({"model_state_dict": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path / "evil.pt")
    assert not (tmp_path / "ran").exists()


class Evil:
    def __reduce__(self):
        return (exec, ("open('ran', 'w').close()",))


def test_a_pipe_is_refused_at_once(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(CheckpointError, match="is a folder or a device, not a file"):
            load_checkpoint(path)
