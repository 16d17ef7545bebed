"""The stage train: what it writes, that it says no, that an interrupted run goes on."""

import json

import pandas as pd
import pytest

from mirip.data.split import read_splits
from mirip.models.checkpoint import load_checkpoint
from mirip.workspace import Workspace, main_root
from stages import run, train

WORKSPACE = Workspace()
SHORT = {"members": ["head"], "max_epochs": 6, "images_per_step": 64, "learning_rate": 0.003, "save_every_n_epochs": 2}


@pytest.fixture
def project(trained_project, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(trained_project.folder))
    trained_project.write_params(train=SHORT)
    WORKSPACE.model.unlink()
    return trained_project


def test_it_writes_model_metrics_and_curves(project, capsys) -> None:
    run(train.main)
    metrics = json.loads(WORKSPACE.metrics("train").read_text())
    curves = pd.read_csv(WORKSPACE.curves)
    assert metrics["epochs"] == len(curves) == 6
    assert metrics["val_pairwise_accuracy"] == pytest.approx(curves["val_pairwise_accuracy"].max(), abs=1e-5)
    assert curves["learning_rate"].is_monotonic_decreasing
    assert load_checkpoint(WORKSPACE.model).temperature == metrics["temperature"]
    assert "best" in capsys.readouterr().out.splitlines()[-1]
    assert not list((main_root() / ".mirip" / "checkpoints").glob("*/"))


def test_linear_members_are_weighed_and_every_image_but_the_test_split_is_scored_out_of_fold(project) -> None:
    project.write_params(train={**SHORT, "members": ["head", "ridge", "logistic"]})
    run(train.main)
    metrics = json.loads(WORKSPACE.metrics("train").read_text())
    weights = [metrics[f"weight_{name}"] for name in ("head", "ridge", "logistic")]
    assert min(weights) >= 0
    assert sum(weights) == pytest.approx(1)
    checkpoint = load_checkpoint(WORKSPACE.model)
    assert checkpoint.model_state_dict["member_weight"].tolist() == pytest.approx(weights)
    splits, scores = read_splits(WORKSPACE.splits), pd.read_parquet(WORKSPACE.cross_fit)
    assert scores["image_sha256"].tolist() == splits["image_sha256"].tolist()
    in_test = splits["split"] == "test"
    assert (scores["score"].isna() == in_test).all()
    assert scores.groupby(splits["split"])["fold"].nunique().to_dict() == {"test": 1, "train": 5, "val": 1}


@pytest.mark.parametrize("members", [[], ["ridge"], ["ridge", "head"], ["head", "head"], ["head", "tree"]])
def test_members_other_than_a_head_and_known_linear_ones_are_one_line(project, members) -> None:
    project.write_params(train={**SHORT, "members": members})
    with pytest.raises(SystemExit, match=r"train(\.|: )members") as error:
        run(train.main)
    assert "\n" not in str(error.value)


def test_several_seeds_tell_their_spread_and_give_a_model_of_as_many_heads(project) -> None:
    project.write_params(train={**SHORT, "seeds": 2})
    run(train.main)
    metrics = json.loads(WORKSPACE.metrics("train").read_text())
    low, high = (metrics[f"val_pairwise_accuracy_seed_{which}"] for which in ("min", "max"))
    assert low <= high
    assert metrics["val_pairwise_accuracy_seed_sd"] == pytest.approx((high - low) / 2**0.5)
    state = load_checkpoint(WORKSPACE.model).model_state_dict
    assert state["head_spread"].shape == (2,)
    assert state["score_head.layers.2.weight"].shape[0] == 2


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes(project) -> None:
    run(train.main)
    first = WORKSPACE.model.read_bytes()
    run(train.main)
    assert WORKSPACE.model.read_bytes() == first
    project.write_params(train={**SHORT, "seed": 1})
    run(train.main)
    assert WORKSPACE.model.read_bytes() != first


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [1, 2])
def test_an_interrupted_training_goes_on_and_ends_in_the_same_bytes(project, monkeypatch, seeds) -> None:
    project.write_params(train={**SHORT, "seeds": seeds})
    run(train.main)
    through = WORKSPACE.model.read_bytes()
    WORKSPACE.model.unlink()
    from mirip.models.trainer import Trainer

    epochs = []
    save = Trainer._save

    def save_and_fail(self, state, data) -> None:
        save(self, state, data)
        epochs.append(state.epoch)
        if state.epoch == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "_save", save_and_fail)
    with pytest.raises(SystemExit, match="130"):
        run(train.main)
    assert not WORKSPACE.model.exists()
    resumed = []
    monkeypatch.setattr(Trainer, "_save", lambda self, state, data: resumed.append(state.epoch))
    run(train.main)
    assert resumed == [5, 6]
    assert WORKSPACE.model.read_bytes() == through


def test_features_of_another_recipe_are_refused_naming_the_field(project) -> None:
    project.write_params(
        train=SHORT, recipes={"tiny": {"backbone": "elsewhere/tiny", "image_size": 28, "fit": "squash"}}
    )
    with pytest.raises(SystemExit, match=r"error: features/tiny\.h5 was built with fit pad, params say squash"):
        run(train.main)
    assert not WORKSPACE.model.exists()


def test_missing_inputs_are_one_line(project) -> None:
    WORKSPACE.splits.unlink()
    with pytest.raises(SystemExit, match=r"error: data/splits\.parquet is not found: run `dvc repro split`"):
        run(train.main)
