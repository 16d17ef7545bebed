"""The ladder in flat figures and in words: how the model stands to what is simpler."""

import pandas as pd

from mirip.metrics.intervals import Interval, comparison

Scalar = float | int | str | bool


def baseline_metrics(ladder: pd.DataFrame) -> dict[str, Scalar]:
    """Return flat figures of each baseline; ridge and k-NN are always there, NaN where they were not given."""
    metrics: dict[str, Scalar] = {"baseline_ridge_accuracy": float("nan"), "baseline_knn_accuracy": float("nan")}
    for row in ladder.iloc[1:-1].to_dict("records"):
        name = row["model"]
        metrics[f"baseline_{name}_accuracy"] = row["pairwise_accuracy"]
        metrics[f"margin_over_{name}"] = row["margin"]
        metrics[f"margin_over_{name}_ci_low"] = row["margin_ci_low"]
        metrics[f"margin_over_{name}_ci_high"] = row["margin_ci_high"]
    return metrics


def versus(name: str, accuracy: float, margin: float, difference: Interval) -> str:
    """Say whether the model is better, worse or within noise of another one.

    Args:
        name: of the other one.
        accuracy: its pairwise accuracy.
        margin: the model's accuracy minus that.
        difference: the margin's paired interval.
    """
    judgement = comparison(difference)
    words = {
        "better": f"the model is better than {name}",
        "worse": f"the model is worse than {name}: use {name}, or train differently",
        "within noise": f"the model is within noise of {name}: no gain over it is shown",
    }[judgement]
    return f"{words} ({accuracy:.3f}; difference {margin:+.3f}, {difference.low:+.3f} to {difference.high:+.3f})"
