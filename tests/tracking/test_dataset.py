"""The dataset of a run: which split, how many images, and logged once."""

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from mirip.tracking.dataset import Dataset, dataset_counts
from mirip.tracking.publishing import Published, publish
from mirip.tracking.result import RunRecord

DATASET = Dataset("works", "0123456789abcdef" * 4, "works.csv", {"n_images": 6, "n_train": 4})


def publish_dataset(dataset: Dataset) -> Published:
    return publish(RunRecord("mirip", "first", {}, {}, None, [], {}, "key", dataset=dataset))


def inputs(run_id: str) -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow import MlflowClient

        run = MlflowClient(tracking_uri=f"sqlite:///{Path.cwd() / 'mlflow.db'}").get_run(run_id)
    return list(run.inputs.dataset_inputs)


def test_a_run_says_on_which_split_it_was_trained_and_how_large_that_is(desk: Path) -> None:
    (entry,) = inputs(publish_dataset(DATASET).run_id)
    assert [(tag.key, tag.value) for tag in entry.tags] == [("mlflow.data.context", "training")]
    assert (entry.dataset.name, entry.dataset.digest) == ("works", "0123456789abcdef0123456789abcdef0123")
    assert json.loads(entry.dataset.profile) == {"n_images": 6, "n_train": 4}
    assert json.loads(entry.dataset.source) == {"uri": "works.csv"}


def test_it_is_logged_once_also_from_another_place(desk: Path) -> None:
    publish_dataset(DATASET)
    published = publish_dataset(replace(DATASET, name="moved", source="/elsewhere/works.csv"))
    assert published.status == "unchanged"
    assert len(inputs(published.run_id)) == 1


def test_counts_come_from_the_metrics_of_prepare_and_split() -> None:
    data = {"n_images": 6, "n_groups": 4, "n_rejected": 1, "n_tier_S": 2, "n_tier_A": 4}
    split = {"n_train": 3, "n_groups_train": 2, "max_tier_drift": 0.1, "digest": "0123"}
    assert dataset_counts(data, split) == {
        "n_images": 6, "n_groups": 4, "n_tier_S": 2, "n_tier_A": 4, "n_train": 3, "n_groups_train": 2,
    }  # fmt: skip
