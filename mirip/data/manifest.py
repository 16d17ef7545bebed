"""The manifest: one row an accepted image, with all that later stages need to know about it."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mirip.data.decoding import MAX_PIXELS
from mirip.data.duplicates import connected_groups, near_duplicate_labels
from mirip.data.file_data import FILE_DATA
from mirip.data.image_files import is_named_as_image, normalised_path
from mirip.data.image_source import image_source
from mirip.data.inspection import REJECT_KINDS, Accepted, Rejected, inspect_all, refused_by_table
from mirip.data.labels import label_text, match_tiers
from mirip.data.metadata import read_metadata, require_columns
from mirip.data.notices import empty_columns, odd_images
from mirip.data.opened_image import CONVERSIONS
from mirip.data.statistics import STATISTICS
from mirip.data.table_files import cell_text
from mirip.data.tables import read_table, write_csv, write_table
from mirip.data.thumbnails import Thumbnails
from mirip.errors import MetadataError
from mirip.files import write_json
from mirip.params import DataParams, Params, PrepareParams
from mirip.progress import Progress
from mirip.workspace import Workspace

_IMAGE_TYPES = {
    "image_sha256": "str",
    "width_px": "int32",
    "height_px": "int32",
    "file_bytes": "int64",
    "format": "str",
    "perceptual_hash": "uint64",
    **dict.fromkeys(STATISTICS, "float32"),
    "jpeg_quality": "float32",
    **{name: dtype for name, (_, dtype) in FILE_DATA.items()},
    "repaired": "str",
}
_OF_THE_AUDIT = (*STATISTICS, *FILE_DATA)
_NOT_IN_ALL = (*_OF_THE_AUDIT, "repaired")  # the manifests of earlier versions
_ROWS_SHOWN = 3
_ROWS_AT_ONCE = 4096  # whose values are Python objects; then they become arrays
# Not what the audit alone reads: a manifest that was written before one of these existed serves all else.
_COLUMNS = (
    "image_path",
    "row",
    *(name for name in _IMAGE_TYPES if name not in _NOT_IN_ALL),
    "tier",
    "tier_rank",
    "group_id",
    "context",
)


@dataclass(frozen=True)
class Prepared:
    """What came of a metadata table.

    Attributes:
        manifest: one row an accepted metadata row, in metadata order.
        rejected: row (1-based), image_path and reason of the others, in metadata order.
        thumbnails: of each distinct image.
        counts: the values of metrics/data.json: n_rows, n_images, n_rejected, n_groups, n_duplicates,
            n_near_duplicates, n_contradicting (images of identical files with different tiers), n_repaired,
            n_without_group (images without a value in any column of `group`), n_unlisted (image files that no row
            names), n_tier_<tier>, rejected_<kind>, converted_<kind>.
        notices: what the user should know of it, a sentence each.
    """

    manifest: pd.DataFrame
    rejected: pd.DataFrame
    thumbnails: Thumbnails
    counts: dict[str, int]
    notices: tuple[str, ...] = ()

    def summary(self) -> str:
        """Say what was accepted and rejected in one line."""
        return (
            f"{self.counts['n_images']} images in {self.counts['n_groups']} groups, "
            f"{self.counts['n_rejected']} rejected"
        )


def prepare(workspace: Workspace, params: Params) -> Prepared:
    """Look once at every image that the metadata lists, and write the manifest of those that can be used.

    The rejected rows are written first: where there are too many of them, they can still be looked at.

    Raises:
        MetadataError: the table cannot be read, or too many rows were rejected.
        DataError: `data.images` is not a folder.
    """
    prepared = prepare_images(params.data, params.prepare, spool=workspace.thumbnails.parent)
    write_csv(workspace.rejected, prepared.rejected)
    check_usable(prepared, params.data.max_rejected_fraction, listed_in=workspace.rejected)
    write_table(workspace.manifest, prepared.manifest)
    prepared.thumbnails.write(workspace.thumbnails)
    write_json(workspace.metrics("data"), prepared.counts)
    return prepared


def build_manifest(
    metadata: pd.DataFrame,
    image_root: Path | str,
    *,
    tiers: Sequence[str],
    group: Sequence[str] = (),
    context: Sequence[str] = (),
    near_duplicate_bits: int = 4,
    thumbnail_px: int = 160,
    max_image_pixels: int = MAX_PIXELS,
    workers: int | None = None,
    spool: Path | None = None,
    on_progress: Callable[[int], None] = lambda n: None,
) -> Prepared:
    """Read every image once, reject what cannot be used, and group what belongs together.

    Args:
        metadata: from `read_metadata`, or any table with the columns image_path and tier.
        image_root: the folder that image paths are relative to.
        tiers: tier names, best first.
        group: columns whose equal values tie rows into one group; an empty value ties to nothing.
        context: columns within which a comparison is fair.
        near_duplicate_bits: perceptual hashes at most so many bits apart are one image.
        thumbnail_px: longest side of a thumbnail.
        max_image_pixels: a larger image is rejected.
        workers: threads that read and decode; None means one a CPU core. Pillow decodes outside the interpreter lock.
        spool: a folder with room for the thumbnails; None: the system's for temporary files.
        on_progress: called with the number of rows that are newly done.

    Returns:
        Manifest, rejected rows, thumbnails and counts; all a function of the table and the files alone.

    Raises:
        DataError: `image_root` is no folder.
        MetadataError: a column of `group` or `context` is not in the table.
    """
    images = image_source(image_root)
    images.check()
    group, context = require_columns(metadata, group, "data.group"), require_columns(metadata, context, "data.context")
    tiers = list(label_text(pd.Series(list(tiers))))
    paths = [normalised_path(cell_text(path)) for path in metadata["image_path"]]
    metadata = metadata.apply(label_text).assign(image_path=metadata["image_path"].map(cell_text))
    metadata["tier"], notices = match_tiers(metadata["tier"], tiers)

    found = _Inspected(spool)
    refused = refused_by_table(paths, list(metadata["tier"]), tiers)
    for outcome in inspect_all(images, paths, refused, max_image_pixels, thumbnail_px, workers):
        found.add(outcome)
        on_progress(1)

    kept, refusals = np.frombuffer(found.kept, dtype=bool), found.refusals
    rejected = pd.DataFrame(
        {
            "row": np.fromiter(refusals, dtype=np.int64),
            "image_path": [metadata["image_path"].iloc[row - 1] for row in refusals],
            "reason": [outcome.reason for outcome in refusals.values()],
        }
    )
    columns = found.columns()
    near_duplicate = near_duplicate_labels(columns["perceptual_hash"].to_numpy(), near_duplicate_bits)
    manifest = _manifest(metadata, paths, kept, columns, tiers, group, context, near_duplicate)
    listed = set(paths)
    unlisted = [path for path in images.below() if is_named_as_image(path) and path not in listed]
    contradicting = manifest[manifest.groupby("image_sha256")["tier"].transform("nunique") > 1]
    counts = {
        "n_rows": len(metadata),
        "n_images": len(manifest),
        "n_rejected": len(rejected),
        "n_unlisted": len(unlisted),
        "n_repaired": int((manifest["repaired"] != "").sum()),
        **_group_counts(manifest, near_duplicate),
        "n_contradicting": len(contradicting),
        "n_without_group": int((metadata[kept][group] == "").all(axis=1).sum()) if group else len(manifest),
        **{f"n_tier_{tier}": int((manifest["tier"] == tier).sum()) for tier in tiers},
        **_counted("rejected", REJECT_KINDS, Counter(outcome.kind for outcome in refusals.values())),
        **_counted("converted", CONVERSIONS, found.conversions),
    }
    return Prepared(
        manifest=manifest,
        rejected=rejected,
        thumbnails=found.thumbnails,
        counts=counts,
        notices=(
            *notices,
            *empty_columns(metadata, group, "data.group", "each of their images is a group of its own"),
            *empty_columns(metadata, context, "data.context", "their images are compared as if of one context"),
            *odd_images(manifest, contradicting, unlisted),
        ),
    )


def prepare_images(data: DataParams, prepare: PrepareParams, *, spool: Path | None = None) -> Prepared:
    """Read the metadata and every image that it lists, as the sections `data` and `prepare` say, with progress.

    Thumbnails are gathered in the folder `spool`, or in the system's for temporary files.

    Raises:
        MetadataError: the table cannot be read, or lacks a column that `data` names.
        DataError: `data.images` is no folder.
    """
    notices: list[str] = []
    metadata = read_metadata(data.metadata, on_notice=notices.append)
    with Progress("prepare", len(metadata), "image") as progress:
        prepared = build_manifest(
            metadata,
            data.images,
            tiers=data.tiers,
            group=data.group,
            context=data.context,
            near_duplicate_bits=prepare.near_duplicate_bits,
            thumbnail_px=prepare.thumbnail_px,
            max_image_pixels=prepare.max_image_pixels,
            spool=spool,
            on_progress=progress.update,
        )
    return replace(prepared, notices=(*notices, *prepared.notices))


def check_usable(prepared: Prepared, max_rejected_fraction: float, *, listed_in: Path | None = None) -> None:
    """Refuse what is not worth going on with.

    Args:
        prepared: what came of the metadata.
        max_rejected_fraction: of all rows, in [0, 1].
        listed_in: the file that lists the rejected rows, for the message.

    Raises:
        MetadataError: too many rows were rejected, or the others have fewer than two tiers.
    """
    where = f"all are in {listed_in}, " if listed_in else ""
    n_rows, n_rejected = prepared.counts["n_rows"], prepared.counts["n_rejected"]
    if n_rejected > max_rejected_fraction * n_rows:
        shown = prepared.rejected.head(_ROWS_SHOWN)
        rows = "; ".join(f"row {row.row} {row.image_path} {row.reason}" for row in shown.itertuples())
        raise MetadataError(
            f"{n_rejected} of {n_rows} rows rejected ({_kinds_in_words(prepared.counts)}), more than "
            f"data.max_rejected_fraction {max_rejected_fraction:g} allows; {where}the first: {rows}",
            "check data.images and data.tiers",
        )
    if (there := sorted(set(prepared.manifest["tier"]))) and len(there) < 2:
        raise MetadataError(
            f"all {len(prepared.manifest)} images have tier {there[0]}", "give images of at least two tiers"
        )
    if not there:
        raise MetadataError(f"no image is left of {n_rows} rows", "check data.images and data.metadata")


def read_manifest(path: Path | str, *, statistics: bool = False) -> pd.DataFrame:
    """Read a manifest.

    Args:
        path: the file.
        statistics: whether the columns of `STATISTICS` and `FILE_DATA` are needed.

    Raises:
        DataError: the file is missing, is not a manifest, or lacks a statistic that is needed.
    """
    return read_table(path, (*_COLUMNS, *_OF_THE_AUDIT) if statistics else _COLUMNS, "dvc repro prepare")


def first_paths(manifest: pd.DataFrame) -> dict[str, str]:
    """Return the path by sha256 of each image content, in manifest order; of identical files the first."""
    distinct = manifest.drop_duplicates("image_sha256")
    return dict(zip(distinct["image_sha256"], distinct["image_path"], strict=True))


class _Inspected:
    """What came of the images, gathered row by row in little memory: numbers in arrays, thumbnails on disk.

    Attributes:
        kept: a byte for each row, 1 where it was accepted.
        refusals: the others, by row (1-based).
        conversions: how many images needed each of CONVERSIONS.
        thumbnails: of the accepted images.
    """

    def __init__(self, spool: Path | None) -> None:
        self.kept = bytearray()
        self.refusals: dict[int, Rejected] = {}
        self.conversions = Counter[str]()
        self.thumbnails = Thumbnails(spool)
        self._values: list[dict[str, Any]] = []
        self._columns: list[pd.DataFrame] = []

    def add(self, outcome: Accepted | Rejected) -> None:
        """Add the outcome of the next row."""
        self.kept.append(isinstance(outcome, Accepted))
        if isinstance(outcome, Rejected):
            self.refusals[len(self.kept)] = outcome
            return
        self.conversions.update(outcome.conversions)
        self.thumbnails.add(outcome.values["image_sha256"], outcome.thumbnail)
        self._values.append(outcome.values)
        if len(self._values) == _ROWS_AT_ONCE:
            self._gather()

    def columns(self) -> pd.DataFrame:
        """Return the manifest's columns that come from the files, a row an accepted image."""
        if self._values or not self._columns:
            self._gather()
        return pd.concat(self._columns, ignore_index=True)

    def _gather(self) -> None:
        of_type = {
            name: pd.Series([values[name] for values in self._values], dtype=dtype)
            for name, dtype in _IMAGE_TYPES.items()
        }
        self._columns.append(pd.DataFrame(of_type))
        self._values = []


