"""Do verdicts keep their word where a tier is rare? Simulated pairs of models on test splits of 100 or 80 groups.

    python -m benchmarks.rare_tiers                     2,000 runs a setting
    python -m benchmarks.rare_tiers --runs 200          a look
    python -m benchmarks.rare_tiers --markdown          as the table in docs/benchmarks.md

Each group is one artwork, and K of the groups are of the best tier: of two tiers, where every pair has one of the K in
it, or of four, the others at the shares of an entrance exam. A member's score = signal * tier rank + what all models
find hard about an artwork + noise of its own, so that two models correlate by 0.86 within a tier; a better model has
more signal. Two equal models have a true difference of 0, so that "better" and "worse" are false verdicts. True
accuracies follow from the normal distribution.
"""

import argparse
import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from numpy.typing import NDArray

from mirip.metrics.comparison import compare_models

CONFIDENCE = 0.95
N_BOOTSTRAP = 2000
SIGNAL = 0.9
NOISE = 0.4  # a model's own, beside a standard deviation of 1 that all share


@dataclass(frozen=True)
class Setting:
    """How many groups each tier has, the worst first, how many members each model has, and how much better A is.

    Attributes:
        groups: of each tier.
        n_members: of each model.
        better_by: what A's true accuracy is above B's, in [0, 1].
    """

    groups: tuple[int, ...]
    n_members: int = 1
    better_by: float = 0.0

    def __str__(self) -> str:
        tiers = "two" if len(self.groups) == 2 else "four"
        members = "" if self.n_members == 1 else f", {self.n_members} members"
        apart = f", A better by {self.better_by:.0%}" if self.better_by else ""
        return f"{tiers} tiers, {self.groups[-1]} of {sum(self.groups)} groups in the best{members}{apart}"


def _of_exam(rare: int, n_groups: int = 100) -> tuple[int, ...]:
    """Deal all groups but the rare ones to B, A and C at 49, 37 and 10 parts; return C, B, A, S."""
    rest = n_groups - rare
    c, a = round(rest * 10 / 96), round(rest * 37 / 96)
    return c, rest - c - a, a, rare


RARE = (1, 2, 3, 4, 5, 8, 16)
SETTINGS = [
    *(Setting((100 - rare, rare)) for rare in RARE),
    *(Setting(_of_exam(rare)) for rare in RARE),
    *(Setting((100 - rare, rare), 5) for rare in (5, 8, 16)),
    Setting((20, 20, 20, 20), better_by=0.08),
    *(Setting(_of_exam(rare), better_by=0.08) for rare in (8, 16)),
    *(Setting((100 - rare, rare), better_by=0.08) for rare in (8, 16)),
]


def signal_of_better(setting: Setting) -> float:
    """Return the signal of A's members by which it is better than B by as much as the setting says, to 0.001."""
    wanted = true_accuracy(setting.groups, SIGNAL) + setting.better_by
    low, high = SIGNAL, 20.0
    while setting.better_by and high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (middle, high) if true_accuracy(setting.groups, middle) < wanted else (low, middle)
    return low


@functools.lru_cache(maxsize=256)
def true_accuracy(groups: Sequence[int], signal: float) -> float:
    """Return the chance that a score orders a cross-tier pair rightly, each pair with the same weight."""
    from scipy.stats import norm

    n = np.array(groups)
    distance = np.arange(len(n))[:, None] - np.arange(len(n))
    weight = np.where(distance > 0, n[:, None] * n, 0)
    right = norm.cdf(signal * distance / np.sqrt(2 * (1 + NOISE**2)))
    return float((weight * right).sum() / weight.sum())


def found_in_one(setting: Setting, signal_a: float, seed: int) -> tuple[str, NDArray[np.float64]]:
    """Compare two models on one test split: the verdict, and (6,) the ends of A's, B's and the paired interval."""
    rng = np.random.default_rng([seed, *setting.groups, setting.n_members])
    rank = np.repeat(np.arange(len(setting.groups)), setting.groups)
    hard = rng.normal(size=len(rank))
    # The mean of n members has the noise of one, whatever n is.
    own = NOISE * np.sqrt(setting.n_members) * rng.normal(size=(2, setting.n_members, len(rank)))
    a, b = (signal * rank + hard + noise for signal, noise in zip((signal_a, SIGNAL), own, strict=True))
    found = compare_models(a, b, rank, np.arange(len(rank)), rng=rng, n_bootstrap=N_BOOTSTRAP, confidence=CONFIDENCE)
    return found.verdict, np.array([*found.interval_a[:2], *found.interval_b[:2], *found.interval[:2]])


def simulated(setting: Setting, runs: int, jobs: int) -> dict[str, float | str]:
    """Return how often each verdict was given, and how often the intervals hold the truth."""
    signal_a = signal_of_better(setting)
    found = Parallel(n_jobs=jobs)(delayed(found_in_one)(setting, signal_a, seed) for seed in range(runs))
    verdicts = [verdict for verdict, _ in found]
    ends = np.array([bounds for _, bounds in found])
    a, b = true_accuracy(setting.groups, signal_a), true_accuracy(setting.groups, SIGNAL)
    holds = [np.mean((ends[:, k] <= truth) & (truth <= ends[:, k + 1])) for k, truth in ((0, a), (2, b), (4, a - b))]
    return {
        "setting": str(setting),
        "undecided": verdicts.count("undecided") / runs,
        "better": verdicts.count("better") / runs,
        "worse": verdicts.count("worse") / runs,
        "coverage": float(np.mean(holds[:2])),
        "paired_coverage": float(holds[2]),
        "half_width": float(np.mean(ends[:, 5] - ends[:, 4]) / 2),
    }


def as_markdown(table: pd.DataFrame) -> str:
    """Return the table as lines of Markdown."""
    lines = [
        "| test split | undecided | better | worse | coverage, one model | coverage, difference | half width |",
        "| --- | --: | --: | --: | --: | --: | --: |",
    ]
    for setting, undecided, better, worse, one, paired, half in table.itertuples(index=False):
        lines.append(
            f"| {setting} | {undecided:.0%} | {better:.1%} | {worse:.1%} | {one:.1%} | {paired:.1%} | {half:.3f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Simulate every setting and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=2000, help="simulated comparisons a setting")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    start = time.monotonic()
    table = pd.DataFrame([simulated(setting, options.runs, options.jobs) for setting in SETTINGS])
    print(as_markdown(table) if options.markdown else table.round(4).to_string(index=False))
    seconds = time.monotonic() - start
    print(f"\n{options.runs} runs a setting, {seconds:.0f} s on {options.jobs} jobs")


if __name__ == "__main__":
    main()
