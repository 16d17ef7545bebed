"""Is it quality that was learned? The model against predictors that see no picture, and columns that tell the tier.

Shortcuts are fitted on the training side and judged on the same test pairs as the model, with the same metric:
none of them has seen the test side, and the comparison is paired. What a column tells of the tier is measured on
all rows. Whether any of it is more than chance is one family-wise test over all columns and shortcuts together,
groups kept whole: of 15 useless predictors one looks like a finding on every other clean set.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mirip.metrics.intervals import bootstrap_accuracies, group_support, percentile_interval
from mirip.metrics.pairwise import pairwise_accuracy
from mirip.metrics.permutation import entropy, family_wise_p, rank_agreement, tier_information
from mirip.metrics.shortcuts import Column, shortcut_scores

Floats = NDArray[np.float64]
Severity = Literal["info", "warning", "critical"]

ALL_TOGETHER = "all together"
SIGNIFICANCE = 0.05
# Shares of the tier's entropy that a column takes away, beyond what chance would.
DETERMINES, TELLS_MUCH = 0.8, 0.3


@dataclass(frozen=True)
class Finding:
    """Something that stands between the figure and what it should mean.

    Attributes:
        name: what was found, of which column.
        severity: info, warning or critical.
        value: an accuracy, a margin, or a share of entropy, as the name says.
        p_value: family-wise, in (0, 1]; of a margin, the share of resamples in which it is not above 0.
        advice: what to do.
    """

    name: str
    severity: Severity
    value: float
    p_value: float
    advice: str


@dataclass(frozen=True)
class Audit:
    """What `audit_ranker` found.

    Attributes:
        metrics: flat scalars, the names of metrics/audit.json.
        shortcuts: shortcut, pairwise_accuracy, ci_low, ci_high, margin (model minus shortcut), margin_ci_low,
            margin_ci_high, p_value; the strongest first.
        findings: name, severity, value, p_value, advice; the gravest first.
    """

    metrics: dict[str, float | int | str]
    shortcuts: pd.DataFrame
    findings: pd.DataFrame


def audit_ranker(
    model_scores: Floats,
    shortcuts: Mapping[str, Sequence[Column]],
    tier_rank: NDArray[np.integer],
    group_id: NDArray[np.generic],
    train: NDArray[np.bool_],
    test: NDArray[np.bool_],
    *,
    folds: int = 5,
    n_bootstrap: int = 2000,
    confidence: float = 0.95,
    seed: int = 42,
) -> Audit:
    """Search for shortcuts.

    Args:
        model_scores: (T,) of the model on the test rows, in their order.
        shortcuts: name -> columns of N values each; all of them together are added as one more.
        tier_rank: (N,) integers from 0, higher is better.
        group_id: (N,) labels of what is resampled and permuted together.
        train: (N,) bool, rows that shortcuts are fitted on.
        test: (N,) bool, T rows that model and shortcuts are judged on.
        folds: of the choice of each shortcut's penalty, whole groups, within `train`.
        n_bootstrap: resamples of the intervals, and permutations of the tests.
        confidence: nominal coverage of the intervals.
        seed: of folds, resamples and permutations.

    Raises:
        ValueError: the shapes do not fit, or a score is not finite.
    """
    rng = np.random.default_rng(seed)
    columns = [column for parts in shortcuts.values() for column in parts]
    predictors = {name: list(parts) for name, parts in shortcuts.items()}
    if len(predictors) > 1:
        predictors[ALL_TOGETHER] = columns
    scores = {
        name: shortcut_scores(parts, tier_rank, group_id, train, folds=folds, rng=rng)[test]
        for name, parts in predictors.items()
    } or {"none": np.zeros(int(test.sum()))}
    rank, group = tier_rank[test], group_id[test]
    table = _judge(model_scores, scores, rank, group, n_bootstrap, confidence, rng)
    agreement = rank_agreement(np.stack([*scores.values()]), rank, group, n_permutations=n_bootstrap, rng=rng)
    families = [agreement]
    if columns:
        codes = [column.codes for column in columns]
        families.append(tier_information(codes, tier_rank, group_id, n_permutations=n_bootstrap, rng=rng))
    p_values = family_wise_p(families)
    table["p_value"] = p_values[0]
    margin_p = table.pop("margin_p")
    best = int(table["pairwise_accuracy"].to_numpy().argmax())
    findings = _shortcut_findings(table) + _margin_findings(table.iloc[best], float(margin_p.iloc[best]))
    if columns:
        tier_entropy = float(entropy(np.bincount(tier_rank)))
        chance = families[1].expected
        share = (families[1].observed - chance) / np.maximum(tier_entropy - chance, 1e-12)
        findings += _column_findings(columns, share, p_values[1])
    findings.sort(key=lambda finding: (-_GRAVITY.index(finding.severity), finding.p_value, finding.name))
    return Audit(
        _headline(table.iloc[best], findings),
        table.sort_values("pairwise_accuracy", ascending=False, kind="stable", ignore_index=True),
        pd.DataFrame([vars(f) for f in findings], columns=["name", "severity", "value", "p_value", "advice"]),
    )


_GRAVITY = ["info", "warning", "critical"]


def _judge(
    model_scores: Floats,
    scores: Mapping[str, Floats],
    rank: NDArray[np.integer],
    group: NDArray[np.generic],
    n_bootstrap: int,
    confidence: float,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Accuracy of each shortcut and the model's margin over it, on the same pairs and resamples."""
    sets = np.stack([np.asarray(model_scores, dtype=np.float64), *scores.values()])
    resampled = bootstrap_accuracies(sets, rank, group, rng=rng, n_bootstrap=n_bootstrap)  # (R, 1 + M)
    model_accuracy, support = pairwise_accuracy(model_scores, rank), group_support(rank, group)
    rows = []
    for column, (name, values) in enumerate(scores.items(), 1):
        accuracy = pairwise_accuracy(values, rank)
        margins = resampled[:, 0] - resampled[:, column]
        own = percentile_interval(resampled[:, column], support, confidence=confidence)
        margin = percentile_interval(margins, support, confidence=confidence, limits=(-1.0, 1.0))
        rows.append(
            {
                "shortcut": name,
                "pairwise_accuracy": accuracy,
                "ci_low": own.low,
                "ci_high": own.high,
                "margin": model_accuracy - accuracy,
                "margin_ci_low": margin.low,
                "margin_ci_high": margin.high,
                "margin_p": (1 + np.sum(~(margins > 0))) / (1 + len(margins)),
            }
        )
    return pd.DataFrame(rows)


