"""Is the default model ever below its best baseline? Measured out of fold on made features and on those of projects.

    python -m benchmarks.rankers                        the made sets
    python -m benchmarks.rankers . ../paintings         and those of projects: data/splits.parquet and their features
    python -m benchmarks.rankers --markdown             as the table in docs/benchmarks.md

Each set is partitioned five times into five folds of whole groups. A fold is scored by models trained on the rest, of
which a tenth chooses the epoch: nothing scored has a say in epoch, penalty or weight. Pairs count within a fold.
Beside the default model stands the plain one of the library: one head, logistic loss. The best baseline is the one
with the highest accuracy on the set, which favours the baselines. Intervals resample groups; the difference is paired,
and is the mean over the partitions.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from numpy.typing import NDArray

from mirip.data.folds import deal_folds
from mirip.data.split import read_splits
from mirip.features.cache.feature_cache import FeatureCache
from mirip.metrics.comparison import comparison
from mirip.metrics.intervals import Interval, bootstrap_accuracies, difference_interval, group_support
from mirip.metrics.pairwise import pairwise_accuracy
from mirip.models.baselines import BASELINES, baseline_scores
from mirip.models.cross_fit import cross_fit, kind_scores
from mirip.models.ranking_data import RankingData
from mirip.models.trainer import Trainer
from mirip.params import TrainParams, load_params
from mirip.workspace import Workspace

SHARES = (0.49, 0.37, 0.10, 0.04)  # C, B, A, S: tier ranks from 0
DIM, LATENT = 256, 24
N_FOLDS, N_PARTITIONS = 5, 5
N_BOOTSTRAP = 1000
DEFAULT, PLAIN = "default", "plain head"

Floats = NDArray[np.float64]


class MadeSet(NamedTuple):
    """How the truth depends on the features, and how many images there are in how many groups."""

    truth: str
    n_images: int
    n_groups: int

    def __str__(self) -> str:
        return f"made: {self.truth}, {self.n_images:,} images in {self.n_groups:,} groups"


MADE_SETS = [
    MadeSet("linear", 60, 60),
    MadeSet("linear", 300, 100),
    MadeSet("nonlinear", 300, 100),
    MadeSet("noisy", 300, 100),
    MadeSet("linear", 1200, 40),
    MadeSet("nonlinear", 1200, 40),
    MadeSet("nonlinear", 1200, 1200),
    MadeSet("noisy", 1200, 400),
    MadeSet("nonlinear", 5000, 1500),
    MadeSet("linear", 10000, 3000),
    MadeSet("nonlinear", 10000, 3000),
]


def made_data(made: MadeSet, seed: int = 0) -> RankingData:
    """Draw features (N, 256) of 24 latent values, and tiers of a truth that is linear in them or not.

    A group shares a part of the latent values, and of the noise. linear: the sum of the features; nonlinear: a small
    network of the latent values and the size of one of them; noisy: linear in the latent values under much noise.
    """
    rng = np.random.default_rng([seed, made.n_images, made.n_groups])
    group = np.sort(np.concatenate([np.arange(made.n_groups), rng.integers(0, made.n_groups, made.n_images)]))
    group = np.unique(rng.permutation(group)[: made.n_images], return_inverse=True)[1]
    latent = 0.8 * rng.normal(size=(made.n_images, LATENT)) + 0.6 * rng.normal(size=(group.max() + 1, LATENT))[group]
    features = np.tanh(latent @ rng.normal(size=(LATENT, DIM)) / np.sqrt(LATENT))
    features += 1.5 * rng.normal(size=features.shape) / np.sqrt(np.arange(1, DIM + 1))
    if made.truth == "linear":
        truth = features @ rng.normal(size=DIM)
    elif made.truth == "nonlinear":
        hidden = np.tanh(2 * latent @ rng.normal(size=(LATENT, 12)) / np.sqrt(LATENT))
        truth = hidden @ rng.normal(size=12) + 1.2 * np.abs(latent[:, 0])
    else:
        truth = latent @ rng.normal(size=LATENT)
    noise = 3.0 if made.truth == "noisy" else 0.6
    noisy = truth / truth.std() + noise * (
        0.8 * rng.normal(size=made.n_images) + 0.5 * rng.normal(size=group.max() + 1)[group]
    )
    place = np.argsort(np.argsort(noisy)) / made.n_images
    rank = np.searchsorted(np.cumsum(SHARES[:-1]), place, side="right")
    return RankingData(features.astype(np.float32), rank, np.zeros(made.n_images, dtype=np.int64), group)


def project_data(folder: Path) -> RankingData:
    """Read all images of a project: the rows of data/splits.parquet and their features."""
    params = load_params(folder / "params.yaml")
    splits = read_splits(Workspace(folder).splits)
    cache = FeatureCache.open(folder / params.features_path, params.recipe)
    groups = pd.factorize(splits["group_id"])[0]
    rank = splits["tier_rank"].to_numpy().astype(np.int64)
    return RankingData(cache.rows(splits["image_sha256"].tolist()), rank, np.zeros(len(rank), dtype=np.int64), groups)


def default_options() -> TrainParams:
    """Return the section train of the project's own params.yaml."""
    return load_params(Path(__file__).parents[1] / "params.yaml").train


