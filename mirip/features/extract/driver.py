"""The driver: takes rows from an engine, keeps every batch in the store at once, and shows how far it is."""

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from types import FrameType

import numpy as np

from mirip.errors import CacheError, DataError, EngineError, ImageError
from mirip.features.cache.store import FeatureStore
from mirip.features.extract.engine import Computed, Engine, Failed, ImageItem
from mirip.progress import Progress
from mirip.wording import counted


def keep_features(engine: Engine, items: Sequence[ImageItem], store: FeatureStore, *, visible: bool = True) -> None:
    """Let an engine compute the features of `items`, and keep each batch in the store as soon as it comes.

    Args:
        engine: where they are computed; entered.
        items: images of distinct contents that the store lacks.
        store: where the rows go; of the recipe that the engine computes.
        visible: show progress on stderr.

    Raises:
        ImageError: a file cannot be decoded; all the others are computed and kept first.
        DataError: a file is not the one that was prepared; likewise.
        CacheError: a feature is not finite in the stored dtype, or cannot be written.
        BackboneError: the backbone cannot be loaded.
        EngineError: the engine ended midway; what it had computed is kept.
        KeyboardInterrupt: after Ctrl-C, when the batch in work is kept.
    """
    waiting = {item.sha256 for item in items}
    failures: dict[str, Failed] = {}
    with (
        _patient_interrupt() as interrupted,
        Progress("extract", len(items), "image", visible=visible) as progress,
        closing(engine.compute(items)) as outcomes,
    ):
        is_ready = False
        for outcome in outcomes:
            if engine.ready_at and not is_ready:
                is_ready = True
                progress.restart()
            if isinstance(outcome, Failed):
                failures[outcome.item.sha256] = outcome
            elif outcome is not None:
                new = [place for place, item in enumerate(outcome.items) if item.sha256 in waiting]
                waiting.difference_update(item.sha256 for item in outcome.items)
                if new:
                    _keep(store, Computed([outcome.items[i] for i in new], outcome.rows[new], outcome.largest[new]))
                progress.update(len(new))
            if interrupted.is_set():
                break
    failed = [failures[sha256] for sha256 in failures if sha256 in waiting]
    n_kept = len(items) - len(waiting)
    if interrupted.is_set() and len(failed) < len(waiting):
        _say(f"stopped with {n_kept} of {len(items)} new images kept: run the same command again to go on")
        raise KeyboardInterrupt
    if failed:
        item, error = failed[0]
        more = f" (and {counted(len(failed) - 1, 'more file')})" if len(failed) > 1 else ""
        kept = f"; the features of the other {counted(n_kept, 'new image')} are kept" if n_kept else ""
        problem = f"{item.path} {error.problem}{more}{kept}"
        if isinstance(error, ImageError):
            raise ImageError(problem, error.advice, kind=error.kind)
        raise DataError(problem, error.advice)
    if waiting:
        first = next(item.path for item in items if item.sha256 in waiting)
        raise EngineError(
            f"the engine {engine.name} lost {len(waiting)} of {len(items)} new images, the first {first}",
            "run the same command again: the others are kept",
        )


def _keep(store: FeatureStore, batch: Computed) -> None:
    finite = np.isfinite(batch.rows).all(axis=1)
    if finite.any():
        store.add([item.sha256 for item, good in zip(batch.items, finite, strict=True) if good], batch.rows[finite])
    if not finite.all():
        first = int(np.argmin(finite))
        raise CacheError(
            f"{batch.items[first].path} has features that are not finite as {batch.rows.dtype} (largest "
            f"{batch.largest[first]:.3g}, float16 ends at 65504)",
            "set the recipe's stored_dtype to float32, or its compute_dtype if that is not enough",
        )


@contextmanager
def _patient_interrupt() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into an event, so that the batch in work is kept; the second stops at once."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def note(number: int, frame: FrameType | None) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()
        # print is not safe in a signal handler
        os.write(2, b"extract: stopping when this batch is kept; Ctrl-C again stops at once\n")

    before = signal.signal(signal.SIGINT, note)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)


def _say(message: str) -> None:
    print(f"extract: {message}", file=sys.stderr, flush=True)
