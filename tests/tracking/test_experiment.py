"""What the MLflow UI shows of our experiment."""

import json

from mirip.tracking.experiment import CHOSEN_BY, comparison_url, missing_view_tags, view_tags


def test_runs_are_ordered_by_the_validation_metric_which_comes_first() -> None:
    state = json.loads(view_tags()["mlflow.sharedViewState.mirip"])
    assert state["orderByKey"] == state["selectedColumns"][0] == f"metrics.`{CHOSEN_BY}`"
    assert not state["orderByAsc"]


def test_an_experiment_that_has_all_lacks_nothing() -> None:
    assert missing_view_tags(view_tags()) == {}


def test_a_note_of_the_user_is_kept_and_an_old_view_of_ours_replaced() -> None:
    tags = view_tags() | {"mlflow.note.content": "mine", "mlflow.sharedViewState.mirip": "{}"}
    assert list(missing_view_tags(tags)) == ["mlflow.sharedViewState.mirip"]


def test_the_address_opens_the_runs_of_models_in_our_view() -> None:
    address = "http://host:5000/#/experiments/3/runs?workflowType=machine_learning&viewStateShareKey=mirip"
    assert comparison_url("http://host:5000/", "3") == address
