"""Tiers, groups and contexts as text: one form for values that people take for one."""

import unicodedata
from collections.abc import Sequence

import pandas as pd

from mirip.data.table_files import cell_text
from mirip.params import plain_label


def label_text(column: pd.Series) -> pd.Series:
    """Return the values of a column as they are compared: text in Unicode NFC, 1 for 1.0, "" where there is nothing.

    A program that stores numbers with holes writes 1.0 for what was 1.

    Args:
        column: values of any type.
    """
    if column.dtype == object:  # may hold anything, also what cannot be compared
        return column.map(_label).astype("str")
    codes, distinct = pd.factorize(column)
    texts = pd.Series(["", *(_label(value) for value in distinct)], dtype="str")
    return texts.take(codes + 1).set_axis(column.index)


def match_tiers(column: pd.Series, tiers: Sequence[str]) -> tuple[pd.Series, list[str]]:
    """Find the tier that each label means: full-width letters and digits, and lower case, are taken for what they mean.

    Args:
        column: labels, from `label_text`.
        tiers: the known tiers.

    Returns:
        The column with the tiers that are meant in place of such labels, and a notice for each of them.
    """
    by_form: dict[str, set[str]] = {}
    for tier in tiers:
        by_form.setdefault(_form(tier), set()).add(tier)
    meant = {
        label: next(iter(known))
        for label in column.unique()
        if label not in tiers and len(known := by_form.get(_form(label), set())) == 1
    }
    notices = [
        f"tier {label!r} is taken as {tier} ({int((column == label).sum())} of the rows)"
        for label, tier in sorted(meant.items())
    ]
    return column.replace(meant), notices


def _label(value: object) -> str:
    return plain_label(cell_text(value))


def _form(label: str) -> str:
    return unicodedata.normalize("NFKC", label).casefold().strip()
