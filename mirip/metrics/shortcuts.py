"""Predictors that see no picture: a ridge regression of the tier index on a few columns.

Fitted on training rows alone, with the penalty chosen by cross-validation of whole groups there, and then asked
about rows of other groups. That keeps a column of many values (a school, a camera) from shining by heart.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_PENALTIES = np.logspace(-2, 4, 13)
_FEW_VALUES = 10
_MAX_CATEGORIES = 500


@dataclass(frozen=True)
class Column:
    """One thing known of every image without looking at it.

    Attributes:
        name: as people know it.
        kind: "number" or "category".
        values: (N,) float64 with NaN for missing, or (N,) int64 codes from 0 (missing is a value of its own).
    """

    name: str
    kind: Literal["number", "category"]
    values: NDArray[np.float64] | NDArray[np.int64]

    @property
    def codes(self) -> NDArray[np.int64]:
        """(N,) int64 from 0: a category's codes, or a number's tenth by its quantiles, missing as one more."""
        if self.kind == "category":
            return self.values.astype(np.int64)
        present = np.isfinite(self.values)
        if not present.any():
            return np.zeros(len(self.values), dtype=np.int64)
        edges = np.unique(np.quantile(self.values[present], np.linspace(0.1, 0.9, 9)))
        return np.where(present, np.searchsorted(edges, self.values, side="left") + 1, 0)


def column_of(name: str, series: pd.Series) -> Column | str:
    """Read a table's column, or say in words why it can predict nothing.

    Numbers, also as text, and dates in ISO 8601 are numbers, but for up to 10 distinct integers, which like text
    and truth values are categories. Left out: one value throughout, and text with a value of its own in more
    than half of the rows (a name, a path, a note).
    """
    series = series.reset_index(drop=True)
    n_distinct = series.nunique(dropna=False)
    if n_distinct < 2:
        return "one value throughout"
    numbers = _as_numbers(series)
    if numbers is not None:
        whole = bool(np.all(numbers[np.isfinite(numbers)] % 1 == 0))
        if n_distinct > _FEW_VALUES or not whole:
            return Column(name, "number", numbers)
    elif n_distinct > len(series) / 2:
        return f"{n_distinct} values in {len(series)} rows, nearly one each"
    codes = pd.factorize(series.astype("str").where(series.notna(), ""), sort=True)[0]
    return Column(name, "category", codes.astype(np.int64))


def shortcut_scores(
    columns: Sequence[Column],
    tier_rank: NDArray[np.integer],
    group_id: NDArray[np.generic],
    train: NDArray[np.bool_],
    *,
    folds: int,
    rng: np.random.Generator,
) -> Floats:
    """Score all rows by a ridge regression that was fitted on the training rows.

    Args:
        columns: of N values each; numbers enter by their rank among the training rows and its square, categories one
            indicator for each value there (the 500 most frequent). A value unseen in training says nothing.
        tier_rank: (N,) higher is better; only training rows are looked at.
        group_id: (N,) labels; each whole in one fold.
        train: (N,) bool.
        folds: of the cross-validation that chooses the penalty, by squared error.
        rng: deals groups to folds.

    Returns:
        (N,) float64, higher is better. Rows outside `train` are scored out of sample.
    """
    design = np.column_stack([_encoded(column, train) for column in columns])
    design -= design[train].mean(axis=0)
    x, y = design[train], tier_rank[train].astype(np.float64)
    names, member = np.unique(group_id[train], return_inverse=True)
    fold = rng.permutation(len(names))[member] % folds
    errors = np.zeros(len(_PENALTIES))
    for held_out in (fold == k for k in range(folds)):
        if held_out.any() and not held_out.all():
            mean, coefficients = _ridge_path(x[~held_out], y[~held_out], _PENALTIES)
            errors += ((x[held_out] @ coefficients + mean - y[held_out, None]) ** 2).sum(axis=0)
    best = len(errors) - 1 - int(np.argmin(errors[::-1]))  # of equals the strongest
    return np.asarray(design @ _ridge_path(x, y, _PENALTIES[[best]])[1][:, 0], dtype=np.float64)


def _as_numbers(series: pd.Series) -> Floats | None:
    """Return float64 with NaN for missing, or None where the column holds anything but numbers or dates."""
    if series.dtype == bool or isinstance(series.dtype, pd.CategoricalDtype):
        return None
    if not pd.api.types.is_datetime64_any_dtype(series):
        numbers = pd.to_numeric(series, errors="coerce")
        if (numbers.notna() | series.isna()).all():
            values = numbers.to_numpy(dtype=np.float64, na_value=np.nan)
            return np.asarray(np.where(np.isfinite(values), values, np.nan), dtype=np.float64)
        dates = pd.to_datetime(series.astype("str"), errors="coerce", format="ISO8601", utc=True)
    else:
        dates = pd.to_datetime(series, utc=True)
    if not (dates.notna() | series.isna()).all():
        return None
    days = (dates - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(days=1)
    return np.asarray(days.to_numpy(dtype=np.float64, na_value=np.nan), dtype=np.float64)


def _encoded(column: Column, train: NDArray[np.bool_]) -> Floats:
    """Return (N, P) float64 features of a column, each of about unit spread."""
    if column.kind == "category":
        values, counts = np.unique(column.values[train], return_counts=True)
        frequent = values[np.argsort(-counts, kind="stable")][:_MAX_CATEGORIES]
        return np.asarray(column.values[:, None] == frequent[None, :], dtype=np.float64)
    present = np.isfinite(column.values)
    known = np.sort(column.values[train & present])
    filled = np.where(present, column.values, known[len(known) // 2] if len(known) else 0.0)
    below, up_to = np.searchsorted(known, filled, side="left"), np.searchsorted(known, filled, side="right")
    rank = np.where(present, (below + up_to) / max(2 * len(known), 1) - 0.5, 0.0) * np.sqrt(12)
    return np.column_stack([rank, rank**2, (~present).astype(np.float64)])


def _ridge_path(x: Floats, y: Floats, penalties: Floats) -> tuple[float, Floats]:
    """Return the mean of y and coefficients (P, A) of ridge regression on centred columns, for A penalties."""
    centre, mean = x.mean(axis=0), float(y.mean())
    centred = x - centre
    values, vectors = np.linalg.eigh(centred.T @ centred)  # (P,), (P, P)
    projected = vectors.T @ (centred.T @ (y - mean))
    coefficients = vectors @ (projected[:, None] / (np.maximum(values, 0)[:, None] + penalties[None, :]))
    return mean, np.asarray(coefficients, dtype=np.float64)
