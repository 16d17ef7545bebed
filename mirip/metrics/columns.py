"""What is known of every image without looking at it: the columns that a shortcut may use.

A new predictor is one entry of `file_predictors`; a new statistic of images becomes one by itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mirip.errors import ParamsError

Floats = NDArray[np.float64]

ALL_TOGETHER = "all together"
ROW_ORDER = "row order"  # which no model sees, so that it stands apart: from all together, and from the margin
_PREFIX = "meta_"
_FEW_VALUES = 10
_NOTHING = ("NA", "N/A", "n/a", "#N/A", "NaN", "nan", "<NA>", "NULL", "null", "None", "-")  # among numbers, no value
_DATE = r"(?<!\d)((?:19|20)\d\d)[-_. ]?(0[1-9]|1[0-2])[-_. ]?(0[1-9]|[12]\d|3[01])(?!\d)"


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


def file_predictors(statistics: Sequence[str], families: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the predictors that exist for every file: name -> the columns that it may look at.

    Args:
        statistics: columns of the manifest that hold a statistic of the pixels, as "edge_density". Each is a predictor
            of its own, or with the others of its family, and all together are one.
        families: first word of the names of a family -> what the predictor that looks at all of them is called.
    """
    return {
        "file size": ["file_bytes"],
        "resolution": ["pixels"],
        "aspect": ["aspect"],
        "resolution and aspect": ["width_px", "height_px", "aspect"],
        **{name.replace("_", " "): [name] for name in statistics if name.partition("_")[0] not in families},
        **{called: _of_family(family, statistics) for family, called in families.items()},
        "brightness and colour": list(statistics),
        "JPEG quality": ["jpeg_quality"],
        "file format": ["format"],
        "camera": ["camera"],
        "software": ["software"],
        "date by EXIF": ["exif_date"],
        "density": ["dpi"],
        "colour profile": ["colour_profile"],
        "progressive": ["progressive"],
        "chroma subsampling": ["chroma_subsampling"],
        "folder": ["folder"],
        "folder of two levels": ["folder_of_two"],
        "word in the file name": ["name_word"],
        "number in the file name": ["name_number"],
        "date in the file name": ["name_date"],
        ROW_ORDER: ["row"],
    }


def _of_family(family: str, statistics: Sequence[str]) -> list[str]:
    return [name for name in statistics if name.partition("_")[0] == family]


def path_columns(paths: pd.Series) -> pd.DataFrame:
    """Return what a path (N,) tells: folder, folder_of_two, name_word, name_number, name_date; None where it does not.

    The folders are the first and the first two in which the paths differ. The word is the first one of the file's name,
    the number its last one; a date is eight digits, with or without separators, that are one.
    """
    parts = [[part for part in str(path).replace("\\", "/").split("/") if part] for path in paths]
    folders = [of_one[:-1] for of_one in parts]
    common = 0
    while len({tuple(of_one[: common + 1]) for of_one in folders}) == 1 and folders and len(folders[0]) > common:
        common += 1
    stems = pd.Series([of_one[-1].rpartition(".")[0] or of_one[-1] if of_one else "" for of_one in parts])
    dates = stems.str.extract(_DATE)
    numbers = stems.str.extract(r"(\d{1,15})\D*$")[0]
    table = pd.DataFrame(
        {
            "folder": ["/".join(of_one[common : common + 1]) or None for of_one in folders],
            "folder_of_two": ["/".join(of_one[common : common + 2]) or None for of_one in folders],
            "name_word": stems.str.extract(r"([^\W\d_]+)")[0].str.lower(),
            "name_number": pd.to_numeric(numbers),
            "name_date": pd.to_datetime(dates[0] + "-" + dates[1] + "-" + dates[2], format="%Y-%m-%d", errors="coerce"),
        }
    )
    return table.set_index(paths.index)


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
    families: Mapping[str, str],
    group: Sequence[str],
    context: Sequence[str],
    ignore: Sequence[str],
) -> tuple[dict[str, list[Column]], dict[str, str]]:
    """Gather what a predictor may look at without seeing an image.

    Args:
        manifest: N rows.
        statistics: its columns that hold a statistic of the pixels.
        families: as of `file_predictors`.
        group: the user's columns that tie rows together; they name a person or a post, not a quality.
        context: the user's columns within which a comparison is fair; also taken together, where there are several.
        ignore: the user's columns that are known to hold the label; also "row", the order of the metadata.

    Returns:
        shortcut -> its columns of N values each, and left out: column -> why. A column of several shortcuts is one
        object; a shortcut of several columns of which one is left is none of its own.

    Raises:
        ParamsError: `ignore` names a column that the metadata does not have.
    """
    theirs = [name.removeprefix(_PREFIX) for name in manifest.columns if name.startswith(_PREFIX)]
    if unknown := [name for name in ignore if name not in (*theirs, "row")]:
        raise ParamsError(
            f"audit.ignore names {', '.join(unknown)}, which the metadata does not have",
            f"name columns that it has: {', '.join(theirs) or 'none'}",
        )
    width, height = manifest["width_px"], manifest["height_px"]
    paths = path_columns(manifest["image_path"])
    table = manifest.assign(aspect=width / height, pixels=width * height, **paths)
    of_the_file = file_predictors(statistics, families)
    ours = {*of_the_file, *chain(*of_the_file.values()), "context", ALL_TOGETHER}
    called = {_PREFIX + name: f"column {name}" if name in ours else name for name in theirs}
    left_out = {called[_PREFIX + name]: "a column of data.group" for name in group if name in theirs}
    left_out |= {called[_PREFIX + name]: "in audit.ignore" for name in ignore if name in theirs}
    if "row" in ignore and "row" not in theirs:
        left_out[ROW_ORDER] = "in audit.ignore"
        del of_the_file[ROW_ORDER]
    wanted = {**of_the_file, **{name: [column] for column, name in called.items() if name not in left_out}}
    if len(context) > 1 and not set(context) & set(ignore):
        wanted["context"] = ["context"]
    shortcuts = {}
    read = {name: column_of(called.get(name, name), table[name]) for name in dict.fromkeys(chain(*wanted.values()))}
    left_out |= {
        called.get(name, name): column for name, column in read.items() if isinstance(column, str) and name not in paths
    }
    for shortcut, names in wanted.items():
        columns = [column for name in names if isinstance(column := read[name], Column)]
        # Columns of a family have no predictor of their own, so one that is left is enough.
        if len(columns) >= (1 if shortcut in families.values() else min(len(names), 2)):
            shortcuts[shortcut] = columns
    return shortcuts, left_out


def _as_numbers(series: pd.Series) -> Floats | None:
    """Return float64 with NaN for missing, or None where the column holds anything but numbers or dates."""
    if series.dtype == bool or isinstance(series.dtype, pd.CategoricalDtype):
        return None
    if not pd.api.types.is_datetime64_any_dtype(series):
        series = series.mask(series.isin(_NOTHING))
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