def _shortcut_findings(table: pd.DataFrame) -> list[Finding]:
    found = []
    for row in table[table["p_value"] < SIGNIFICANCE].to_dict("records"):
        name, accuracy, p_value = row["shortcut"], row["pairwise_accuracy"], row["p_value"]
        reached = f"{name} alone reaches {accuracy:.3f} on the test pairs"
        if row["margin_ci_low"] > 0:
            severity: Severity = "info"
            advice = f"{reached}; the model is above it beyond noise"
        else:
            severity = "critical" if row["margin"] <= 0 else "warning"
            advice = (
                f"{reached}, and the model is not shown to be above it: make it alike for all tiers, or compare and "
                "split within what it stands for (data.context, data.group)"
            )
        found.append(Finding(f"shortcut: {name}", severity, accuracy, p_value, advice))
    return found


def _margin_findings(best: pd.Series, p_value: float) -> list[Finding]:
    if best["margin_ci_low"] > 0:
        return []
    severity: Severity = "critical" if best["margin_ci_high"] < 0 else "warning"
    words = "is below" if severity == "critical" else "is not shown to be above"
    advice = (
        f"the model {words} the best predictor that sees no picture ({best['shortcut']}): give more test groups, "
        "or do not claim that it judges quality"
    )
    return [Finding("margin over the best shortcut", severity, float(best["margin"]), p_value, advice)]


def _column_findings(columns: Sequence[Column], share: Floats, p_values: Floats) -> list[Finding]:
    found = []
    for column, told, p_value in zip(columns, share.tolist(), p_values.tolist(), strict=True):
        if p_value >= SIGNIFICANCE:
            continue
        if told >= DETERMINES:
            severity: Severity = "critical"
            advice = f"{column.name} all but determines the tier: is the tier a judgement of the picture at all?"
        else:
            severity = "warning" if told >= TELLS_MUCH else "info"
            advice = (
                f"the tier mix differs with {column.name}: unless that is quality itself, collect works alike in it; a "
                "column of the metadata may stand in data.context (compare within it) or in audit.ignore"
            )
        found.append(Finding(f"tier told by: {column.name}", severity, told, p_value, advice))
    return found


def _headline(best: pd.Series, findings: Sequence[Finding]) -> dict[str, float | int | str]:
    return {
        "best_shortcut": str(best["shortcut"]),
        "best_shortcut_accuracy": float(best["pairwise_accuracy"]),
        "margin_over_shortcut": float(best["margin"]),
        "margin_over_shortcut_ci_low": float(best["margin_ci_low"]),
        "margin_over_shortcut_ci_high": float(best["margin_ci_high"]),
        "n_findings": len(findings),
        **{
            f"n_findings_{severity}": sum(finding.severity == severity for finding in findings) for severity in _GRAVITY
        },
    }
