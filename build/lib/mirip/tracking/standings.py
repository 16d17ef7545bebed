"""What the logged models answer: a table of scores with what they mean."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mirip.metrics.calibration import percentile_of, tier_probabilities
from mirip.models.checkpoint import Checkpoint


def standings(checkpoint: Checkpoint, scores: ArrayLike) -> pd.DataFrame:
    """Return `score`, `percentile` and `likeliest_tier`, a row a score of `scores` (N,)."""
    values = np.asarray(scores, dtype=np.float64)
    chances = tier_probabilities(values, checkpoint.ordinal_slope, checkpoint.ordinal_thresholds)  # (N, K), worst first
    best_first = np.array(checkpoint.tiers, dtype=object)
    return pd.DataFrame(
        {
            "score": values,
            "percentile": percentile_of(values, checkpoint.score_percentiles),
            "likeliest_tier": best_first[np.flip(chances, axis=1).argmax(axis=1)],
        }
    )
