"""Who drew what: artists with a skill, what a lack of it does to a drawing, and the tier each artwork was given."""

from dataclasses import dataclass
from math import erf, sqrt

import numpy as np

# Tier shares, best first, of all artworks.
TIER_SHARES = {"S": 0.10, "A": 0.25, "B": 0.40, "C": 0.25}
# What a department's jury adds to an artwork's skill before it awards a tier.
DEPARTMENT_BONUS = {"design": 0.3, "fine_art": 0.0, "craft": -0.3}
MEDIA = ("pencil", "charcoal", "watercolour")

# Standard deviations: an artist's artworks differ less from each other than artists do; together they make 1.
_ARTIST_SPREAD = 0.85
_WORK_SPREAD = float(np.sqrt(1 - _ARTIST_SPREAD**2))
_LABEL_NOISE = 0.65
# How far one fault may be from what the skill as a whole would make of it.
_FAULT_SPREAD = 0.13


@dataclass(frozen=True)
class Artwork:
    """One drawing before it is drawn. `skill` is about normal (0, 1), `merit` is skill + department bonus."""

    index: int
    artist: str
    department: str
    medium: str
    skill: float
    tier: str

    @property
    def merit(self) -> float:
        """What the best possible ranker that knows skill and department would score."""
        return self.skill + DEPARTMENT_BONUS[self.department]


def generator(seed: int, *stream: int) -> np.random.Generator:
    """Return the generator of one named stream of randomness, independent of all others of this seed."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *stream])))


def assign_artworks(seed: int, n_images: int, n_artists: int) -> list[Artwork]:
    """Invent the artists and share the artworks out among them; every artist has at least one.

    The tier is the rank of merit + label noise, cut at `TIER_SHARES`: the shares are exact but for rounding.
    With fewer artworks than artists only the first artists have one.
    """
    rng = generator(seed, 0)
    ids = rng.choice(np.arange(1000, max(9999, 1000 + 4 * n_artists)), size=n_artists, replace=False)
    departments = rng.choice(list(DEPARTMENT_BONUS), size=n_artists, p=[0.4, 0.35, 0.25])
    talent = rng.normal(0, _ARTIST_SPREAD, n_artists)
    # Nobody has more than one artwork above the others: many small groups split finely.
    artists = rng.permutation(np.arange(n_images) % n_artists)
    skill = talent[artists] + rng.normal(0, _WORK_SPREAD, n_images)
    media = rng.choice(MEDIA, size=n_images, p=[0.45, 0.25, 0.30])
    bonus = np.array([DEPARTMENT_BONUS[name] for name in departments])[artists]
    awarded = skill + bonus + rng.normal(0, _LABEL_NOISE, n_images)
    tiers = np.empty(n_images, dtype=object)
    bounds = np.round(np.cumsum([0, *TIER_SHARES.values()]) * n_images).astype(int)
    best_first = np.argsort(-awarded)
    for tier, start, end in zip(TIER_SHARES, bounds[:-1], bounds[1:], strict=True):
        tiers[best_first[start:end]] = tier
    return [
        Artwork(
            index=index,
            artist=f"artist-{ids[artists[index]]}",
            department=str(departments[artists[index]]),
            medium=str(media[index]),
            skill=float(skill[index]),
            tier=str(tiers[index]),
        )
        for index in range(n_images)
    ]


@dataclass(frozen=True)
class Faults:
    """How bad each part of the craft is, from 0 (a master's) to 1 (a first attempt's)."""

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
