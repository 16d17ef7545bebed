"""Is a features file what was written, and what params.yaml and the manifest ask for? And the store behind it?"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from mirip.errors import CacheError, SchemaError
from mirip.features.backbones.recipe import find_differences
from mirip.features.cache.checksums import content_digest, hashing, quick_hash, row_checksums
from mirip.features.cache.feature_cache import stored_recipe
from mirip.features.cache.rows import Rows, as_keys, blocks_of, read_rows
from mirip.features.cache.store import open_shard
from mirip.params import Recipe
from mirip.wording import counted


@dataclass(frozen=True)
class BadRow:
    """A row that is not as it should be.

    Attributes:
        index: its place in the file, from 0.
        key: sha256 of the image, as the file has it.
        fault: what is wrong, e.g. "is all zero".
    """

    index: int
    key: str
    fault: str

    def __str__(self) -> str:
        return f"row {self.index} ({self.key}) {self.fault}"


class Mend(Enum):
    """What mends something that a check found."""

    EXTRACT = auto()  # nothing is damaged: the file is missing, or of other images or another recipe
    REWRITE = auto()  # the file is not what was written
    RECOMPUTE = auto()  # it is, and has rows that should not have been written: the store may have them too
    CLEAR_STORE = auto()  # files of the store are of no use


@dataclass(frozen=True)
class Findings:
    """What a check found; nothing but notes for what is sound.

    Attributes:
        problems: a line each.
        bad_rows: in the order of the file.
        notes: what was checked or could not be, and is no fault.
        mends: what mends the problems and bad rows.
        rows: the file, for further checks; None where it cannot be opened.
    """

    problems: list[str] = field(default_factory=list)
    bad_rows: list[BadRow] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    mends: set[Mend] = field(default_factory=set)
    rows: Rows | None = field(default=None, compare=False)

    @property
    def sound(self) -> bool:
        """Whether there is neither a problem nor a bad row."""
        return not self.problems and not self.bad_rows

    def add(self, other: Self) -> None:
        """Take over what another check found."""
        self.problems.extend(other.problems)
        self.bad_rows.extend(other.bad_rows)
        self.notes.extend(other.notes)
        self.mends.update(other.mends)

    def report(self, mend: Mend, *problems: str) -> None:
        """Take over problems that are mended in one way."""
        self.problems.extend(problems)
        self.mends.update([mend] * bool(problems))


def verify_cache(path: Path | str, recipe: Recipe | None = None) -> Findings:
    """Check every byte of a features file.

    Finds damaged or truncated files; a digest that does not fit; rows whose
    checksum does not fit, that are not finite or all zero; keys out of order or twice; a recipe that does not have its
    fingerprint.

    Args:
        path: the file.
        recipe: the active recipe; None takes any.
    """
    try:
        rows = read_rows(path, any_order=True)
        stored = stored_recipe(path, rows.attributes)
    except CacheError as error:
        found = Findings()
        outdated = isinstance(error, SchemaError) or not Path(path).is_file()
        found.report(Mend.EXTRACT if outdated else Mend.REWRITE, error.problem)
        return found
    found = Findings(rows=rows)
    if rows.features.dtype != (declared := stored.get("stored_dtype")):
        found.report(Mend.REWRITE, f"{path}: its rows are {rows.features.dtype}, its recipe says {declared}")
    differences = [] if recipe is None else find_differences(recipe, stored)
    found.report(Mend.EXTRACT, *(f"{path}: {difference}: run `dvc repro extract`" for difference in differences))
    checksums_fit = np.ones(len(rows.keys), dtype=bool)
    quick = quick_hash(rows.keys)
    digest = content_digest(rows.keys, hashing(_checked_blocks(rows, checksums_fit, found.bad_rows), quick))
    if any(checksums_fit[row.index] for row in found.bad_rows):
        found.mends.add(Mend.RECOMPUTE)
    if misplaced := list(_misplaced(rows.keys)):
        found.bad_rows.extend(misplaced)
        found.mends.add(Mend.REWRITE)
    misfits = np.flatnonzero(~checksums_fit)
    if digest != (written := rows.attributes["content_digest"]):
        found.report(Mend.REWRITE, f"{path}: its content has digest {digest[:12]}, written was {written[:12]}")
        fault = "is not what was written: its checksum does not fit"
        found.bad_rows.extend(BadRow(int(i), _text(rows.keys[i]), fault) for i in misfits)
        if not len(misfits):
            found.report(Mend.REWRITE, f"{path}: every row has its checksum, so it is the digest that is damaged")
    else:
        if quick.hexdigest() != rows.attributes["content_xxh3"]:
            quick_damaged = "its quick hash (content_xxh3) is damaged; by the digest, the content is sound"
            found.report(Mend.REWRITE, f"{path}: {quick_damaged}")
        row_damaged = "the checksum of row {} ({}) is damaged; by the digest, the row is sound"
        found.report(Mend.REWRITE, *(f"{path}: {row_damaged.format(i, _text(rows.keys[i]))}" for i in misfits))
    found.bad_rows.sort(key=lambda row: row.index)
    return found


def compare_with_manifest(rows: Rows, paths: Mapping[str, str]) -> Findings:
    """Say in words which images a features file lacks and which it should not have.

    Args:
        rows: the file.
        paths: path by sha256 of each image content of the manifest.
    """
    keys, wanted = rows.keys, as_keys(paths)
    found = Findings()
    if len(missing := wanted[~np.isin(wanted, keys)]):
        first = missing[0].decode()
        found.report(
            Mend.EXTRACT,
            f"{rows.path}: {len(missing)} of {len(wanted)} images of the manifest are not in it, the first "
            f"{paths[first]} ({first}): run `dvc repro extract`",
        )
    if len(surplus := keys[~np.isin(keys, wanted)]):
        found.report(
            Mend.EXTRACT,
            f"{rows.path}: {len(surplus)} of its rows are of no image of the manifest, the first {_text(surplus[0])}: "
            "run `dvc repro extract`",
        )
    return found


def verify_store(root: Path, fingerprint: str) -> Findings:
    """Check that each shard of a fingerprint has the hash that is its name, and rows of that fingerprint."""
    found = Findings()
    n_rows = 0
    shards = sorted((root / fingerprint).glob("*.h5"))
    for path in shards:
        try:
            n_rows += len(open_shard(path, fingerprint).keys)
        except SchemaError:  # whose rows may have been imported
            found.report(Mend.CLEAR_STORE, f"{path} is of another version of Mirip: extractions leave it alone")
        except CacheError as error:
            found.report(Mend.CLEAR_STORE, f"{error.problem}: extractions do not use it")
        except FileNotFoundError:
            continue  # a running extraction merged it into another
    found.notes.append(
        f"store: {counted(len(shards), 'shard')}, {n_rows} rows" if shards else "store: nothing of this recipe"
    )
    return found


def _checked_blocks(
    rows: Rows, checksums_fit: NDArray[np.bool_], bad_rows: list[BadRow]
) -> Iterator[NDArray[np.floating]]:
    """Pass on the blocks of a file, noting what is wrong with their rows."""
    start = 0
    for block in blocks_of(rows.features):
        here = slice(start, start + len(block))
        checksums_fit[here] = row_checksums(rows.keys[here], block) == rows.crc32[here]
        faults = {"is not finite": ~np.isfinite(block).all(axis=1), "is all zero": ~block.any(axis=1)}
        for fault, bad in faults.items():
            bad_rows.extend(BadRow(start + int(i), _text(rows.keys[start + i]), fault) for i in np.flatnonzero(bad))
        start += len(block)
        yield block


def _misplaced(keys: NDArray[np.bytes_]) -> Iterator[BadRow]:
    for i in np.flatnonzero(keys[:-1] >= keys[1:]) + 1:
        fault = (
            "has the key of the row before it" if keys[i] == keys[i - 1] else "has a smaller key than the row before"
        )
        yield BadRow(int(i), _text(keys[i]), fault)


def _text(key: bytes) -> str:
    return key.decode("ascii", "backslashreplace")
