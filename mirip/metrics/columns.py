"""What is known of every image without looking at it: the columns that a shortcut may use.

A new predictor is one entry of `file_predictors`; a new statistic of images becomes one by itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mirip.errors import ParamsError

Floats = NDArray[np.float64]

ALL_TOGETHER = "all together"
_PREFIX = "meta_"
_FEW_VALUES = 10


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


def file_predictors(statistics: Sequence[str]) -> dict[str, list[str]]:
    """Return the predictors that exist for every file: name -> the columns that it may look at.

    Args:
        statistics: columns of the manifest that hold a statistic of the pixels, as "edge_density". Each is a predictor
            of its own, and all together are one.
    """
    return {
        "file size": ["file_bytes"],
        "resolution": ["pixels"],
        "aspect": ["aspect"],
        "resolution and aspect": ["width_px", "height_px", "aspect"],
        **{name.replace("_", " "): [name] for name in statistics},
        "brightness and colour": list(statistics),
        "JPEG quality": ["jpeg_quality"],
        "file format": ["format"],
        "row order": ["row"],
    }


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


def shortcut_columns(
    manifest: pd.DataFrame,
    *,
    statistics: Sequence[str],
    group: Sequence[str],
    context: Sequence[str],
    ignore: Sequence[str],
) -> tuple[dict[str, list[Column]], dict[str, str]]:
    """Gather what a predictor may look at without seeing an image.

    Args:
        manifest: N rows.
        statistics: its columns that hold a statistic of the pixels.
        group: the user's columns that tie rows together; they name a person or a post, not a quality.
        context: the user's columns within which a comparison is fair; also taken together, where there are several.
        ignore: the user's columns that are known to hold the label.

    Returns:
        shortcut -> its columns of N values each, and left out: column -> why. A column of several shortcuts is one
        object; a shortcut of several columns of which one is left is none of its own.

    Raises:
        ParamsError: `ignore` names a column that the metadata does not have.
    """
    theirs = [name.removeprefix(_PREFIX) for name in manifest.columns if name.startswith(_PREFIX)]
    if unknown := [name for name in ignore if name not in theirs]:
        raise ParamsError(
            f"audit.ignore names {', '.join(unknown)}, which the metadata does not have",
            f"name columns that it has: {', '.join(theirs) or 'none'}",
        )
    width, height = manifest["width_px"], manifest["height_px"]
    table = manifest.assign(aspect=width / height, pixels=width * height)
    of_the_file = file_predictors(statistics)
    ours = {*of_the_file, *chain(*of_the_file.values()), "context", ALL_TOGETHER}
    called = {_PREFIX + name: f"column {name}" if name in ours else name for name in theirs}
    left_out = {called[_PREFIX + name]: "a column of data.group" for name in group if name in theirs}
    left_out |= {called[_PREFIX + name]: "in audit.ignore" for name in ignore}
    wanted = {**of_the_file, **{name: [column] for column, name in called.items() if name not in left_out}}
    if len(context) > 1 and not set(context) & set(ignore):
        wanted["context"] = ["context"]
    shortcuts = {}
    read = {name: column_of(called.get(name, name), table[name]) for name in dict.fromkeys(chain(*wanted.values()))}
    left_out |= {called.get(name, name): column for name, column in read.items() if isinstance(column, str)}
    for shortcut, names in wanted.items():
        columns = [column for name in names if isinstance(column := read[name], Column)]
        if len(columns) >= min(len(names), 2):
            shortcuts[shortcut] = columns
    return shortcuts, left_out


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
