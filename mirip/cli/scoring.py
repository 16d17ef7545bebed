"""`mirip score | rank | compare`: image files and a trained model in; scores, an order, or the better one out."""

import argparse
import csv
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mirip.cli.command import add_command, add_device_flag, params_here
from mirip.params import EvaluateParams, load_params
from mirip.progress import Progress
from mirip.workspace import Workspace

if TYPE_CHECKING:
    from mirip.models.trained_ranker import ImageProblem, ImageScore, TrainedRanker


def add_commands(commands: Any) -> None:
    """Add them to the commands of `mirip`."""
    for name, function in (("score", score), ("rank", rank)):
        command = add_command(commands, name, function)
        add_checkpoint_flags(command)
        add_device_flag(command)
        command.add_argument(
            "images", type=Path, nargs="+", metavar="IMAGE", help="an image file, or a folder for all images below it"
        )
        if function is score:
            command.add_argument(
                "--context", help="give the percentile within this context of the training split; default: within all"
            )
        form = command.add_mutually_exclusive_group()
        form.add_argument("--json", action="store_true", help="print one JSON object, the images left out with it")
        form.add_argument("--csv", action="store_true", help="print CSV with a header")

    command = add_command(commands, "compare", compare)
    add_checkpoint_flags(command)
    add_device_flag(command)
    command.add_argument("a", type=Path, metavar="IMAGE_A", help="an image file")
    command.add_argument("b", type=Path, metavar="IMAGE_B", help="the image file to compare it with")
    command.add_argument("--json", action="store_true", help="print one JSON object")


def score(options: argparse.Namespace) -> int:
    """Print the score of each image file, its percentile among the training images, and its tier or "undecided"."""
    ranker = _ranker(options)
    tiers = ranker.checkpoint.tiers
    writer = _writer(options, ["score", "percentile", "tier", *(f"p_{tier}" for tier in tiers), "flags", "path"])
    scored: list[dict[str, Any]] = []
    problems: list[dict[str, Any]] = []
    for path, found in _results(ranker, options.images, problems, context=options.context):
        chances = {f"p_{tier}": found.tiers[tier] for tier in tiers}
        row = {
            "score": found.score,
            "percentile": found.percentile,
            "tier": found.tier or "undecided",
            **chances,
            "flags": found.flags,
            "path": str(path),
        }
        if options.json:
            scored.append(_as_json(found) | {"path": str(path)})
        else:
            writer(row, f"{found.score:+.4f}  {found.percentile:3.0f} %  {row['tier']}{_noted(found.flags)}  {path}")
    if options.json:
        _print_json({"model": _model_json(ranker), "images": scored, "left_out": problems})
    return 1 if problems else 0


def rank(options: argparse.Namespace) -> int:
    """Print image files from best to worst, each with the places that it may have and what cannot be told apart."""
    ranker = _ranker(options)
    problems: list[dict[str, Any]] = []
    scored = list(_results(ranker, options.images, problems))
    found = ranker.places([result.score for _, result in scored], min_confidence=min_confidence())
    writer = _writer(options, ["place", "first", "last", "score", "path"])
    ranked: list[dict[str, Any]] = []
    for place, index in enumerate(found.order.tolist(), start=1):
        path, result = scored[index]
        first, last = int(found.first[index]), int(found.last[index])
        row = {"place": place, "first": first, "last": last, "score": result.score, "path": str(path)}
        if options.json:
            ranked.append(row | _as_json(result))
        else:
            span = f"{first}-{last}" if last > first else f"{first}"
            writer(row, f"{place:4}  {span:>7}  {result.score:+.4f}{_noted(result.flags)}  {path}")
    bands = [{"first": start + 1, "last": stop} for start, stop in found.bands]
    if options.json:
        _print_json({"model": _model_json(ranker), "images": ranked, "bands": bands, "left_out": problems})
    elif not options.csv:
        for band in bands:
            print(f"places {band['first']} to {band['last']} are too close to call", file=sys.stderr)
    return 1 if problems else 0


