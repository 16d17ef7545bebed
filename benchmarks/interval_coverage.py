"""Does the interval hold its promise? Simulated test splits of known truth, and how often each interval holds it.

    python -m benchmarks.interval_coverage                     2,000 runs a setting, about ten minutes on 2 busy cores
    python -m benchmarks.interval_coverage --runs 100          a look
    python -m benchmarks.interval_coverage --markdown          as the table in docs/benchmarks.md

The model: score = signal * tier rank + group effect + noise, both normal, half of the variance in the group. Two images
of different groups then differ by a normal variable, so that the true accuracy of each tier pair is a normal
probability, and the truth their mean weighted by the tiers' shares. A test split has about three images a group, some
groups many more than others. Its tiers come in fixed shares, since the split is stratified: dealt out over the images
(mixed), or over the groups, all images of which then have one tier. The signal decides how high the true accuracy
is: from that of a usual ranker up to where a sample may hold no wrong pair at all. There test splits of two tiers are
tried as well, each image its own group.
"""

import argparse
import time
from dataclasses import dataclass

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from numpy.typing import NDArray
from scipy.stats import norm

from mirip.metrics.intervals import bootstrap_accuracies, group_support, resampled_accuracy_interval
from mirip.metrics.pairwise import pairwise_accuracy, sample_pairs

SHARES = (0.10, 0.49, 0.37, 0.04)  # C, B, A, S: tier ranks from 0
HALVES = (0.5, 0.5)
GROUP_SHARE = 0.5  # of the variance about a tier's mean
CONFIDENCE = 0.95
N_BOOTSTRAP = 2000
DRAWN_PAIRS = 5000
INTERVALS = ("ours", "percentile", "binomial, all pairs", "binomial, 5,000 pairs")


@dataclass(frozen=True)
class Setting:
    """A kind of test split: how many groups, whether each has one tier, how much scores rise from tier to tier."""

    n_groups: int
    one_tier: bool
    signal: float = 0.7
    shares: tuple[float, ...] = SHARES
    images_per_group: int = 3

    def __str__(self) -> str:
        kind = "one tier each" if self.one_tier else "mixed"
        if self.images_per_group == 1:
            kind = f"an image each, {len(self.shares)} tiers"
        return f"{self.n_groups} groups, {kind}, true {self.true_accuracy:.3f}"

    @property
    def true_accuracy(self) -> float:
        """The accuracy over all cross-tier pairs of a population of infinitely many groups."""
        gap = np.arange(len(self.shares))[:, None] - np.arange(len(self.shares))[None, :]
        pairs = np.where(gap > 0, np.outer(self.shares, self.shares), 0.0)
        return float((pairs * norm.cdf(self.signal * gap / np.sqrt(2))).sum() / pairs.sum())


def two_tiers(n_images: int, accuracy: float) -> Setting:
    """Return test splits of two tiers, as many images in each, and every image its own group."""
    return Setting(n_images, True, float(np.sqrt(2) * norm.ppf(accuracy)), HALVES, 1)


SETTINGS = [
    *(Setting(n_groups, one_tier) for n_groups in (92, 40, 15) for one_tier in (False, True)),
    *(
        Setting(n_groups, one_tier, signal)
        for signal in (2.15, 2.8)
        for n_groups in (92, 40)
        for one_tier in (False, True)
    ),
    *(two_tiers(n, accuracy) for n, accuracy in ((100, 0.99), (40, 0.98), (40, 0.95), (8, 0.80))),
]


