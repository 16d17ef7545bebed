"""Products of matrices that fail by what they are, not by a floating point flag that the BLAS leaves behind.

A kernel may compute on lanes that it throws away, and set the processor's flag of an invalid operation though all
operands and all results are finite: seen in float32 on Intel processors with AMX, now and then. NumPy reads that flag
after a product and warns, which is an error wherever warnings are errors. So flags are not looked at, and the result
itself is.
"""

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mirip.errors import DataError

Floating = TypeVar("Floating", bound=np.floating[Any])


def times(left: NDArray[Floating], right: NDArray[Floating]) -> NDArray[Floating]:
    """Return left @ right.

    Raises:
        DataError: a value of it is infinite or not a number.
    """
    with stray_flags_ignored():
        found = left @ right
    return finite(found, "a product of matrices")


def stray_flags_ignored() -> np.errstate:
    """Return a context in which no floating point flag warns: whoever uses it checks the result by `finite`."""
    return np.errstate(all="ignore")


def finite(values: NDArray[Floating], what: str) -> NDArray[Floating]:
    """Return the values as they are.

    Raises:
        DataError: one is infinite or not a number.
    """
    n_bad = values.size - int(np.count_nonzero(np.isfinite(values)))
    if n_bad:
        raise DataError(
            f"{what} holds values that are not finite, {n_bad} of {values.size}",
            "look for huge or damaged features by `mirip cache verify`, then run again",
        )
    return values
