"""What the audit found: the model next to predictors that are blind to what is depicted, and the findings."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from mirip.report import formatting as fmt

FIRST_SHOWN = 8
MOST_LISTED = 200

_TONES = {"critical": "bad", "warning": "open"}
_NOTHING_FOUND = (
    "None: no predictor that is blind to what is depicted and no column tells the tier beyond chance, and no "
    "near-duplicate was found in two splits."
)


def shortcut_sentence(audit: Mapping[str, Any]) -> str:
    """Say how far the model is above the best predictor that is blind to what is depicted."""
    best = audit.get("best_shortcut")
    if not fmt.known(best) or not fmt.known(audit.get("best_shortcut_accuracy")):
        return f"The best predictor that is blind to what is depicted: {fmt.NOT_AVAILABLE}."
    name = "margin_over_shortcut"
    return (
        f"The best predictor that is blind to what is depicted, {best}, orders "
        f"{fmt.percent(audit['best_shortcut_accuracy'])} of the pairs correctly. "
        f"{fmt.against('it', audit.get(name), fmt.interval_of(audit, name))}"
    )


def tiles(audit: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return name, value and remark of what the audit measured beside its findings."""
    margin = fmt.interval_of(audit, "margin_over_shortcut")
    n_near = audit.get("n_near_duplicates")
    alone = fmt.known(audit.get("n_images")) and audit.get("n_images") == audit.get("n_groups")
    why = "each is its own group" if alone else "artworks of one group are similar"
    return [
        (
            "Out of fold",
            fmt.percent(audit.get("out_of_fold_accuracy")),
            fmt.span(fmt.interval_of(audit, "out_of_fold_accuracy")),
        ),
        (
            "Above the best shortcut",
            fmt.points(audit.get("margin_over_shortcut")),
            "" if margin is None else f"points, {fmt.points(margin.low)} to {fmt.points(margin.high)}",
        ),
        (
            "Independent images",
            fmt.number(audit.get("n_effective_images"), 0),
            f"of {fmt.number(audit.get('n_images'), 0)}; {why}",
        ),
        ("Near-duplicates", fmt.number(n_near, 0), f"pair{'' if n_near == 1 else 's'} in two splits"),
    ]


def how(audit: Mapping[str, Any]) -> str:
    """Say how the values of the audit were measured."""
    said = (
        f"Measured out of fold: {fmt.number(audit.get('n_folds'), 0)} models, each on artworks that it did not see; "
        f"{fmt.number(audit.get('n_pairs'), 0)} pairs of {fmt.number(audit.get('n_images'), 0)} images in "
        f"{fmt.number(audit.get('n_groups'), 0)} groups. So the accuracy here differs from the headline's."
    )
    left_out = audit.get("columns_left_out")
    return f"{said} Not looked at: {left_out}." if left_out else said


def shortcut_rows(audit: Mapping[str, Any], shortcuts: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the model and each predictor, with its place on a common line in percent of its length (None: unknown)."""
    rows: list[dict[str, Any]] = [
        {
            "name": "the model",
            "accuracy": audit.get("out_of_fold_accuracy"),
            "interval": fmt.interval_of(audit, "out_of_fold_accuracy"),
            "margin": "",
            "ours": True,
        }
    ]
    rows += [
        {
            "name": row["shortcut"],
            "accuracy": row["pairwise_accuracy"],
            "interval": fmt.interval_of(row),
            "margin": fmt.margin(row["margin"], fmt.interval_of(row, "margin")),
            "ours": False,
        }
        for row in shortcuts.to_dict("records")
    ]
    known = [row["accuracy"] for row in rows if fmt.known(row["accuracy"])]
    known += [bound for row in rows if row["interval"] for bound in (row["interval"].low, row["interval"].high)]
    start, stop = min([0.45, *known]) - 0.01, max([0.55, *known]) + 0.01
    target = _place(rows[0]["accuracy"], start, stop)
    for row in rows:
        interval = row["interval"]
        row["chance"], row["target"] = _place(0.5, start, stop), target
        row["at"] = {
            "accuracy": _place(row["accuracy"], start, stop),
            "low": None if interval is None else _place(interval.low, start, stop),
            "high": None if interval is None else _place(interval.high, start, stop),
        }
        row["drawn"] = all(place is not None for place in row["at"].values())
    return rows


def column_rows(columns: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Return of each column its name, the share of the tier's entropy that it takes away beyond chance, and its p."""
    return [
        (row["column"], fmt.percent(max(row["share"], 0.0)), fmt.number(row["p_value"], 4))
        for row in columns.to_dict("records")
    ]


def findings(audit: Mapping[str, Any], table: pd.DataFrame) -> dict[str, Any]:
    """Return the findings, `first` of them and `more`, how many there are, and what to say if there is none."""
    gravest, counted = severities(table)
    listed = [
        {
            "name": row["name"],
            "severity": row["severity"],
            "tone": _TONES.get(row["severity"], ""),
            "value": value_in_words(row["name"], row["value"]),
            "p": f"family-wise p {fmt.number(row['p_value'], 4)}" if fmt.known(row["p_value"]) else "no test",
            "advice": row["advice"],
        }
        for row in table.head(MOST_LISTED).to_dict("records")
    ]
    return {
        "first": listed[:FIRST_SHOWN],
        "more": listed[FIRST_SHOWN:],
        "n": len(table),
        "n_listed": len(listed),
        "in_short": ", ".join(counted),
        "tone": _TONES.get(gravest, ""),
        "none": _NOTHING_FOUND if audit.get("n_findings") == 0 else "None.",
    }


def severities(table: pd.DataFrame) -> tuple[str, list[str]]:
    """Return the gravest severity that occurs, and in words how many findings there are of each, the gravest first."""
    counts = table["severity"].value_counts()
    nouns = {"critical": "critical finding", "warning": "warning", "info": "note"}
    found = [severity for severity in nouns if severity in counts]
    return next(iter(found), ""), [fmt.plural(int(counts[severity]), nouns[severity]) for severity in found]


def value_in_words(name: str, value: Any) -> str:
    """Say what the value of a finding is; its name tells the kind."""
    if not fmt.known(value):
        return f"value {fmt.NOT_AVAILABLE}"
    if name.startswith("shortcut:"):
        return f"accuracy {fmt.percent(value)}"
    if name.startswith(("tier told by:", "label leak:")):
        return f"takes away {fmt.percent(value)} of the tier's entropy"
    if name.startswith("near-duplicates"):
        return fmt.plural(round(value), "pair")
    return fmt.number(value, 3)


def _place(value: Any, start: float, stop: float) -> float | None:
    return round(100 * (float(value) - start) / (stop - start), 2) if fmt.known(value) else None
