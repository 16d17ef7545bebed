"""Matrices whose product leaves the flag of an invalid operation behind though every value is finite, as a BLAS may."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


class _WithStrayFlags(np.ndarray):
    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        plain = [np.asarray(value) for value in inputs]
        if "out" in options:
            options["out"] = tuple(np.asarray(value) for value in options["out"])
        if "where" in options:
            options["where"] = np.asarray(options["where"])
        found = getattr(ufunc, method)(*plain, **options)
        if ufunc is not np.matmul:
            return found.view(_WithStrayFlags) if isinstance(found, np.ndarray) else found
        np.subtract(np.inf, np.inf)  # warns of an invalid value unless such flags are ignored
        return found


def with_stray_flags(matrix: NDArray[Any]) -> NDArray[Any]:
    """View a matrix as one in whose products NumPy meets the flag."""
    return matrix.view(_WithStrayFlags)
