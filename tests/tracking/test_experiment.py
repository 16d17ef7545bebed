"""What the MLflow UI shows of our experiment."""

import json

from mirip.tracking.experiment import CHOSEN_BY, missing_view_tags, view_tags


def test_runs_are_ordered_by_the_validation_metric_which_comes_first() -> None:
    state = json.loads(view_tags()["mlflow.sharedViewState.mirip"])
    assert state["orderByKey"] == state["selectedColumns"][0] == f"metrics.`{CHOSEN_BY}`"
    assert not state["orderByAsc"]


def test_an_experiment_that_has_all_lacks_nothing() -> None:
    assert missing_view_tags(view_tags()) == {}


def test_a_note_of_the_user_is_kept_and_an_old_view_of_ours_replaced() -> None:
    tags = view_tags() | {"mlflow.note.content": "mine", "mlflow.sharedViewState.mirip": "{}"}
    assert list(missing_view_tags(tags)) == ["mlflow.sharedViewState.mirip"]
