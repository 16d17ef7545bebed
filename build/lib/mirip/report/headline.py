"""The figure that counts and what stands next to it: interval, verdict, rungs of the ladder, close calls."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from mirip.metrics.intervals import Interval, comparison
from mirip.report import formatting as fmt

RUNGS = {
    "knn": "nearest neighbours in the same features",
    "ridge": "ridge regression on the same features",
    "logistic": "logistic regression on differences of the same features",
    "linear": "a head without hidden layer, trained likewise",
}
MODEL = "mirip"
_COMPARED: dict[str, tuple[str, fmt.Tone]] = {
    "better": ("above, beyond noise", "good"),
    "worse": ("below, beyond noise", "bad"),
    "within noise": ("within noise: no gain is shown", "open"),
}


def scale(evaluate: Mapping[str, Any]) -> dict[str, float] | None:
    """Place accuracy, interval, chance and target on a line, in percent of its length; None without an interval."""
    names = {
        "accuracy": "pairwise_accuracy",
        "low": "pairwise_accuracy_ci_low",
        "high": "pairwise_accuracy_ci_high",
        "target": "target_accuracy",
    }
    values = {place: evaluate.get(name) for place, name in names.items()} | {"chance": 0.5}
    if not all(fmt.known(value) for value in values.values()):
        return None
    known = {place: float(value) for place, value in values.items() if value is not None}
    start = min(0.4, *(value - 0.05 for value in known.values()))
    return {place: round(100 * (value - start) / (1 - start), 2) for place, value in known.items()}


def counted(evaluate: Mapping[str, Any]) -> str:
    """Say on how many pairs, images and groups the figure rests, as the end of a sentence; empty where unknown."""
    pairs, images, groups = (evaluate.get(f"n_{what}") for what in ("pairs", "images", "groups"))
    if not all(map(fmt.known, (pairs, images, groups))):
        return ""
    return f": {pairs:,} pairs of {images:,} images in {groups:,} groups that training never saw"


def notes(evaluate: Mapping[str, Any], scores: pd.DataFrame, n_evaluated: int) -> list[str]:
    """Say what a reader of the headline must know beside it: the spread over seeds, and how worn the test split is."""
    said = [fmt.models_evaluated(n_evaluated)]
    low, high = (evaluate.get(f"pairwise_accuracy_seed_{end}") for end in ("min", "max"))
    if fmt.known(low) and fmt.known(high):
        heads = sum(str(name).startswith("score_seed_") for name in scores.columns)
        spread = fmt.share_points(evaluate.get("pairwise_accuracy_seed_sd"))
        said.insert(
            0,
            f"{heads or 'Several'} heads were trained, of as many seeds. Alone they reach {fmt.percent(low)} to "
            f"{fmt.percent(high)}, with a standard deviation of {spread}; the figure above is of their mean score.",
        )
    return said


def tiles(
    evaluate: Mapping[str, Any], train: Mapping[str, Any], *, contexts: bool = True
) -> list[tuple[str, str, str]]:
    """Return name, figure and remark of what stands below the headline; without contexts, none of pairs within one."""
    within = (
        "Within one context",
        fmt.percent(evaluate.get("pairwise_accuracy_within_context")),
        "only fair comparisons",
    )
    return [
        ("Validation accuracy", fmt.percent(train.get("val_pairwise_accuracy")), "chooses the model"),
        ("Every tier pair alike", fmt.percent(evaluate.get("pairwise_accuracy_macro")), "mean over tier pairs"),
        *([within] if contexts else []),
        ("Kendall τ-b", fmt.number(evaluate.get("kendall_tau_b")), "−1 to 1, 0 is chance"),
        ("Spearman ρ", fmt.number(evaluate.get("spearman")), "−1 to 1, 0 is chance"),
        ("Calibration error", fmt.number(evaluate.get("ece"), 3), "ECE, 0 is best"),
    ]


def rungs(ladder: pd.DataFrame) -> list[dict[str, str]]:
    """Say of each simpler model, the strongest first, whether ours is above it: name, what, verdict, tone, margin."""
    rows = []
    simpler = ladder[~ladder["model"].isin(["chance", MODEL])].sort_values("pairwise_accuracy", ascending=False)
    for row in simpler.to_dict("records"):
        margin, low, high = (row[name] for name in ("margin", "margin_ci_low", "margin_ci_high"))
        verdict, tone = fmt.NOT_AVAILABLE, "open"
        if fmt.known(low) and fmt.known(high):
            verdict, tone = _COMPARED[comparison(Interval(low, high, small_sample=False))]
        rows.append(
            {
                "name": row["model"],
                "what": RUNGS.get(row["model"], ""),
                "verdict": verdict,
                "tone": tone,
                "margin": fmt.margin(margin, low, high),
            }
        )
    return rows


def calibration_sentence(evaluate: Mapping[str, Any]) -> str:
    """Say the calibration error, and whether chance alone would explain it."""
    ece, high = evaluate.get("ece"), evaluate.get("ece_if_calibrated_high")
    said = f"Calibration error {fmt.number(ece, 3)} (ECE), Brier score {fmt.number(evaluate.get('brier'), 3)}."
    if not (fmt.known(ece) and fmt.known(high)):
        return said
    assert ece is not None
    assert high is not None
    judged = (
        "nothing speaks against this one"
        if ece <= high
        else "this one does not, and its probabilities are probably off"
    )
    return f"{said} Of perfectly calibrated models, 95 of 100 stay below {fmt.number(high, 3)} at this size: {judged}."


def close_calls(evaluate: Mapping[str, Any]) -> str:
    """Say how many pairs are too close to call, and how often the model is right on the others."""
    least, close = evaluate.get("min_confidence"), evaluate.get("too_close_to_call")
    if not (fmt.known(least) and fmt.known(close)):
        return f"How many pairs are too close to call: {fmt.NOT_AVAILABLE}."
    least, close = fmt.percent(least, 0), fmt.percent(close)
    said = f"At less than {least} confidence a pair is too close to call: {close} of them."
    right = evaluate.get("pairwise_accuracy_called")
    return f"{said} Of the rest, {fmt.percent(right)} are right." if fmt.known(right) else f"{said} None is called."
