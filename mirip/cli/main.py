"""The command line, `mirip COMMAND`: `mirip --help` lists the commands.

Heavy imports stand inside the commands, so that --help answers at once.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mirip.cli.cache import add_cache_commands
from mirip.cli.command import add_command
from mirip.cli.exchange import add_exchange_commands
from mirip.cli.pull_request import add_pull_request_commands
from mirip.cli.tracking import add_tracking_commands
from mirip.errors import MiripError
from mirip.params import EvaluateParams, Params, load_params, override_params

MODEL = Path("models/best_model.pt")
MANIFEST = Path("data/manifest.parquet")

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # before torch is loaded, as in stages/__init__.py


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; an error that a user can mend is one line on stderr."""
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except MiripError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"error: {error.strerror or error}: {error.filename or 'no file named'}", file=sys.stderr)
        return 1
    return 0


def train(options: argparse.Namespace) -> None:
    """Train on any image folder and metadata file, into a folder of its own."""
    from mirip.cli.jobs import train_job

    train_job(_params(options), options.output, resume=options.resume)


def evaluate(options: argparse.Namespace) -> None:
    """Judge a checkpoint on another image folder and metadata file."""
    from mirip.cli.jobs import evaluate_job

    params = _params(options)
    options.device = "cpu"  # a head on cached features is no work for a GPU
    evaluate_job(params, _model(options), options.output)


def score(options: argparse.Namespace) -> None:
    """Print the score of each image file, its percentile among the works trained on, and the likeliest tier."""
    from mirip.models.percentiles import score_summary

    model = _model(options)
    for path, value in zip(options.images, model.score_images(options.images), strict=True):
        found = score_summary(model.checkpoint, value, options.context)
        print(f"{value:+.4f}  {found.percentile:3.0f} %  {found.likeliest_tier}  {path}")


def compare(options: argparse.Namespace) -> None:
    """Say which of two image files is the better one, and how sure that is; or that it is too close to call."""
    least = (load_params(path).evaluate if (path := _params_here()) else EvaluateParams()).min_confidence
    result = _model(options).compare(options.a, options.b)
    print(f"{result.score_a:+.4f}  {options.a}")
    print(f"{result.score_b:+.4f}  {options.b}")
    print(which_is_better(options.a, options.b, result.probability, least))


def which_is_better(a: Path, b: Path, probability: float, least: float) -> str:
    """Say which of two is the better one, given P(a is); below the confidence `least`, too close to call."""
    better, confidence = (a, probability) if probability >= 0.5 else (b, 1 - probability)
    said = f"{better} is the better one with probability {confidence:.2f}"
    return said if confidence >= least else f"too close to call: {said}, below {least:.2f} (evaluate.min_confidence)"


def rank(options: argparse.Namespace) -> None:
    """Print image files from best to worst."""
    scored = zip(_model(options).score_images(options.images), options.images, strict=True)
    for place, (value, path) in enumerate(sorted(scored, key=lambda item: -item[0]), start=1):
        print(f"{place:4}  {value:+.4f}  {path}")


def compare_models(options: argparse.Namespace) -> None:
    """Say whether one model is better than another on the test split that both were judged on.

    A and B are each a scores.csv, a folder that holds one, or a Git revision or DVC experiment of this repository.
    """
    from mirip.experiments.scores import compare_scores, comparison_scalars, comparison_text, read_scores
    from mirip.files import write_json

    a, b = read_scores(options.a), read_scores(options.b)
    found = compare_scores(a, b, confidence=options.confidence, n_bootstrap=options.n_bootstrap, seed=options.seed)
    if options.json is not None:
        write_json(options.json, comparison_scalars(found))
    print(comparison_text(a, b, found, options.confidence))


