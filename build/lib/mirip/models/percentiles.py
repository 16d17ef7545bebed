"""Where a score stands: among the works that the model was trained on, and between the tiers."""

from typing import NamedTuple

import numpy as np

from mirip.errors import CheckpointError
from mirip.metrics.calibration import percentile_of, tier_probabilities
from mirip.models.checkpoint import Checkpoint


class ScoreSummary(NamedTuple):
    """What a score means.

    Attributes:
        score: of the model, higher is better.
        percentile: 0 to 100, among the out-of-fold scores of the training split, or of one of its contexts.
        tiers: probability of each tier by its name, best first; they sum to 1.
    """

    score: float
    percentile: float
    tiers: dict[str, float]

    @property
    def likeliest_tier(self) -> str:
        """The name of the tier with the highest probability."""
        return max(self.tiers, key=lambda name: self.tiers[name])


def standing(checkpoint: Checkpoint, score: float, context: str | None = None) -> ScoreSummary:
    """Say where a score stands.

    Args:
        checkpoint: of the model that gave it.
        score: higher is better.
        context: compare within this context of the training split; None: with all of it.

    Raises:
        CheckpointError: the training split had too few works of that context, or none.
    """
    percentiles = checkpoint.score_percentiles
    if context is not None:
        if context not in checkpoint.context_percentiles:
            known = ", ".join(sorted(checkpoint.context_percentiles)) or "none"
            raise CheckpointError(
                f"the model knows too few works of context {context!r} to compare with; it knows enough of: {known}"
            )
        percentiles = checkpoint.context_percentiles[context]
    chances = tier_probabilities([score], checkpoint.ordinal_slope, checkpoint.ordinal_thresholds)[0]
    tiers = dict(zip(checkpoint.tiers, np.flip(chances).tolist(), strict=True))  # columns go by rank, worst first
    return ScoreSummary(score, float(percentile_of(score, percentiles)), tiers)
