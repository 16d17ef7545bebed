"""Is a features file what was written, and what params.yaml and the manifest ask for? And the store behind it?"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from mirip.errors import CacheError, SchemaError
from mirip.features.probe import Header, probe
from mirip.features.recipe import find_differences
from mirip.features.rows import Rows, as_keys, blocks_of, content_digest, hashing, quick_hash, read_rows, row_checksums
from mirip.features.store import open_shard
from mirip.params import Recipe


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


@dataclass(frozen=True)
class Findings:
    """What a check found; nothing but notes for what is sound.

    Attributes:
        problems: a line each.
        bad_rows: in the order of the file.
        notes: what was checked or could not be, and is no fault.
        rows: the file, for further checks; None where it cannot be opened.
    """

    problems: list[str] = field(default_factory=list)
    bad_rows: list[BadRow] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
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


def verify_cache(path: Path | str, recipe: Recipe | None = None) -> Findings:
    """Check every byte of a features file.

    Finds damaged or truncated files, also those that crash the HDF5 library; a digest that does not fit; rows whose
    checksum does not fit, that are not finite or all zero; keys out of order or twice; a recipe that does not have its
    fingerprint.

    Args:
        path: the file.
        recipe: the recipe in force; None takes any.
    """
    (header,) = probe([Path(path)])
    if isinstance(header, CacheError):
        return Findings(problems=[str(header)])
    rows = read_rows(path, any_order=True)
    found = Findings(rows=rows)
    found.problems.extend(f"{path}: {problem}" for problem in _recipe_problems(header, recipe))
    checksums_fit = np.ones(len(rows.keys), dtype=bool)
    quick = quick_hash(rows.keys)
    digest = content_digest(rows.keys, hashing(_checked_blocks(rows, checksums_fit, found.bad_rows), quick))
    found.bad_rows.extend(_misplaced(rows.keys))
    misfits = np.flatnonzero(~checksums_fit)
    if digest != (written := rows.attributes["content_digest"]):
        found.problems.append(f"{path}: its content has digest {digest[:12]}, written was {written[:12]}")
        fault = "is not what was written: its checksum does not fit"
        found.bad_rows.extend(BadRow(int(i), _text(rows.keys[i]), fault) for i in misfits)
        if not len(misfits):
            found.problems.append(f"{path}: every row has its checksum, so it is the digest that is damaged")
    else:
        if quick.hexdigest() != rows.attributes["content_xxh3"]:
            found.problems.append(
                f"{path}: its quick hash (content_xxh3) is damaged; by the digest, the content is sound"
            )
        found.problems.extend(
            f"{path}: the checksum of row {i} ({_text(rows.keys[i])}) is damaged; by the digest, the row is sound"
            for i in misfits
        )
    found.bad_rows.sort(key=lambda row: row.index)
    return found


def compare_with_manifest(rows: Rows, paths: Mapping[str, str]) -> list[str]:
    """Say in words which images a features file lacks and which it should not have.

    Args:
        rows: the file.
        paths: path by sha256 of each image content of the manifest.
    """
    keys, wanted = rows.keys, as_keys(paths)
    problems = []
    if len(missing := wanted[~np.isin(wanted, keys)]):
        first = missing[0].decode()
        problems.append(
            f"{rows.path}: {len(missing)} of {len(wanted)} images of the manifest are not in it, the first "
            f"{paths[first]} ({first}): run `dvc repro extract`"
        )
    if len(surplus := keys[~np.isin(keys, wanted)]):
        problems.append(
            f"{rows.path}: {len(surplus)} of its rows are of no image of the manifest, the first {_text(surplus[0])}: "
            "run `dvc repro extract`"
        )
    return problems


def verify_store(root: Path, fingerprint: str) -> Findings:
    """Check that each shard of a fingerprint has the hash that is its name, and rows of that fingerprint."""
    found = Findings()
    n_rows = 0
    shards = sorted((root / fingerprint).glob("*.h5"))
    for path in shards:
        try:
            n_rows += len(open_shard(path, fingerprint).keys)
        except SchemaError as error:  # which an extraction leaves alone
            found.problems.append(str(error))
        except CacheError as error:
            found.problems.append(f"{error}: the next extraction removes it, and computes what is lost")
        except FileNotFoundError:
            continue  # a running extraction merged it into another
    found.notes.append(
        f"store: {len(shards)} shard{'s' * (len(shards) != 1)}, {n_rows} rows"
        if shards
        else "store: nothing of this recipe"
    )
    return found


def _recipe_problems(header: Header, recipe: Recipe | None) -> list[str]:
    problems = []
    if header.dtype != header.recipe.get("stored_dtype"):
        problems.append(f"its rows are {header.dtype}, its recipe says {header.recipe.get('stored_dtype')}")
    if recipe is not None:
        problems += [f"{difference}: run `dvc repro extract`" for difference in find_differences(recipe, header.recipe)]
    return problems


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
