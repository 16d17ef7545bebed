"""Is it quality that was learned? The model against predictors that do not see the image, and columns that tell tiers.

Model and shortcuts are cross-fitted on the same folds of whole groups and evaluated on the same pairs, those within one
fold, with the same metric: every image is scored by a model and by regressions that saw none of its group, all images
are evaluated, and the comparison is paired. What a column tells of the tier is measured on all rows. Whether any of it
is more than chance is one family-wise test over all columns and shortcuts together, with whole groups and with every
shortcut fitted again to each permutation: of 15 useless predictors one looks like a finding on every other clean set.

Whether the model is above the best shortcut is a verdict of its own, from the margin's interval. It is no finding: a
small sample leaves it undecided without anything being wrong, and it would count beside the family-wise test, not
within.

Intervals resample groups under fixed scores: they hold the luck of which images were collected, not that of training.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mirip.metrics.columns import ALL_TOGETHER, ROW_ORDER, Column
from mirip.metrics.comparison import Comparison, compare_with_model
from mirip.metrics.findings import SEVERITIES, Finding, as_table, column_findings, shortcut_findings
from mirip.metrics.intervals import Interval, bootstrap_accuracies, group_support
from mirip.metrics.pairwise import PairCounter
from mirip.metrics.permutation import against_chance, entropy, family_wise_p, tier_information
from mirip.metrics.shortcuts import Shortcuts
from mirip.randomness import stream

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Audit:
    """What `audit_ranker` found.

    Attributes:
        metrics: flat scalars, the names of metrics/audit.json. `small_sample`: too few groups for any verdict.
        shortcuts: shortcut, pairwise_accuracy, ci_low, ci_high, margin (model minus shortcut), margin_ci_low,
            margin_ci_high, p_value; the strongest first.
        columns: column, information (nats by which it lowers the tier's entropy), expected (the same under chance),
            share (of the tier's entropy, beyond what chance would), p_value (family-wise); the most telling first.
        findings: name, severity, value, p_value (empty where it is no test), advice; the gravest first.
        verdict: of the model against the best shortcut.
        out_of_fold: interval of the model's accuracy.
    """

    metrics: dict[str, float | int | str]
    shortcuts: pd.DataFrame
    columns: pd.DataFrame
    findings: pd.DataFrame
    verdict: Comparison
    out_of_fold: Interval


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
        shortcuts: name -> columns of N values each; all of them together are added as one more, but for the row
            order, which no model sees and which is therefore in no margin. A column that several look at is one object.
        tier_rank: (N,) integers from 0, higher is better.
        group_id: (N,) labels of what is resampled and permuted together.
        fold: (N,) int64 from 0, three or more; all rows of a group are in one, and only pairs within one count.
        more_findings: what was found elsewhere, to be listed and counted with the rest.
        n_bootstrap: resamples of the intervals, and permutations of the tests.
        confidence: nominal coverage of the intervals.
        seed: of resamples and permutations.

    Raises:
        ValueError: the shapes do not fit, a score is not finite, or there are fewer than three folds.
    """
    predictors = {name: list(parts) for name, parts in shortcuts.items()}
    order = predictors.pop(ROW_ORDER, None)
    columns = list({id(column): column for parts in predictors.values() for column in parts}.values())
    if len(predictors) > 1:
        predictors[ALL_TOGETHER] = columns
    if order is not None:
        predictors[ROW_ORDER] = order
    fitted = Shortcuts(predictors or {"none": []}, fold)
    sets = np.vstack([np.asarray(model_scores, dtype=np.float64), fitted.scores(tier_rank)])
    resampled = bootstrap_accuracies(
        sets, tier_rank, group_id, rng=stream(seed, "bootstrap"), n_bootstrap=n_bootstrap, context=fold
    )
    support = group_support(tier_rank, group_id, fold)
    counts = [PairCounter(scores, tier_rank, fold).count() for scores in sets]
    accuracies = [float(count.micro) for count in counts]
    model, *predicted = compare_with_model(
        ["model", *fitted.names], accuracies, resampled, model=0, support=support, confidence=confidence
    )
    # The first of equals, in the order in which they were given.
    best = max((one for one in predicted if one.name != ROW_ORDER), key=lambda one: one.accuracy, default=predicted[0])
    table = pd.DataFrame([{"shortcut": one.name, **one.row()} for one in predicted])
    agreement, information = against_chance(
        [fitted.agreement, tier_information([column.codes for column in columns])],
        tier_rank,
        group_id,
        n_permutations=n_bootstrap,
        rng=stream(seed, "permutations"),
        fold=fold,
    )
    table["p_value"], column_p = family_wise_p([agreement, information])
    tier_entropy = float(entropy(np.bincount(tier_rank)))
    share = (information.observed - information.expected) / np.maximum(tier_entropy - information.expected, 1e-12)
    alone = {parts[0].name: name for name, parts in shortcuts.items() if len(parts) == 1}
    accuracy = {one.name: one.accuracy for one in predicted}
    findings = as_table(
        [
            *shortcut_findings(table),
            *column_findings(columns, share, column_p, {c: accuracy[name] for c, name in alone.items()}),
            *more_findings,
        ]
    )
    by_image = bootstrap_accuracies(
        sets[:1],
        tier_rank,
        np.arange(len(tier_rank)),
        rng=stream(seed, "bootstrap of images"),
        n_bootstrap=n_bootstrap,
        context=fold,
    )
    return Audit(
        {
            "best_shortcut": best.name,
            "best_shortcut_accuracy": best.accuracy,
            "margin_over_shortcut": best.margin,
            "margin_over_shortcut_ci_low": best.difference.low,
            "margin_over_shortcut_ci_high": best.difference.high,
            "margin_over_shortcut_verdict": best.verdict,
            "out_of_fold_accuracy": model.accuracy,
            "out_of_fold_accuracy_ci_low": model.interval.low,
            "out_of_fold_accuracy_ci_high": model.interval.high,
            "n_images": len(tier_rank),
            "n_groups": support.n_groups,
            "small_sample": support.small_sample,
            "n_effective_images": effective_images(by_image[:, 0], resampled[:, 0], len(tier_rank), support.n_groups),
            "n_pairs": int(counts[0].pairs.sum()),
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
        best.verdict,
        model.interval,
    )


def effective_images(by_image: Floats, by_group: Floats, n_images: int, n_groups: int) -> float:
    """Return how many independent images would tell the accuracy as surely as these.

    Kish's effective sample size (Survey Sampling 1965, ch. 5): N over the design effect, which is the variance of the
    accuracy when whole groups are resampled over that when single images are. Equal to N where each image is a
    group, and close to the number of groups where the images of one are similar. Never above N: that groups spread
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
