"""The works behind a result, as an MLflow dataset: which split, and how many works, groups and tiers it holds.

It names folders and counts, never a work or a person.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mirip.files import canonical_json

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.entities import Run

_CONTEXT_TAG = "mlflow.data.context"
_DIGEST_CHARS = 36  # the most that MLflow takes
_SIDES = ("train", "val", "test")


@dataclass(frozen=True)
class Dataset:
    """The works that a result was trained, chosen and judged on.

    Attributes:
        name: short, for people.
        split_digest: of `mirip.data.split.split_digest`.
        source: where the metadata table was read.
        counts: of images and groups, in all, by side and by tier.
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
    """Give a run its dataset unless it has one of that split; return whether it was lacking.

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


def split_counts(data: Mapping[str, object], split: Mapping[str, object]) -> dict[str, int]:
    """Return the counts of a dataset from metrics/data.json and metrics/split.json, as far as they are there."""
    wanted = {"n_images", "n_groups"} | {f"n_{what}{side}" for what in ("", "groups_") for side in _SIDES}
    return {
        name: value
        for name, value in {**data, **split}.items()
        if isinstance(value, int) and (name in wanted or name.startswith("n_tier_"))
    }


def counts_of(splits: "pd.DataFrame") -> dict[str, int]:
    """Return the counts of a split, under the same names."""
    sides = {side: splits[splits["split"] == side] for side in _SIDES}
    tiers = splits["tier"].value_counts(sort=False)
    return {
        "n_images": len(splits),
        "n_groups": int(splits["group_id"].nunique()),
        **{f"n_{side}": len(rows) for side, rows in sides.items()},
        **{f"n_groups_{side}": int(rows["group_id"].nunique()) for side, rows in sides.items()},
        **{f"n_tier_{tier}": int(count) for tier, count in tiers.items()},
    }
