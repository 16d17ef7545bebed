"""Bound the store: whole fingerprints go, the least recently used first, never one that is being worked on.

Those that no recipe of params.yaml has go before those that one has; that of the active recipe, and imported ones,
which nothing here can compute again, stay unless they are asked for. A features file that is there fills the store
again, so that often nothing is lost at all.
"""

import shutil
import sys
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mirip.features.cache.inventory import Holding
from mirip.features.cache.store import lock_path
from mirip.locks import forget, locked_if_free

_SECONDS_PER_DAY = 86_400


@dataclass(frozen=True)
class Eviction:
    """What a clean-up came to.

    Attributes:
        removed: what went, in that order; of a dry run, what would go.
        locked: what had to go and is held by a running extraction.
        bytes_left: size of all that is left.
    """

    removed: list[Holding]
    locked: list[Holding]
    bytes_left: int

    @property
    def bytes_freed(self) -> int:
        """Size of all that went."""
        return sum(holding.n_bytes for holding in self.removed)


def order_of_removal(holdings: Sequence[Holding], active: str, *, also_active: bool) -> list[Holding]:
    """Return what may be removed, in the order in which it goes.

    Args:
        holdings: what the store holds.
        active: name of the active recipe.
        also_active: take its rows, and imported ones, too, last.
    """

    def rank(holding: Holding) -> tuple[int, float]:
        return (2 if is_kept(holding) else 1 if holding.names else 0, holding.last_used)

    def is_kept(holding: Holding) -> bool:
        return active in holding.names or holding.imported

    return [holding for holding in sorted(holdings, key=rank) if also_active or not is_kept(holding)]


def evict(
    root: Path,
    holdings: Sequence[Holding],
    candidates: Sequence[Holding],
    *,
    now: float,
    max_bytes: int | None = None,
    unused_days: float | None = None,
    dry_run: bool = False,
) -> Eviction:
    """Remove what was not used for long, then what is above a size.

    Args:
        root: the folder of all stores.
        holdings: all that the store holds.
        candidates: what may go, in that order.
        now: seconds since 1970.
        max_bytes: go on until what is left takes no more; None for any size.
        unused_days: remove what was last used longer ago; None for none.
        dry_run: remove nothing.
    """
    if not dry_run:
        for leftover in root.glob(".*.tmp"):  # of a clean-up that was killed
            shutil.rmtree(leftover, ignore_errors=True)
    old = [] if unused_days is None else [h for h in candidates if now - h.last_used > unused_days * _SECONDS_PER_DAY]
    left = sum(holding.n_bytes for holding in holdings)
    removed: list[Holding] = []
    locked: list[Holding] = []
    for holding in [*old, *(holding for holding in candidates if holding not in old)]:
        if holding not in old and (max_bytes is None or left <= max_bytes):
            break
        if holding.locked or not (dry_run or _remove(root, holding.fingerprint)):
            locked.append(holding)
        else:
            removed.append(holding)
            left -= holding.n_bytes
    return Eviction(removed, locked, left)


def _remove(root: Path, fingerprint: str) -> bool:
    """Remove the rows of a fingerprint; False where an extraction holds them."""
    lock = lock_path(root, fingerprint)
    with locked_if_free(lock) as free:
        if free:
            doomed = root / f".{uuid.uuid4().hex}.tmp"  # never half a store under its name
            try:
                (root / fingerprint).rename(doomed)
            except FileNotFoundError:
                pass  # another clean-up was quicker
            except PermissionError:
                if sys.platform != "win32":
                    raise
                return False  # Windows moves no folder in which another process has a file open
            forget(lock)
            shutil.rmtree(doomed, ignore_errors=True)
    return free
