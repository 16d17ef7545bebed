"""What a lack of skill does to a drawing."""

from dataclasses import dataclass
from math import erf, sqrt

import numpy as np

# How far one fault may stand apart from what the skill as a whole would make of it.
_FAULT_SPREAD = 0.13


@dataclass(frozen=True)
class Faults:
    """How bad each side of the craft is, from 0 (a master's) to 1 (a first attempt's)."""

    wobble: float
    perspective: float
    light: float
    values: float
    placement: float
    hatching: float


def faults_of(skill: float, rng: np.random.Generator) -> Faults:
    """Turn a skill, about normal (0, 1), into faults: each is the share of people who are better, give or take."""
    better = 0.5 - 0.5 * erf(skill / sqrt(2))
    level = np.clip(better + rng.normal(0, _FAULT_SPREAD, 6), 0, 1)
    return Faults(*(float(value) for value in level))
