"""What an audit says in words: each finding says what was seen, what it means and what to do."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mirip.metrics.columns import ALL_TOGETHER, ROW_ORDER, Column
from mirip.metrics.image_issues import NearDuplicates

Floats = NDArray[np.float64]
Severity = Literal["info", "warning", "critical"]

SEVERITIES: tuple[Severity, ...] = ("info", "warning", "critical")
SIGNIFICANCE = 0.05
# Shares of the tier's entropy that a column takes away beyond what chance would, and an accuracy that is as telling.
DETERMINES, TELLS_MUCH = 0.8, 0.3
DETERMINES_ACCURACY = 0.95
# Share of the searched images with a near-duplicate in another split above which no number can be trusted.
MANY_DUPLICATES = 0.05
_NOT_A_TEST = float("nan")
_SORTED = (
    "The order of the rows in the metadata tells the tier (accuracy {:.3f} on held-out images): the table is sorted. "
    "No model sees that order, so no accuracy rests on it. If the order says when artworks were collected, name a "
    'column with that time in data.context; else name "row" in audit.ignore.'
)


@dataclass(frozen=True)
class Finding:
    """A reason why an accuracy may not mean what it seems to mean.

    Attributes:
        name: what was found, of which column.
        severity: info, warning or critical.
        value: an accuracy, a margin, a share of entropy or a count, as the name says.
        p_value: family-wise, in (0, 1]; NaN where the finding is no test.
        advice: what was seen, what it means, what to do; in sentences.
    """

    name: str
    severity: Severity
    value: float
    p_value: float
    advice: str


def as_table(findings: Iterable[Finding]) -> pd.DataFrame:
    """Return name, severity, value, p_value, advice; the gravest first, then the surest."""
    ordered = sorted(findings, key=lambda f: (-SEVERITIES.index(f.severity), np.nan_to_num(f.p_value), f.name))
    return pd.DataFrame([vars(f) for f in ordered], columns=["name", "severity", "value", "p_value", "advice"])


def at_least(findings: pd.DataFrame, severity: Severity) -> list[str]:
    """Return the names of the findings of a severity and above."""
    grave = SEVERITIES[SEVERITIES.index(severity) :]
    return [str(name) for name in findings.loc[findings["severity"].isin(grave), "name"]]


def shortcut_findings(table: pd.DataFrame) -> list[Finding]:
    """Return a finding for each predictor that orders pairs beyond chance, graver where the model is not above it.

    Args:
        table: as `Audit.shortcuts`.
    """
    found = []
    for row in table[table["p_value"] < SIGNIFICANCE].to_dict("records"):
        name, accuracy = row["shortcut"], row["pairwise_accuracy"]
        if name == ROW_ORDER:
            found.append(Finding("row order", "info", accuracy, row["p_value"], _SORTED.format(accuracy)))
            continue
        looked_at = "all file data and columns together" if name == ALL_TOGETHER else name
        seen = f"The tier can be predicted from {looked_at} alone (accuracy {accuracy:.3f} on held-out images)."
        # The interval may be unknown (NaN): then the model is not shown to be better.
        if row["margin_ci_low"] > 0:
            severity: Severity = "info"
            advice = (
                f"{seen} The model is better than this beyond noise, so it has learned more. "
                "Name both accuracies where you report the result."
            )
        else:
            worse = row["margin_ci_high"] < 0
            severity = "critical" if worse else "warning"
            shown = "is worse than this" if worse else "is not shown to be better than this"
            advice = (
                f"{seen} The model {shown}, so its accuracy does not show that it sees quality. "
                f"Balance {looked_at} across tiers, or compare within data.context."
            )
        found.append(Finding(f"shortcut: {name}", severity, accuracy, row["p_value"], advice))
    return found


def column_findings(
    columns: Sequence[Column], share: Floats, p_values: Floats, accuracy: Mapping[str, float]
) -> list[Finding]:
    """Return a finding for each column that tells more of the tier than chance, graver the more it tells.

    Args:
        columns: M columns.
        share: (M,) of the tier's entropy that each takes away, beyond what chance would.
        p_values: (M,) family-wise.
        accuracy: column's name -> accuracy of the shortcut that looks at nothing else, where there is one.
    """
    found = []
    for column, told, p_value in zip(columns, share.tolist(), p_values.tolist(), strict=True):
        if p_value >= SIGNIFICANCE:
            continue
        takes = f"it takes away {told:.0%} of the tier's entropy"
        if told >= DETERMINES or accuracy.get(column.name, 0) >= DETERMINES_ACCURACY:
            name, severity = f"label leak: {column.name}", "critical"
            advice = (
                f"{column.name} nearly determines the tier: {takes}. The tier may not be an evaluation of the image at "
                "all. If the tier was computed from this column, as from a mark, name it in audit.ignore; else collect "
                "images of every tier for each of its values."
            )
        else:
            name, severity = f"tier told by: {column.name}", "warning" if told >= TELLS_MUCH else "info"
            advice = (
                f"The mix of tiers differs with {column.name}: {takes}. A model can use that instead of quality. "
                "Collect images that do not differ in it across tiers. A column of the metadata may be named in "
                "data.context (compare within it), in data.group (keep each of its values in one split) or, if it is "
                "quality itself, in audit.ignore."
            )
        found.append(Finding(name, severity, told, p_value, advice))  # type: ignore[arg-type]
    return found


def duplicate_findings(near: NearDuplicates, names: Sequence[str]) -> list[Finding]:
    """Return a finding that counts the images with a near-duplicate in another split, or none where none has one.

    Args:
        near: what was found.
        names: what to call each of its first pairs in public.
    """
    if not (count := len(near.pairs)):
        return []
    severity: Severity = "critical" if count > MANY_DUPLICATES * near.n_searched else "warning"
    drawn = "" if near.n_searched == near.n_candidates else f" (drawn from {near.n_candidates})"
    advice = (
        f"{count} of {near.n_searched} images searched{drawn} have a near-duplicate in another split "
        f"({'; '.join(names)}{', ...' if count > len(names) else ''}). The model may know a part of the test split by "
        "heart. Look at the pairs in near_duplicates.csv; name in data.group what ties them together, or remove one "
        "image of each pair."
    )
    return [Finding("near-duplicates across splits", severity, count, _NOT_A_TEST, advice)]
