"""What the MLflow UI shows of an experiment at first: runs ordered by the figure that they are to be chosen by.

MLflow keeps a view that was shared as an experiment's tag `mlflow.sharedViewState.<key>`, and opens it for
`?viewStateShareKey=<key>`; the tag `mlflow.experiment.primaryMetric.name` decides which metric its charts begin with.
"""

from collections.abc import Mapping

from mirip.files import canonical_json

KEY = "mirip"
CHOSEN_BY = "val_pairwise_accuracy"
NOTE = (
    "Compare runs, and choose, by val_pairwise_accuracy. pairwise_accuracy is the test figure: it is for the run that "
    "was chosen, and becomes a training figure if runs are chosen by it."
)
COLUMNS = (
    "metrics.`val_pairwise_accuracy`",
    "metrics.`pairwise_accuracy`",
    "metrics.`evaluate.pairwise_accuracy_ci_low`",
    "metrics.`evaluate.pairwise_accuracy_ci_high`",
    "tags.`evaluate.verdict`",
    "tags.`mirip.recipe`",
    "params.`train.loss`",
    "params.`train.learning_rate`",
    "params.`train.pair_balance`",
    "params.`train.dropout`",
    "params.`train.seed`",
)


def view_tags() -> dict[str, str]:
    """Return the tags of an experiment that make its view."""
    state = {
        "orderByKey": COLUMNS[0],
        "orderByAsc": False,
        "selectedColumns": list(COLUMNS),
    }
    return {
        "mlflow.experimentKind": "custom_model_development",  # else its menu is that of language models
        "mlflow.experiment.primaryMetric.name": CHOSEN_BY,
        "mlflow.experiment.primaryMetric.greaterIsBetter": "True",
        "mlflow.note.content": NOTE,
        f"mlflow.sharedViewState.{KEY}": canonical_json(state),
    }


def missing_view_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tags that an experiment lacks; a note or a metric that its user chose stays."""
    own_view = f"mlflow.sharedViewState.{KEY}"
    return {
        name: value
        for name, value in view_tags().items()
        if name not in tags or (name == own_view and tags[name] != value)
    }
