"""What a score means: its percentile among the images that the model was trained on, and the likeliest tier."""

import unicodedata
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mirip.errors import CheckpointError
from mirip.metrics.calibration import percentile_of, tier_probabilities
from mirip.models.checkpoint import Checkpoint

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]


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


def score_summary(checkpoint: Checkpoint, score: float, context: str | None = None) -> ScoreSummary:
    """Return the percentile and the tier probabilities of one score.

    Args:
        checkpoint: of the model that gave it.
        score: higher is better.
        context: compare within this context of the training split; None or "": with all of it.

    Raises:
        CheckpointError: the training split had too few images of that context, or none.
    """
    percentiles, chances = _percentiles_and_tiers(checkpoint, [score], context)
    tiers = dict(zip(checkpoint.tiers, chances[0].tolist(), strict=True))
    return ScoreSummary(score, float(percentiles[0]), tiers)


def known_percentiles(checkpoint: Checkpoint, context: str | None = None) -> list[float]:
    """Return the 101 quantiles that a score is compared with: those of a context, or of all where it is None or "".

    Raises:
        CheckpointError: the training split had too few images of that context, or none.
    """
    if not context:
        return checkpoint.score_percentiles
    context = unicodedata.normalize("NFC", context)
    if context not in checkpoint.context_percentiles:
        known = ", ".join(known_contexts(checkpoint)) or "none"
        raise CheckpointError(
            f"the model knows too few images of context {context!r} to compare with", f"it knows enough of: {known}"
        )
    return checkpoint.context_percentiles[context]


def known_contexts(checkpoint: Checkpoint) -> list[str]:
    """Return the contexts that percentiles can be given within, sorted; images without one are no context."""
    return sorted(name for name in checkpoint.context_percentiles if name)


def score_table(checkpoint: Checkpoint, scores: ArrayLike) -> "pd.DataFrame":
    """Return `score`, `percentile` and `likeliest_tier`, one row for each of `scores` (N,)."""
    import pandas as pd

    percentiles, chances = _percentiles_and_tiers(checkpoint, scores)
    best_first = np.array(checkpoint.tiers, dtype=object)
    return pd.DataFrame(
        {
            "score": np.asarray(scores, dtype=np.float64),
            "percentile": percentiles,
            "likeliest_tier": best_first[chances.argmax(axis=1)],
        }
    )


def _percentiles_and_tiers(
    checkpoint: Checkpoint, scores: ArrayLike, context: str | None = None
) -> tuple[Floats, Floats]:
    """Return percentiles (N,) and tier probabilities (N, K), the best tier in column 0."""
    percentiles = known_percentiles(checkpoint, context)
    worst_first = tier_probabilities(scores, checkpoint.ordinal_slope, checkpoint.ordinal_thresholds)  # (N, K)
    return percentile_of(scores, percentiles), np.flip(worst_first, axis=1)