def compare(options: argparse.Namespace) -> int:
    """Say which of two image files is better and how sure that is, or that it is too close to call."""
    from mirip.errors import ImageError
    from mirip.models.trained_ranker import ImageProblem

    ranker, least = _ranker(options), min_confidence()
    found = list(ranker.score([options.a, options.b]))
    for path, result in zip((options.a, options.b), found, strict=True):
        if isinstance(result, ImageProblem):
            raise ImageError(f"{path} {result.problem}", result.advice, kind=result.kind)
    a, b = (result for result in found if not isinstance(result, ImageProblem))
    probability = ranker.win_probability(a.score, b.score)
    if options.json:
        better = (
            None if max(probability, 1 - probability) < least else str(options.a if probability >= 0.5 else options.b)
        )
        images = [_as_json(result) | {"path": str(path)} for path, result in ((options.a, a), (options.b, b))]
        _print_json(
            {"model": _model_json(ranker), "images": images, "p_first_is_better": probability, "better": better}
        )
        return 0
    print(f"{a.score:+.4f}  {options.a}")
    print(f"{b.score:+.4f}  {options.b}")
    print(which_is_better(options.a, options.b, probability, least))
    return 0


def which_is_better(a: Path, b: Path, probability: float, least: float) -> str:
    """Say which of two is the better one, given P(a is); below the confidence `least`, too close to call."""
    better, confidence = (a, probability) if probability >= 0.5 else (b, 1 - probability)
    said = f"{better} is the better one with probability {confidence:.2f}"
    return said if confidence >= least else f"too close to call: {said}, below {least:.2f} (evaluate.min_confidence)"


def add_checkpoint_flags(parser: argparse.ArgumentParser) -> None:
    """Add --checkpoint and --backbone."""
    parser.add_argument(
        "--checkpoint",
        type=Path,
        default=Workspace().model,
        help="file of the trained model; default models/best_model.pt",
    )
    parser.add_argument("--backbone", help="folder of its backbone, if it is not where the checkpoint says")


def _results(
    ranker: "TrainedRanker", given: Sequence[Path], problems: list[dict[str, Any]], context: str | None = None
) -> Iterator[tuple[Path, "ImageScore"]]:
    """Yield each image with its score; one that cannot be used is named on stderr and goes to `problems`."""
    from mirip.data.image_files import with_folders_opened
    from mirip.models.trained_ranker import ImageProblem

    paths = list(with_folders_opened(given))
    visible = len(paths) > 1 and not sys.stdout.isatty()  # on one terminal with the results it would tear them apart
    with Progress("score", len(paths), "image", visible=visible) as progress:
        for path, found in zip(paths, ranker.score(paths, context=context), strict=True):
            progress.update(1)
            if isinstance(found, ImageProblem):
                problems.append({"path": str(path), **_problem_json(found)})
                print(f"left out: {path} {found}", file=sys.stderr)
            else:
                yield path, found


def _writer(options: argparse.Namespace, columns: Sequence[str]) -> Any:
    """Return what prints a row: as CSV, or as the line that is given with it."""
    if not options.csv:
        return lambda row, line: print(line, flush=True)
    writer = csv.DictWriter(sys.stdout, columns, lineterminator="\n")
    writer.writeheader()
    return lambda row, line: writer.writerow({**row, **_joined_flags(row)})


def _joined_flags(row: Mapping[str, Any]) -> dict[str, str]:
    return {"flags": " ".join(row["flags"])} if "flags" in row else {}


def _noted(flags: Sequence[str]) -> str:
    return f"  ({', '.join(flag.replace('_', ' ') for flag in flags)})" if flags else ""


def _as_json(found: "ImageScore") -> dict[str, Any]:
    return {
        "score": found.score,
        "percentile": found.percentile,
        "tier": found.tier,
        "tier_probabilities": found.tiers,
        "flags": list(found.flags),
    }


def _problem_json(problem: "ImageProblem") -> dict[str, str]:
    return {"kind": problem.kind, "problem": problem.problem, "advice": problem.advice}


def _model_json(ranker: "TrainedRanker") -> dict[str, str]:
    return {"fingerprint": ranker.checkpoint.fingerprint, "split_digest": ranker.checkpoint.split_digest}


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def _ranker(options: argparse.Namespace) -> "TrainedRanker":
    from mirip.models.trained_ranker import TrainedRanker

    return TrainedRanker.from_checkpoint(options.checkpoint, device=options.device or "auto", backbone=options.backbone)


def min_confidence() -> float:
    """Return evaluate.min_confidence of the params.yaml that is here, or its default."""
    return (load_params(path).evaluate if (path := params_here()) else EvaluateParams()).min_confidence
