"""`mirip compare-models | crossval | sweep | summary`: which of several models or settings is better."""

import argparse
from pathlib import Path
from typing import Any

from mirip.cli.command import add_command
from mirip.workspace import Workspace


def add_commands(commands: Any) -> None:
    """Add them to the commands of `mirip`."""
    command = add_command(commands, "compare-models", compare_models)
    command.add_argument(
        "a", metavar="A", help="a scores.csv, a folder that holds one, a Git revision or an experiment"
    )
    command.add_argument("b", metavar="B", help="the other one, given in the same way")
    command.add_argument("--confidence", type=float, default=0.95, help="confidence of the intervals; default 0.95")
    command.add_argument("--n-bootstrap", type=int, default=2000, help="number of resamples over groups; default 2000")
    command.add_argument("--seed", type=int, default=42, help="seed of the resamples; default 42")
    command.add_argument("--json", type=Path, metavar="FILE", help="also write the values there")

    command = add_command(commands, "crossval", crossval)
    command.add_argument(
        "--by",
        choices=["tier", "context", "group"],
        default="tier",
        help="what a fold holds out: whole groups with every tier's share (tier, the default), one context, or one "
        "group or several",
    )
    command.add_argument("--folds", type=int, default=5, help="number of folds; with --by group the most; default 5")
    command.add_argument("--output", type=Path, metavar="FILE", help="also write the values there, as JSON")
    command.add_argument("--params", type=Path, help="the params file; default params.yaml")

    command = add_command(commands, "sweep", sweep)
    command.add_argument(
        "axes",
        nargs="+",
        metavar="PARAM=VALUE,VALUE",
        help="a param and the values to try, such as train.dropout=0.1,0.3",
    )
    command.add_argument("--jobs", type=int, default=2, help="how many experiments run at once; default 2")

    command = add_command(commands, "summary", summary)
    command.add_argument("--params", type=Path, help="the params file; default params.yaml")


def compare_models(options: argparse.Namespace) -> None:
    """Say whether one model is better than another on the test split that both were evaluated on.

    Where that split is too small for a verdict, the scores of all images out of fold are compared. A and B are each a
    scores.csv, a folder that holds one, or a Git revision or DVC experiment of this repository.
    """
    from mirip.experiments.scores import compare_scores, comparison_lines, comparison_scalars, read_scores
    from mirip.files import write_json

    a, b = read_scores(options.a), read_scores(options.b)
    found = compare_scores(a, b, confidence=options.confidence, n_bootstrap=options.n_bootstrap, seed=options.seed)
    if options.json is not None:
        write_json(options.json, comparison_scalars(found))
    print(*comparison_lines(a, b, found, options.confidence), sep="\n")


def crossval(options: argparse.Namespace) -> None:
    """Cross-validate the training that params.yaml describes, on all images of the pipeline's manifest."""
    from mirip.data.manifest import read_manifest
    from mirip.features.cache.feature_cache import FeatureCache
    from mirip.files import write_json
    from mirip.models.cross_validation import cross_validate
    from mirip.params import load_params

    params = load_params(options.params or "params.yaml")
    found = cross_validate(
        read_manifest(Workspace().manifest),
        FeatureCache.open(Workspace().features(params.extract.recipe), params.recipe),
        params.train,
        params.evaluate,
        tiers=params.data.tiers,
        by=options.by,
        n_folds=options.folds,
        val_share=params.split.val / (params.split.train + params.split.val) or 0.1,
        verbose=True,
    )
    if options.output is not None:
        write_json(
            options.output, {**found.evaluation.metrics, "by": options.by, "folds": found.folds.to_dict("records")}
        )
    print(found.table())
    print(f"pairs within folds: {found.evaluation.summary()}")


def sweep(options: argparse.Namespace) -> None:
    """Run a grid of experiments with DVC, some at a time, and list them by val_pairwise_accuracy."""
    from mirip.experiments.sweep import CHOSEN_BY, sweep

    found = sweep(options.axes, options.jobs)
    print(f"{CHOSEN_BY}, best first:")
    for name, value in found:
        print(f"  {value:.4f}  {name}")


def summary(options: argparse.Namespace) -> None:
    """Print the result of the last `dvc repro` as a short table."""
    from mirip.params import load_params
    from mirip.report.summary import print_summary

    print_summary(Workspace(), load_params(options.params or "params.yaml"))
