"""The images behind a result, as an MLflow dataset: which split, and how many images, groups and tiers it has.

It names folders and counts, never an image or a person.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mirip.files import canonical_json

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_CONTEXT_TAG = "mlflow.data.context"
_DIGEST_CHARS = 36  # the most that MLflow takes
_SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Dataset:
    """The images that a result was trained, chosen and evaluated on.

    Attributes:
        name: short, for people.
        split_digest: of `mirip.data.split.split_digest`.
        source: where the metadata table was read.
        counts: of images and groups, in all, by split and by tier.
    """

    name: str
    split_digest: str
    source: str
    counts: Mapping[str, int]

    @property
    def digest(self) -> str:
        """The beginning of the split's digest, as long as MLflow allows."""
        return self.split_digest[:_DIGEST_CHARS]


def log_dataset(client: "MlflowClient", run: "Run", dataset: Dataset) -> bool:
    """Give a run its dataset unless it has one of that split; return whether it had none.

    The same split read from another place is the same dataset.

    Raises:
        MlflowException: the server refuses it.
    """
    from mlflow.entities import Dataset as Entity
    from mlflow.entities import DatasetInput, InputTag

    known = run.inputs.dataset_inputs if run.inputs else []
    if any(entry.dataset.digest == dataset.digest for entry in known):
        return False
    entity = Entity(
        dataset.name,
        dataset.digest,
        source_type="local",
        source=canonical_json({"uri": dataset.source}),
        profile=canonical_json(dict(dataset.counts)),
    )
    client.log_inputs(run.info.run_id, [DatasetInput(entity, [InputTag(_CONTEXT_TAG, "training")])])
    return True


def dataset_counts(data: Mapping[str, object], split: Mapping[str, object]) -> dict[str, int]:
    """Return the counts of a dataset from the scalars of metrics/data.json and metrics/split.json, where known."""
    wanted = {"n_images", "n_groups"} | {f"n_{what}{name}" for what in ("", "groups_") for name in _SPLITS}
    return {
        name: value
        for name, value in {**data, **split}.items()
        if isinstance(value, int) and (name in wanted or name.startswith("n_tier_"))
    }
