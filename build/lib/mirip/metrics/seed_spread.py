"""How much of a figure is the luck of a training's seed."""

from collections.abc import Sequence

import numpy as np


def seed_spread(name: str, by_seed: Sequence[float]) -> dict[str, float]:
    """Return the spread of a figure over n seeds as flat scalars; nothing for one seed.

    They are left out rather than null: `dvc metrics diff` shows a figure that came, not one that was null before.

    Args:
        name: of the figure, e.g. "pairwise_accuracy".
        by_seed: its n values.

    Returns:
        `<name>_seed_sd` (with n - 1), `<name>_seed_min`, `<name>_seed_max`.
    """
    if len(by_seed) < 2:
        return {}
    values = np.asarray(by_seed, dtype=np.float64)
    spread = {"sd": values.std(ddof=1), "min": values.min(), "max": values.max()}
    return {f"{name}_seed_{which}": float(value) for which, value in spread.items()}
