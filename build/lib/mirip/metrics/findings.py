"""What an audit says in words: each finding with its severity, a number and what to do."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mirip.metrics.columns import Column
from mirip.metrics.near_duplicates import NearDuplicates

Floats = NDArray[np.float64]
Severity = Literal["info", "warning", "critical"]

SEVERITIES: tuple[Severity, ...] = ("info", "warning", "critical")
SIGNIFICANCE = 0.05
# Shares of the tier's entropy that a column takes away beyond what chance would, and an accuracy that is as telling.
DETERMINES, TELLS_MUCH = 0.8, 0.3
DETERMINES_ACCURACY = 0.95
# Share of the images looked up with a near-duplicate on another side that no small print can excuse.
MANY_DUPLICATES = 0.05
_NOT_A_TEST = float("nan")


@dataclass(frozen=True)
class Finding:
    """Something that stands between the figure and what it should mean.

    Attributes:
        name: what was found, of which column.
        severity: info, warning or critical.
        value: an accuracy, a margin, a share of entropy or a count, as the name says.
        p_value: family-wise, in (0, 1]; NaN where the finding is no test.
        advice: what to do.
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
    """Judge the predictors that order pairs beyond chance, by whether the model is above them.

    Args:
        table: as `Audit.shortcuts`.
    """
    found = []
    for row in table[table["p_value"] < SIGNIFICANCE].to_dict("records"):
        name, accuracy = row["shortcut"], row["pairwise_accuracy"]
        reached = f"{name} alone reaches {accuracy:.3f} on the pairs of images that it did not see"
        if row["margin_ci_low"] > 0:
            severity: Severity = "info"
            advice = f"{reached}; the model is above it beyond noise"
        else:
            severity = "critical" if row["margin_ci_high"] < 0 else "warning"
            advice = (
                f"{reached}, and the model is not shown to be above it: make it alike for all tiers, or compare and "
                "split within what it stands for (data.context, data.group)"
            )
        found.append(Finding(f"shortcut: {name}", severity, accuracy, row["p_value"], advice))
    return found


def column_findings(
    columns: Sequence[Column], share: Floats, p_values: Floats, accuracy: Mapping[str, float]
) -> list[Finding]:
    """Judge the columns that tell more of the tier than chance, by how much.

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
        name, severity = f"tier told by: {column.name}", "warning" if told >= TELLS_MUCH else "info"
        if told >= DETERMINES or accuracy.get(column.name, 0) >= DETERMINES_ACCURACY:
            name, severity = f"label leak: {column.name}", "critical"
            advice = (
                f"{column.name} all but determines the tier: is the tier a judgement of the picture at all? A mark "
                "that the tier was cut from belongs in audit.ignore; what a school or a file brings with it does not"
            )
        else:
            advice = (
                f"the tier mix differs with {column.name}: unless that is quality itself, collect works alike in it; a "
                "column of the metadata may stand in data.context (compare within it) or in audit.ignore"
            )
        found.append(Finding(name, severity, told, p_value, advice))  # type: ignore[arg-type]
    return found


def duplicate_findings(near: NearDuplicates, names: Sequence[str]) -> list[Finding]:
    """Say how many images have a near-duplicate on another side of the split.

    Args:
        near: what was found.
        names: what to call each of its first pairs in public.
    """
    if not (count := len(near.pairs)):
        return []
    severity: Severity = "critical" if count > MANY_DUPLICATES * near.n_searched else "warning"
    drawn = "" if near.n_searched == near.n_candidates else f" (drawn from {near.n_candidates})"
    advice = (
        f"{count} of {near.n_searched} images looked up{drawn} have a near-duplicate on another side of the split "
        f"({'; '.join(names)}{', ...' if count > len(names) else ''}): look at the pairs in near_duplicates.csv, and "
        "name what ties them together in data.group or remove one of each"
    )
    return [Finding("near-duplicates across splits", severity, count, _NOT_A_TEST, advice)]