def fixed_shares(shares: tuple[float, ...], n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the tier ranks of n images or groups in shuffled order, every tier at least once."""
    wanted = np.asarray(shares) * n
    counts = np.maximum(np.floor(wanted), 1).astype(np.int64)
    while counts.sum() < n:
        counts[np.argmax(wanted - counts)] += 1
    return rng.permutation(np.repeat(np.arange(len(shares)), counts))


def simulated_split(setting: Setting, rng: np.random.Generator) -> tuple[NDArray[np.float64], ...]:
    """Return scores, tier ranks and groups of one test split, (N,) each."""
    rest = setting.n_groups * (setting.images_per_group - 1)
    sizes = 1 + rng.multinomial(rest, rng.dirichlet(np.ones(setting.n_groups)))
    group = np.repeat(np.arange(setting.n_groups), sizes)
    of_groups = setting.one_tier
    rank = fixed_shares(setting.shares, setting.n_groups if of_groups else len(group), rng)
    rank = rank[group] if of_groups else rank
    of_group = np.sqrt(GROUP_SHARE) * rng.normal(size=setting.n_groups)
    return setting.signal * rank + of_group[group] + np.sqrt(1 - GROUP_SHARE) * rng.normal(size=len(group)), rank, group


def intervals_of(setting: Setting, seed: int) -> NDArray[np.float64]:
    """Return low and high of each of INTERVALS on one simulated test split, (4, 2)."""
    rng = np.random.default_rng([seed, setting.n_groups, setting.one_tier])
    scores, rank, group = simulated_split(setting, rng)
    replicates = bootstrap_accuracies(scores, rank, group, rng=rng, n_bootstrap=N_BOOTSTRAP)[:, 0]
    accuracy = pairwise_accuracy(scores, rank)
    ours = resampled_accuracy_interval(accuracy, replicates, group_support(rank, group), confidence=CONFIDENCE)
    tail = (1 - CONFIDENCE) / 2
    better, worse = sample_pairs(rank, rng=rng, max_pairs=10**7)
    drawn = rng.integers(0, len(better), size=DRAWN_PAIRS)
    of_drawn = float(np.mean(scores[better[drawn]] > scores[worse[drawn]]))
    return np.array(
        [
            (ours.low, ours.high),
            np.nanquantile(replicates, [tail, 1 - tail]),
            _binomial(accuracy, len(better)),
            _binomial(of_drawn, DRAWN_PAIRS),
        ]
    )


def coverage_of(setting: Setting, runs: int, jobs: int) -> pd.DataFrame:
    """Return a row an interval: setting, interval, coverage, its standard error and the mean width."""
    found = np.array(Parallel(n_jobs=jobs)(delayed(intervals_of)(setting, seed) for seed in range(runs)))  # (R, 4, 2)
    truth = setting.true_accuracy
    covered = ((found[..., 0] <= truth) & (truth <= found[..., 1])).mean(axis=0)
    return pd.DataFrame(
        {
            "setting": str(setting),
            "interval": INTERVALS,
            "nominal": CONFIDENCE,
            "coverage": covered,
            "standard_error": np.sqrt(covered * (1 - covered) / runs),
            "mean_width": (found[..., 1] - found[..., 0]).mean(axis=0),
        }
    )


def as_markdown(table: pd.DataFrame) -> str:
    """Return the table as lines of Markdown, a row a setting: coverages, of ours with its error, and mean widths."""
    names = [*INTERVALS, *(f"width: {name}" for name in INTERVALS)]
    lines = [f"| test split | {' | '.join(names)} |", f"| --- |{' --: |' * len(names)}"]
    for setting, rows in table.groupby("setting", sort=False):
        coverage = [f"{value:.1%}" for value in rows["coverage"]]
        coverage[0] += f" ± {rows['standard_error'].iloc[0]:.1%}"
        widths = [f"{value:.3f}" for value in rows["mean_width"]]
        lines.append(f"| {setting} | {' | '.join([*coverage, *widths])} |")
    return "\n".join(lines)


def _binomial(accuracy: float, n_pairs: int) -> tuple[float, float]:
    half = norm.ppf((1 + CONFIDENCE) / 2) * np.sqrt(accuracy * (1 - accuracy) / n_pairs)
    return accuracy - half, accuracy + half


def main() -> None:
    """Simulate every setting and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=2000, help="simulated test splits a setting")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    start = time.monotonic()
    table = pd.concat([coverage_of(setting, options.runs, options.jobs) for setting in SETTINGS], ignore_index=True)
    print(as_markdown(table) if options.markdown else table.round(4).to_string(index=False))
    seconds = time.monotonic() - start
    print(f"\n{options.runs} runs a setting, {seconds:.0f} s on {options.jobs} jobs")


if __name__ == "__main__":
    main()
