"""What a model scores, and the table of it that may be public."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mirip.data.split import public_ids
from mirip.files import sha256_bytes

Floats = NDArray[np.float64]

NO_FOLD = -1  # of an image that no model could score that had not seen its group


@dataclass(frozen=True)
class Scores:
    """Scores of N images by one model.

    Attributes:
        mean: (N,) the model's score: the weighted mean of its members.
        by_seed: seed -> (N,) what the score would be with that seed's head alone; their mean is the score. Empty where
            the model has one head.
        by_kind: kind of members -> (N,) of these alone: head (the mean of all), ridge, logistic. Empty where the model
            has heads only.
    """

    mean: Floats
    by_seed: Mapping[int, Floats] = field(default_factory=dict)
    by_kind: Mapping[str, Floats] = field(default_factory=dict)


def public_scores(images: pd.DataFrame, scores: Scores) -> pd.DataFrame:
    """Return id, group, tier, tier_rank, context, score; id, group and context are hashes of 16 digits.

    Of several heads, a column score_seed_<seed> for each follows: the score with that head alone. With linear members,
    a column score_<kind> for each kind of members alone.
    """
    return pd.DataFrame(
        {
            "id": public_ids(images).to_numpy(),
            "group": public_labels(images["group_id"]),
            "tier": images["tier"].to_numpy(),
            "tier_rank": images["tier_rank"].to_numpy(),
            "context": public_labels(images["context"]),
            "score": scores.mean,
            **{f"score_seed_{seed}": values for seed, values in scores.by_seed.items()},
            **{f"score_{kind}": values for kind, values in scores.by_kind.items()},
        }
    )


def public_labels(values: pd.Series) -> NDArray[np.generic]:
    """Return a hash of 16 digits for each value (N,), which may name a person or a school."""
    return np.array([sha256_bytes(str(value).encode())[:16] for value in values])