def scored_partition(data: RankingData, partition: int) -> tuple[dict[str, Floats], NDArray[np.int64]]:
    """Score all images of one partition: name -> (N,), and the folds (N,)."""
    rng = np.random.default_rng([partition, 7])
    assert data.group is not None
    fold = deal_folds(data.group, data.tier_rank, N_FOLDS, rng)
    scores = {name: np.zeros(len(data)) for name in (DEFAULT, PLAIN, *BASELINES)}
    options = default_options().model_copy(update={"device": "cpu"})
    plain = TrainParams(images_per_step=options.images_per_step, device="cpu")
    for k in range(N_FOLDS):
        held_out, rest = data.rows(fold == k), data.rows(fold != k)
        assert rest.group is not None
        in_val = deal_folds(rest.group, rest.tier_rank, 10, rng) == 0
        train, val = rest.rows(~in_val), rest.rows(in_val)
        found = Trainer(options).fit(train, val)
        weights = cross_fit(train, options, epochs=[member.best_epoch for member in found.members]).weights
        by_kind = dict(zip(found.model.kinds, kind_scores(found.model, held_out.features), strict=True))
        scores[DEFAULT][fold == k] = weights @ np.stack(list(by_kind.values()))
        scores[PLAIN][fold == k] = kind_scores(Trainer(plain).fit(train, val).model, held_out.features)[0]
        for name, own in baseline_scores(train, val, held_out.features, plain, members=by_kind).items():
            scores[name][fold == k] = own
    return scores, fold


def compared(name: str, data: RankingData, partitions: list[tuple[dict[str, Floats], NDArray[np.int64]]]) -> dict:
    """Return a row of the table: accuracies, means over partitions, and differences from the best baseline."""
    names = list(partitions[0][0])
    accuracy = np.array(
        [[pairwise_accuracy(scores[one], data.tier_rank, context=fold) for one in names] for scores, fold in partitions]
    ).mean(axis=0)
    best = max(range(2, len(names)), key=lambda k: accuracy[k])
    assert data.group is not None
    replicates = np.mean(
        [
            bootstrap_accuracies(
                np.stack(list(scores.values())),
                data.tier_rank,
                data.group,
                rng=np.random.default_rng(1),
                n_bootstrap=N_BOOTSTRAP,
                context=fold,
            )
            for scores, fold in partitions
        ],
        axis=0,
    )
    support = group_support(data.tier_rank, data.group, context=partitions[0][1])

    def difference(k: int) -> tuple[float, Interval]:
        margin = float(accuracy[k] - accuracy[best])
        return margin, difference_interval(margin, replicates[:, k] - replicates[:, best], support, confidence=0.95)

    (default, of_default), (plain, of_plain) = difference(0), difference(1)
    return {
        "set": name,
        "best": names[best],
        "baseline": accuracy[best],
        "default": default,
        "low": of_default.low,
        "high": of_default.high,
        "verdict": comparison(of_default),
        "plain": plain,
        "plain_low": of_plain.low,
        "plain_high": of_plain.high,
    }


def as_markdown(table: pd.DataFrame) -> str:
    """Return the table as lines of Markdown, in points of accuracy."""
    lines = [
        "| images | best baseline | default less that | verdict | plain head less that |",
        "| --- | --: | --: | --- | --: |",
    ]
    for row in table.itertuples(index=False):
        default, plain = (
            f"{100 * value:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
            for value, low, high in ((row.default, row.low, row.high), (row.plain, row.plain_low, row.plain_high))
        )
        lines.append(f"| {row.set} | {row.best} {row.baseline:.3f} | {default} | {row.verdict} | {plain} |")
    mean = f"| mean of all | | {100 * table['default'].mean():+.2f} | | {100 * table['plain'].mean():+.2f} |"
    return "\n".join([*lines, mean])


def main() -> None:
    """Measure every set and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("projects", nargs="*", type=Path, help="folders of projects whose features are extracted")
    parser.add_argument("--partitions", type=int, default=N_PARTITIONS)
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--only", default="", help="sets whose name holds this")
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    start = time.monotonic()
    makers: dict[str, Callable[[], RankingData]] = {
        **{path.resolve().name: lambda path=path: project_data(path) for path in options.projects},
        **{str(made): lambda made=made: made_data(made) for made in MADE_SETS},
    }
    sets = {name: make() for name, make in makers.items() if options.only in name}
    jobs = [delayed(scored_partition)(data, k) for data in sets.values() for k in range(options.partitions)]
    scored = Parallel(n_jobs=options.jobs, return_as="generator")(jobs)
    rows = []
    for name, data in sets.items():
        rows.append(compared(name, data, [next(scored) for _ in range(options.partitions)]))
        print(f"{name}: {100 * rows[-1]['default']:+.1f} points", file=sys.stderr, flush=True)
    table = pd.DataFrame(rows)
    print(as_markdown(table) if options.markdown else table.round(4).to_string(index=False))
    seconds = time.monotonic() - start
    print(f"\n{options.partitions} partitions of {N_FOLDS} folds, {seconds:.0f} s on {options.jobs} jobs")


if __name__ == "__main__":
    main()
