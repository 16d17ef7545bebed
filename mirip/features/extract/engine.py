"""What an engine is: images that have no row yet go in, rows of features come out, and nothing else.

An engine decides where and how fast images are computed, never what comes out. The driver (driver.py), which calls it,
writes the rows, shows the progress and tells of failures: an engine touches neither the store nor the terminal.
"""

from collections.abc import Generator, Sequence
from types import TracebackType
from typing import NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from mirip.errors import DataError


class ImageItem(NamedTuple):
    """One image content: its sha256 in hexadecimal, and a file below the image root that holds it."""

    sha256: str
    path: str


class Computed(NamedTuple):
    """The rows of some images.

    Attributes:
        items: n images.
        rows: (n, D) in the recipe's stored dtype.
        largest: (n,) float32, the largest magnitude in each row before it was rounded to that.
    """

    items: list[ImageItem]
    rows: NDArray[np.floating]
    largest: NDArray[np.float32]


class Failed(NamedTuple):
    """An image that has no row, and why; the error does not name the file."""

    item: ImageItem
    error: DataError


Outcome = Computed | Failed | None  # None: nothing yet, so that the caller can see to Ctrl-C


class Engine(Protocol):
    """Where features are computed; entered before it computes.

    Attributes:
        name: as `extract.engine` names it.
        opening: what entering it waits for, for people; empty where it is entered at once.
        device: cpu or cuda; known once it is entered.
        place: where it computes, for people, such as "cpu, engine local"; likewise.
        hardware: what computed, such as "NVIDIA H200"; known after the first outcome.
        ready_at: when the backbone was loaded, in seconds of `time.monotonic`; 0 before the first outcome.
    """

    name: str
    opening: str
    device: str
    place: str
    hardware: str
    ready_at: float

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def compute(self, items: Sequence[ImageItem]) -> Generator[Outcome, None, None]:
        """Yield every image's row or failure, in any order, some of them perhaps twice.

        Closing the generator ends the work.

        Raises:
            BackboneError: the backbone cannot be loaded.
            EngineError: the engine ended midway.
        """
        ...
