"""A training on its own, by `Trainer(TrainingConfig(...))`, is one MLflow run."""

import mlflow_store
import pytest
from made_ranking_data import SMALL, made_data

from mirip import Trainer, TrainingConfig

OPTIONS = {"head": SMALL, "max_epochs": 3, "images_per_step": 64, "learning_rate": 0.01, "device": "cpu"}


def test_it_is_published_under_the_names_of_its_config(desk) -> None:
    settings = TrainingConfig(**OPTIONS, experiment="spring", run_name="first")
    result = Trainer(settings).fit(made_data(200, 0), made_data(60, 1))
    (run,) = mlflow_store.runs()
    assert run.info.run_name == "first"
    assert mlflow_store.client().get_experiment(run.info.experiment_id).name == "spring"
    assert run.data.metrics["val_pairwise_accuracy"] == pytest.approx(result.val_pairwise_accuracy)
    assert run.data.params["train.max_epochs"] == "3"


def test_turned_off_it_publishes_nothing(desk) -> None:
    Trainer(TrainingConfig(**OPTIONS, tracking=False)).fit(made_data(200, 0), made_data(60, 1))
    assert mlflow_store.runs() == []


def test_a_server_that_is_unavailable_is_a_warning(desk, unused_port, monkeypatch, capsys) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{unused_port}")
    result = Trainer(TrainingConfig(**OPTIONS)).fit(made_data(200, 0), made_data(60, 1))
    assert len(result.curves) == 3
    assert "the training itself is complete" in capsys.readouterr().err
