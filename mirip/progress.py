"""Progress of long work: a bar with rate and time left on a terminal, a line now and then in a log."""

import sys
import time
from types import TracebackType
from typing import Self

from tqdm import tqdm

_LOG_INTERVAL_S = 10.0


class Progress:
    """Count `total` units of work on stderr.

    Args:
        label: what is being done, e.g. "extract".
        total: number of units.
        unit: name of one unit, e.g. "image".
        done: units that an earlier run did; they do not count into the rate.
        visible: False shows nothing.

    Use as a context manager and call `update(n, note)` as work is done; `note` is a short text shown beside
    the count, e.g. the current loss.
    """

    def __init__(self, label: str, total: int, unit: str, *, done: int = 0, visible: bool = True) -> None:
        self._label, self._total, self._unit, self._visible = label, total, unit, visible
        self._done = self._initial = done
        self._start = self._last_line = time.monotonic()
        self._bar = (
            tqdm(total=total, initial=done, desc=label, unit=f" {unit}") if visible and sys.stderr.isatty() else None
        )

    def update(self, n: int, note: str = "") -> None:
        """Report that `n` more units are done."""
        self._done += n
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(n)
        elif self._visible and (now := time.monotonic()) - self._last_line >= _LOG_INTERVAL_S:
            self._last_line = now
            self._write_line(now, note)

    def restart(self) -> None:
        """Count the time from now on: what came before was preparation, and no unit was done."""
        self._start = self._last_line = time.monotonic()
        if self._bar is not None:
            self._bar.reset()

    def _write_line(self, now: float, note: str) -> None:
        rate = (self._done - self._initial) / max(now - self._start, 1e-9)
        left_s = (self._total - self._done) / max(rate, 1e-9)
        line = (
            f"{self._label}: {self._done}/{self._total} {self._unit}s, {rate:.1f} {self._unit}s/s, {left_s:.0f} s left"
        )
        print(f"{line}, {note}" if note else line, file=sys.stderr, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