def _manifest(
    metadata: pd.DataFrame,
    paths: Sequence[str],
    kept: np.ndarray,
    of_files: pd.DataFrame,
    tiers: Sequence[str],
    group: Sequence[str],
    context: Sequence[str],
    near_duplicate: np.ndarray,
) -> pd.DataFrame:
    rows = metadata[kept].reset_index(drop=True)
    columns: dict[str, Any] = {
        "image_path": pd.Series(np.array(paths, dtype=object)[kept], dtype="str"),
        "row": (np.flatnonzero(kept) + 1).astype(np.int64),
    }
    columns |= {name: of_files[name] for name in _IMAGE_TYPES}
    rank = {tier: len(tiers) - 1 - position for position, tier in enumerate(tiers)}
    columns["tier"] = rows["tier"].astype("str")
    columns["tier_rank"] = rows["tier"].map(rank).astype(np.int8)
    labelings = [pd.factorize(_nothing_for_empty(rows[name]))[0] for name in group]
    labelings.append(pd.factorize(columns["image_sha256"])[0])
    labelings.append(near_duplicate)
    columns["group_id"] = connected_groups(labelings, len(rows))
    texts = [rows[name] for name in context]
    columns["context"] = pd.Series(
        [" / ".join(parts) for parts in zip(*texts, strict=True)] if texts else [""] * len(rows), dtype="str"
    )
    others = {f"meta_{name}": _nothing_for_empty(rows[name]) for name in rows if name not in ("image_path", "tier")}
    return pd.DataFrame({**columns, **others})


def _nothing_for_empty(text: pd.Series) -> pd.Series:
    return text.mask(text == "")


def _group_counts(manifest: pd.DataFrame, near_duplicate: np.ndarray) -> dict[str, int]:
    distinct = ~manifest["image_sha256"].duplicated().to_numpy()
    labels = near_duplicate[distinct & (near_duplicate >= 0)]
    return {
        "n_groups": int(manifest["group_id"].nunique()),
        "n_duplicates": int((~distinct).sum()),
        "n_near_duplicates": len(labels) - len(np.unique(labels)),
    }


def _kinds_in_words(counts: dict[str, int]) -> str:
    """Return e.g. "3 missing, 1 unknown tier"."""
    seen = [(kind.replace("_", " "), counts[f"rejected_{kind}"]) for kind in REJECT_KINDS]
    return ", ".join(f"{n} {kind}" for kind, n in seen if n)


def _counted(prefix: str, names: Sequence[str], counter: Counter[str]) -> dict[str, int]:
    return {f"{prefix}_{name}": counter[name] for name in names}
