"""Named streams of random numbers: each use of randomness has its own, so that a further draw in one moves no other."""

import hashlib

import numpy as np


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """Return a random generator that depends on the seed and the names alone.

    Args:
        seed: of the section of params.yaml, 0 or more.
        names: what the numbers are for, such as "bootstrap", or "fold", 3.
    """
    name = "/".join(str(part) for part in names).encode()
    words = np.frombuffer(hashlib.sha256(name).digest(), dtype="<u4")
    return np.random.default_rng([seed, *(int(word) for word in words)])
