"""Does a comparison of two models keep its word? Simulated models that differ by their training seeds alone.

    python -m benchmarks.seed_comparison                     1,000 runs a setting
    python -m benchmarks.seed_comparison --runs 100          a look
    python -m benchmarks.seed_comparison --markdown          as the table in docs/benchmarks.md

A head's score = slope * tier rank + what all models find hard about an image + what its own seed does to that image;
its seed also moves the slope. Both models come from one and the same recipe, so that the true difference is 0 and every
verdict but "within noise" is a false one. The half width of the interval is held against 1.96 times the standard
deviation that the difference has over runs: 1 is what an interval of known variance would have.
"""

import argparse
import time
from dataclasses import dataclass

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy.stats import norm

from mirip.metrics.comparison import compare_models

SHARES = (0.10, 0.49, 0.37, 0.04)  # C, B, A, S: tier ranks from 0
N_IMAGES, N_GROUPS = 150, 80
SIGNAL = 0.7
CONFIDENCE = 0.95
N_BOOTSTRAP = 2000


@dataclass(frozen=True)
class Setting:
    """How many heads each model has, what a seed does to single images, and what to the slope of all."""

    n_members: int
    image_noise: float
    slope_noise: float = 0.0

    def __str__(self) -> str:
        members = "one member" if self.n_members == 1 else f"{self.n_members} members"
        return f"{members} each, seeds move images by {self.image_noise:.1f}, the slope by {self.slope_noise:.1f}"


SETTINGS = [
    *(Setting(n_members, noise) for noise in (0.3, 0.8) for n_members in (1, 3, 5)),
    *(Setting(n_members, 0.3, 0.1) for n_members in (1, 3, 5)),
]


def found_in_one(setting: Setting, seed: int) -> tuple[float, float, float]:
    """Return the difference of two models of one recipe, and the bounds of its interval."""
    rng = np.random.default_rng(
        [seed, setting.n_members, round(10 * setting.image_noise), round(10 * setting.slope_noise)]
    )
    group = np.concatenate([np.arange(N_GROUPS), rng.integers(0, N_GROUPS, N_IMAGES - N_GROUPS)])
    rank = rng.choice(len(SHARES), size=N_IMAGES, p=SHARES)
    hard = (rng.normal(size=N_GROUPS)[group] + rng.normal(size=N_IMAGES)) / np.sqrt(2)
    slopes = SIGNAL + setting.slope_noise * rng.normal(size=(2, setting.n_members, 1))
    heads = slopes * rank + hard + setting.image_noise * rng.normal(size=(2, setting.n_members, N_IMAGES))
    found = compare_models(*heads, rank, group, rng=rng, n_bootstrap=N_BOOTSTRAP, confidence=CONFIDENCE)
    return found.difference, found.interval.low, found.interval.high


def compared(setting: Setting, runs: int, jobs: int) -> dict[str, float | str]:
    """Return how often equal models come out different, its standard error, and the relative width."""
    found = np.array(Parallel(n_jobs=jobs)(delayed(found_in_one)(setting, seed) for seed in range(runs)))  # (R, 3)
    false = float(np.mean((found[:, 1] > 0) | (found[:, 2] < 0)))
    half_width = float(np.mean(found[:, 2] - found[:, 1]) / 2)
    return {
        "models": str(setting),
        "false_verdicts": false,
        "standard_error": float(np.sqrt(false * (1 - false) / runs)),
        "half_width": half_width,
        "relative_width": half_width / float(norm.ppf((1 + CONFIDENCE) / 2) * found[:, 0].std()),
    }


def as_markdown(table: pd.DataFrame) -> str:
    """Return the table as lines of Markdown."""
    lines = ["| models | false verdicts | half width | of what is due |", "| --- | --: | --: | --: |"]
    for models, false, error, half_width, relative in table.itertuples(index=False):
        lines.append(f"| {models} | {false:.1%} ± {error:.1%} | {half_width:.3f} | {relative:.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Simulate every setting and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000, help="simulated comparisons a setting")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    start = time.monotonic()
    table = pd.DataFrame([compared(setting, options.runs, options.jobs) for setting in SETTINGS])
    print(as_markdown(table) if options.markdown else table.round(4).to_string(index=False))
    seconds = time.monotonic() - start
    print(f"\n{options.runs} runs a setting, {seconds:.0f} s on {options.jobs} jobs")


if __name__ == "__main__":
    main()