def crossval(options: argparse.Namespace) -> None:
    """Cross-validate the training that params.yaml describes, on all images of the pipeline's manifest."""
    from mirip.data.manifest import read_manifest
    from mirip.features.cache.feature_cache import FeatureCache
    from mirip.files import write_json
    from mirip.models.cross_validation import cross_validate

    params = load_params(options.params or "params.yaml")
    found = cross_validate(
        read_manifest(MANIFEST),
        FeatureCache.open(params.features_path, params.recipe),
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
    from mirip.report.summary import print_summary

    print_summary(load_params(options.params or "params.yaml"))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mirip", description="Rank the quality of artworks, learned from tiers.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = add_command(commands, "train", train)
    _add_data_flags(command)
    command.add_argument("--output", type=Path, required=True, help="folder for the model, metrics and all in between")
    command.add_argument("--epochs", type=int, help="max_epochs")
    command.add_argument("--batch-size", type=int, help="cross-tier pairs a step")
    command.add_argument("--learning-rate", type=float)
    command.add_argument("--seed", type=int, help="of the training")
    command.add_argument("--recipe", help="name of the feature recipe")
    command.add_argument("--backbone", help="local folder or hub id, instead of the recipe's own")
    command.add_argument("--resume", action="store_true", help="go on from the latest checkpoint in the output folder")
    command.add_argument("--experiment", help="tracking experiment")
    command.add_argument("--run-name", help="tracking run name")
    command.add_argument("--no-tracking", action="store_true", help="do not publish to MLflow")

    command = add_command(commands, "evaluate", evaluate)
    _add_checkpoint_flags(command)
    _add_data_flags(command)
    command.add_argument("--output", type=Path, help="JSON file for the metrics; default: print only")

    for name, function in (("score", score), ("rank", rank)):
        command = add_command(commands, name, function)
        _add_image_flags(command)
        command.add_argument("images", type=Path, nargs="+", metavar="IMAGE")
        if function is score:
            command.add_argument(
                "--context", help="percentile within this context of the training split; default: in all"
            )

    command = add_command(commands, "compare", compare)
    _add_image_flags(command)
    command.add_argument("a", type=Path, metavar="IMAGE_A")
    command.add_argument("b", type=Path, metavar="IMAGE_B")

    command = add_command(commands, "compare-models", compare_models)
    command.add_argument("a", metavar="A", help="scores.csv, a folder that holds one, a Git revision or an experiment")
    command.add_argument("b", metavar="B", help="likewise")
    command.add_argument("--confidence", type=float, default=0.95, help="of the intervals; default 0.95")
    command.add_argument("--n-bootstrap", type=int, default=2000, help="resamples over groups; default 2000")
    command.add_argument("--seed", type=int, default=42, help="of the resamples; default 42")
    command.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")

    command = add_command(commands, "crossval", crossval)
    command.add_argument(
        "--by",
        choices=["tier", "context", "group"],
        default="tier",
        help="what a fold holds out; default tier: "
        "whole groups, every tier's share; context: one context; group: one group, or a bundle of them",
    )
    command.add_argument("--folds", type=int, default=5, help="number of folds, by group the most; default 5")
    command.add_argument("--output", type=Path, metavar="FILE", help="also write the figures there, as JSON")
    command.add_argument("--params", type=Path, help="default: params.yaml")

    command = add_command(commands, "sweep", sweep)
    command.add_argument("axes", nargs="+", metavar="PARAM=VALUE,VALUE", help="such as train.dropout=0.1,0.3")
    command.add_argument("--jobs", type=int, default=2, help="how many run at once; default 2")

    command = add_command(commands, "summary", summary)
    command.add_argument("--params", type=Path, help="default: params.yaml")

    add_exchange_commands(add_cache_commands(commands))
    add_pull_request_commands(commands)
    add_tracking_commands(commands)
    return parser


def _add_data_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="folder that image paths are relative to")
    parser.add_argument("--metadata", type=Path, required=True, help="CSV or Parquet with image_path and tier")
    parser.add_argument("--tiers", nargs="+", help="best first; default S A B C")
    parser.add_argument("--group", nargs="*", help="columns whose rows belong together; none if not given")
    parser.add_argument("--context", nargs="*", help="columns within which a comparison is fair; none if not given")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--params", type=Path, help="values that no flag names; default: params.yaml, if it is here")


def _add_checkpoint_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", type=Path, default=MODEL, help=f"default {MODEL}")
    parser.add_argument("--backbone", help="where its backbone is, if not where the checkpoint says")


def _add_image_flags(parser: argparse.ArgumentParser) -> None:
    _add_checkpoint_flags(parser)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"])


def _model(options: argparse.Namespace) -> Any:
    from mirip.models.ranking import PairwiseRankingModel

    return PairwiseRankingModel.from_checkpoint(
        options.checkpoint, device=options.device or "auto", backbone=options.backbone
    )


def _params_here() -> Path | None:
    return path if (path := Path("params.yaml")).is_file() else None


def _params(options: argparse.Namespace) -> Params:
    """Take values from flags, then from the params file, then from the defaults.

    Groups and contexts are columns of one table: those of a params file are not carried over to another.
    """
    flags = vars(options)
    changes: dict[str, Any] = {
        "data.images": options.data,
        "data.metadata": options.metadata,
        "data.group": options.group or [],
        "data.context": options.context or [],
        "data.tiers": options.tiers,
        "train.max_epochs": flags.get("epochs"),
        "train.batch_size": flags.get("batch_size"),
        "train.learning_rate": flags.get("learning_rate"),
        "train.seed": flags.get("seed"),
        "train.device": options.device,
        "extract.device": options.device,
        "extract.recipe": flags.get("recipe"),
        "track.experiment": flags.get("experiment"),
        "track.run_name": flags.get("run_name"),
    }
    changes = {key: value for key, value in changes.items() if value is not None}
    if flags.get("batch_size") is not None:
        changes["train.images_per_step"] = None
    if flags.get("no_tracking"):
        changes["track.enabled"] = False
    params = override_params(options.params or _params_here(), changes)
    if options.command is train and (backbone := options.backbone):
        own = {"backbone": backbone, "revision": None, "weights_sha256": None}
        recipe = params.recipe.model_copy(update=own)
        params = params.model_copy(update={"recipes": {**params.recipes, params.extract.recipe: recipe}})
    return params
