"""The value that counts and what stands next to it: interval, verdict, simpler models, calibration, close calls."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from mirip.metrics.comparison import comparison
from mirip.report import formatting as fmt

MODEL = "mirip"  # our row in metrics/evaluate/baselines.csv
# How many it were is this repository's history, which has no place in a page that two clones write the same.
_CHOICE = (
    "The best of many models on one test split looks better than it is: choose by validation accuracy. The command "
    "mirip summary says how many were evaluated on this one here."
)
_BASELINES = {
    "knn": "nearest neighbours in the same features",
    "ridge": "ridge regression on the same features",
    "logistic": "logistic regression on differences of the same features",
    "linear": "a head without hidden layer, trained in the same way",
}
_MEMBERS = {"head": "projector and score head"} | {name: _BASELINES[name] for name in ("ridge", "logistic")}


def scale(evaluate: Mapping[str, Any]) -> dict[str, float] | None:
    """Place accuracy, interval, chance and target on a line, in percent of its length; None without an interval."""
    interval = fmt.interval_of(evaluate, "pairwise_accuracy")
    accuracy, target = evaluate.get("pairwise_accuracy"), evaluate.get("target_accuracy")
    if interval is None or accuracy is None or target is None or not (fmt.known(accuracy) and fmt.known(target)):
        return None
    values = {"accuracy": accuracy, "low": interval.low, "high": interval.high, "target": target, "chance": 0.5}
    # The line ends at 100 % and begins at 40 %, or a little left of what is lower than that.
    start = min(0.4, *(value - 0.05 for value in values.values()))
    return {place: round(100 * (value - start) / (1 - start), 2) for place, value in values.items()}


def counted(evaluate: Mapping[str, Any]) -> str:
    """Say from how many pairs, images and groups the accuracy comes, as the end of a sentence; empty where unknown."""
    pairs, images, groups = (evaluate.get(f"n_{what}") for what in ("pairs", "images", "groups"))
    if not all(map(fmt.known, (pairs, images, groups))):
        return ""
    return f": {pairs:,} pairs of {images:,} images in {groups:,} groups that training never saw"


def notes(evaluate: Mapping[str, Any], scores: pd.DataFrame) -> list[str]:
    """Say what a reader must know beside the accuracy: the spread over seeds, and what choosing by it does."""
    said = [_CHOICE]
    low, high = (evaluate.get(f"pairwise_accuracy_seed_{end}") for end in ("min", "max"))
    if fmt.known(low) and fmt.known(high):
        heads = sum(str(name).startswith("score_seed_") for name in scores.columns)
        spread = fmt.share_points(evaluate.get("pairwise_accuracy_seed_sd"))
        said.insert(
            0,
            f"The model has {heads or 'several'} heads, each trained with its own seed. With one head alone it reaches "
            f"{fmt.percent(low)} to {fmt.percent(high)}, with a standard deviation of {spread}. The accuracy above is "
            "that of their mean score.",
        )
    return said


def tiles(
    evaluate: Mapping[str, Any], train: Mapping[str, Any], *, contexts: bool = True
) -> list[tuple[str, str, str]]:
    """Return name, value and remark of what stands below the headline; without contexts, none of pairs within one."""
    within = (
        "Within one context",
        fmt.percent(evaluate.get("pairwise_accuracy_within_context")),
        "only fair comparisons",
    )
    return [
        ("Validation accuracy", fmt.percent(train.get("val_pairwise_accuracy")), "chooses the model"),
        ("Macro accuracy", fmt.percent(evaluate.get("pairwise_accuracy_macro")), "mean over tier pairs"),
        *([within] if contexts else []),
        ("Kendall τ-b", fmt.number(evaluate.get("kendall_tau_b")), "−1 to 1, 0 is chance"),
        ("Spearman ρ", fmt.number(evaluate.get("spearman")), "−1 to 1, 0 is chance"),
        ("Calibration error", fmt.number(evaluate.get("ece"), 3), "ECE, 0 is best"),
    ]


def baselines(table: pd.DataFrame, *, small_sample: bool) -> list[dict[str, str]]:
    """Say of each simpler model, the strongest first, how ours compares: name, what, verdict, tone, margin."""
    rows = []
    simpler = table[~table["model"].isin(["chance", MODEL])].sort_values("pairwise_accuracy", ascending=False)
    for row in simpler.to_dict("records"):
        interval = fmt.interval_of(row, "margin", small_sample=small_sample)
        label, tone = (fmt.NOT_AVAILABLE, "open") if interval is None else fmt.COMPARISONS[comparison(interval)]
        rows.append(
            {
                "name": row["model"],
                "what": _BASELINES.get(row["model"], ""),
                "verdict": label,
                "tone": tone,
                "margin": fmt.margin(row["margin"], interval),
            }
        )
    return rows


def members(table: pd.DataFrame) -> list[dict[str, str]]:
    """Say of each kind of members its name, what it is, its weight, and what it reaches alone; none of one kind."""
    return [
        {
            "name": row["member"],
            "what": _MEMBERS.get(row["member"], ""),
            "weight": fmt.percent(row["weight"], 0),
            "accuracy": fmt.percent(row["pairwise_accuracy"]),
        }
        for row in table.to_dict("records")
    ]


def calibration_sentence(evaluate: Mapping[str, Any]) -> str:
    """Say the calibration error, and whether chance alone would explain it."""
    ece, high = evaluate.get("ece"), evaluate.get("ece_if_calibrated_high")
    said = f"Calibration error {fmt.number(ece, 3)} (ECE), Brier score {fmt.number(evaluate.get('brier'), 3)}."
    if ece is None or high is None or not (fmt.known(ece) and fmt.known(high)):
        return said
    found = (
        "The error of this model is not larger: its probabilities may well be right"
        if ece <= high
        else "The error of this model is larger: its probabilities are probably off"
    )
    return (
        f"{said} At this size, 95 of 100 perfectly calibrated models have an error below {fmt.number(high, 3)}. "
        f"{found}."
    )


def close_calls(evaluate: Mapping[str, Any]) -> str:
    """Say how many pairs are too close to call, and how often the model is right on the others."""
    least, close = evaluate.get("min_confidence"), evaluate.get("too_close_to_call")
    if not (fmt.known(least) and fmt.known(close)):
        return f"How many pairs are too close to call: {fmt.NOT_AVAILABLE}."
    least, close = fmt.percent(least, 0), fmt.percent(close)
    said = f"At less than {least} confidence a pair is too close to call: {close} of them."
    right = evaluate.get("pairwise_accuracy_called")
    return f"{said} Of the rest, {fmt.percent(right)} are right." if fmt.known(right) else f"{said} None is called."
