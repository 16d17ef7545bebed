"""Is it quality that was learned? The model against predictors blind to what is depicted, and columns that tell tiers.

Model and shortcuts are cross-fitted on the same folds of whole groups and judged on the same pairs, those of one
fold, with the same metric: every image is scored by a model and by regressions that saw none of its group, all images
are judged, and the comparison is paired. What a column tells of the tier is measured on all rows. Whether any of it
is more than chance is one family-wise test over all columns and shortcuts together, groups kept whole and every
shortcut fitted again to each permutation: of 15 useless predictors one looks like a finding on every other clean set.

Whether the model is above the best shortcut is a verdict of its own, from the margin's interval. It is no finding: few
works leave it undecided without anything being wrong, and it would count beside the family-wise test, not within.

Intervals resample groups under fixed scores: they hold the luck of which works were collected, not that of training.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mirip.metrics.columns import ALL_TOGETHER, Column
from mirip.metrics.findings import SEVERITIES, Finding, as_table, column_findings, shortcut_findings
from mirip.metrics.intervals import (
    Interval,
    bootstrap_accuracies,
    comparison,
    percentile_interval,
    resampled_accuracy_interval,
)
from mirip.metrics.pairwise import PairCounter, pairwise_accuracy
from mirip.metrics.permutation import against_chance, entropy, family_wise_p, tier_information
from mirip.metrics.shortcuts import Shortcuts
from mirip.metrics.support import GroupSupport, group_support

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Audit:
    """What `audit_ranker` found.

    Attributes:
        metrics: flat scalars, the names of metrics/audit.json.
        shortcuts: shortcut, pairwise_accuracy, ci_low, ci_high, margin (model minus shortcut), margin_ci_low,
            margin_ci_high, p_value; the strongest first.
        columns: column, information (nats by which it lowers the tier's entropy), expected (the same under chance),
            share (of the tier's entropy, beyond what chance would), p_value (family-wise); the most telling first.
        findings: name, severity, value, p_value (empty where it is no test), advice; the gravest first.
    """

    metrics: dict[str, float | int | str]
    shortcuts: pd.DataFrame
    columns: pd.DataFrame
    findings: pd.DataFrame


def audit_ranker(
    model_scores: Floats,
    shortcuts: Mapping[str, Sequence[Column]],
    tier_rank: NDArray[np.integer],
    group_id: NDArray[np.generic],
    fold: NDArray[np.integer],
    *,
    more_findings: Sequence[Finding] = (),
    n_bootstrap: int = 2000,
    confidence: float = 0.95,
    seed: int = 42,
) -> Audit:
    """Search for shortcuts.

    Args:
        model_scores: (N,) of models that saw no image of the fold, higher is better.
        shortcuts: name -> columns of N values each; all of them together are added as one more. A column that
            several look at is one object.
        tier_rank: (N,) integers from 0, higher is better.
        group_id: (N,) labels of what is resampled and permuted together.
        fold: (N,) int64 from 0, three or more; a group's rows all stand in one, and only pairs within one count.
        more_findings: what was found elsewhere, to be listed and counted with the rest.
        n_bootstrap: resamples of the intervals, and permutations of the tests.
        confidence: nominal coverage of the intervals.
        seed: of resamples and permutations.

    Raises:
        ValueError: the shapes do not fit, a score is not finite, or there are fewer than three folds.
    """
    rng = np.random.default_rng(seed)
    predictors = {name: list(parts) for name, parts in shortcuts.items()}
    columns = list({id(column): column for parts in predictors.values() for column in parts}.values())
    if len(predictors) > 1:
        predictors[ALL_TOGETHER] = columns
    fitted = Shortcuts(predictors or {"none": []}, fold)
    sets = np.vstack([np.asarray(model_scores, dtype=np.float64), fitted.scores(tier_rank)])
    resampled = bootstrap_accuracies(sets, tier_rank, group_id, rng=rng, n_bootstrap=n_bootstrap, context=fold)
    support = group_support(tier_rank, group_id, fold)
    table = _judge(sets, fitted.names, resampled, tier_rank, fold, support, confidence)
    agreement, information = against_chance(
        [fitted.agreement, tier_information([column.codes for column in columns])],
        tier_rank,
        group_id,
        n_permutations=n_bootstrap,
        rng=rng,
        fold=fold,
    )
    table["p_value"], column_p = family_wise_p([agreement, information])
    tier_entropy = float(entropy(np.bincount(tier_rank)))
    share = (information.observed - information.expected) / np.maximum(tier_entropy - information.expected, 1e-12)
    alone = {parts[0].name: name for name, parts in shortcuts.items() if len(parts) == 1}
    accuracy = table.set_index("shortcut")["pairwise_accuracy"]
    best = table.iloc[int(table["pairwise_accuracy"].to_numpy().argmax())]
    findings = as_table(
        [
            *shortcut_findings(table),
            *column_findings(columns, share, column_p, {c: float(accuracy[name]) for c, name in alone.items()}),
            *more_findings,
        ]
    )
    pairs = PairCounter(model_scores, tier_rank, fold).count()
    own = resampled_accuracy_interval(float(pairs.micro), resampled[:, 0], support, confidence=confidence)
    by_image = bootstrap_accuracies(
        sets[:1], tier_rank, np.arange(len(tier_rank)), rng=rng, n_bootstrap=n_bootstrap, context=fold
    )
    return Audit(
        {
            "best_shortcut": str(best["shortcut"]),
            "best_shortcut_accuracy": float(best["pairwise_accuracy"]),
            "margin_over_shortcut": float(best["margin"]),
            "margin_over_shortcut_ci_low": float(best["margin_ci_low"]),
            "margin_over_shortcut_ci_high": float(best["margin_ci_high"]),
            "margin_over_shortcut_verdict": comparison(
                Interval(best["margin_ci_low"], best["margin_ci_high"], support.small_sample)
            ),
            "out_of_fold_accuracy": float(pairs.micro),
            "out_of_fold_accuracy_ci_low": own.low,
            "out_of_fold_accuracy_ci_high": own.high,
            "n_images": len(tier_rank),
            "n_groups": support.n_groups,
            "n_effective_images": effective_images(by_image[:, 0], resampled[:, 0], len(tier_rank), support.n_groups),
            "n_pairs": int(pairs.pairs.sum()),
            "n_folds": int(fold.max()) + 1,
            "n_findings": len(findings),
            **{f"n_findings_{severity}": int((findings["severity"] == severity).sum()) for severity in SEVERITIES},
        },
        table.sort_values("pairwise_accuracy", ascending=False, kind="stable", ignore_index=True),
        pd.DataFrame(
            {
                "column": [column.name for column in columns],
                "information": information.observed,
                "expected": information.expected,
                "share": share,
                "p_value": column_p,
            }
        ).sort_values("share", ascending=False, kind="stable", ignore_index=True),
        findings,
    )


def effective_images(by_image: Floats, by_group: Floats, n_images: int, n_groups: int) -> float:
    """Return how many independent images would tell the accuracy as surely as these.

    Kish's effective sample size (Survey Sampling 1965, ch. 5): N over the design effect, which is the variance of the
    accuracy when whole groups are resampled over that when single images are. Equal to N where each image is a
    group, and towards the number of groups where the works of one are alike. Never above N: that groups spread
    less than images do is noise.

    Args:
        by_image: (R,) accuracies of resamples over images; NaN is left out.
        by_group: (R,) of resamples over groups.
        n_images: N.
        n_groups: number of groups.

    Returns:
        A number in (0, N]; NaN where the accuracy does not vary.
    """
    if n_groups == n_images:
        return float(n_images)
    of_images, of_groups = float(np.nanvar(by_image)), float(np.nanvar(by_group))
    if of_images <= 0 or n_groups < 2:
        return float("nan")
    return n_images * min(of_images / max(of_groups, of_images), 1.0)


def _judge(
    sets: Floats,
    names: Sequence[str],
    resampled: Floats,
    tier_rank: NDArray[np.integer],
    fold: NDArray[np.integer],
    support: GroupSupport,
    confidence: float,
) -> pd.DataFrame:
    """Accuracy of each shortcut (sets[1:]) and the margin of the model (sets[0]) over it, on the same pairs."""
    accuracies = [pairwise_accuracy(scores, tier_rank, context=fold) for scores in sets]
    rows = []
    for column, name in enumerate(names, 1):
        margins = resampled[:, 0] - resampled[:, column]
        own = resampled_accuracy_interval(accuracies[column], resampled[:, column], support, confidence=confidence)
        margin = percentile_interval(margins, support, confidence=confidence, limits=(-1.0, 1.0))
        rows.append(
            {
                "shortcut": name,
                "pairwise_accuracy": accuracies[column],
                "ci_low": own.low,
                "ci_high": own.high,
                "margin": accuracies[0] - accuracies[column],
                "margin_ci_low": margin.low,
                "margin_ci_high": margin.high,
            }
        )
    return pd.DataFrame(rows)
